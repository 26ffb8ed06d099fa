"""Faults under steady load, on real sockets: every request that is begun is counted, and none is lost by us.

Processes are killed, files broken, descriptors taken away and clocks set while clients ask without pause and check
every score. What HTTP permits is no loss: a connection that was idle when the service closed it, before a byte of the
next request was taken.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from benchmarks.load.closed_loop import ClosedLoop
from benchmarks.load.outcomes import Outcome, Report
from benchmarks.load.scoring import checked, mixed_requests
from tests.artefacts import oracle, sample_events
from tests.live import TIMEOUT_S, LiveService, live_service, wait_until
from tests.service.reload.models import Made, make, put
from tests.service.server.processes import limit_descriptors, n_descriptors, running, snapshots, wait_until_gone

pytestmark = [pytest.mark.process, pytest.mark.slow]
SUCCESSFUL = "anomaly_last_reload_successful file=model"
EVENTS = sample_events(300)
REQUESTS = mixed_requests(EVENTS, (7, 300))
LOST = (Outcome.ERROR, Outcome.WRONG, Outcome.RESET, Outcome.CUT)

Score = Callable[[NDArray[np.float32]], NDArray[Any]]


def scores_of(*models: Made) -> Mapping[str, Score]:
    """Tell by identity how each of the models scores."""

    def scaled(factor: float) -> Score:
        return lambda events: oracle(events) * factor

    [first] = oracle(EVENTS[:1])
    return {one.identity: scaled(one.score / float(first)) for one in models}


def steady(service: LiveService, *models: Made, clients: int = 4, per_connection: int | None = None) -> ClosedLoop:
    """Have clients ask in every format."""
    requests = checked(service.base_url, REQUESTS, scores_of(*models))
    return ClosedLoop(service.base_url, requests, clients=clients, pause_s=0.001, per_connection=per_connection)


def assert_none_lost(report: Report, *also: Outcome) -> None:
    """Find an answer, or a refusal before a byte was sent, for every request."""
    assert {outcome: report.outcomes[outcome] for outcome in (*LOST, *also) if report.outcomes[outcome]} == {}, report
    assert report.outcomes[Outcome.ANSWERED] > 0


@pytest.fixture
def one(tmp_path: Path) -> Made:
    """Make the model that is served."""
    return make(tmp_path / "served.onnx", 1.0)


@pytest.fixture
def other(tmp_path: Path) -> Made:
    """Make a model with other scores."""
    return make(tmp_path / "other.onnx", 4.0)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_under_load_loses_nothing(one: Made, workers: str) -> None:
    """Readiness turns 503 while scoring goes on; then work in flight completes, and no connection is reset."""
    with live_service(one.path, "--workers", workers, "--drain-s", "2") as service, steady(service, one) as load:
        load.wait_for_answers(100)
        service.signal(signal.SIGTERM)
        assert service.wait_until_health_is(503).json()["detail"] == "draining"
        load.wait_for_answers(100)
        assert service.process.wait(TIMEOUT_S) == 0
        load.wait_for(lambda report: report.outcomes[Outcome.UNSENT] > 0)
        assert service.log_levels == {"INFO"}
    assert_none_lost(load.report(), Outcome.REFUSED)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_loses_nothing(one: Made, sig: signal.Signals) -> None:
    """systemd, kill loops and terminals signal the workers too: they drain all the same, as the supervisor says."""
    with live_service(one.path, "--workers", "2", "--drain-s", "2") as service, steady(service, one) as load:
        load.wait_for_answers(100)
        workers = _workers(service)
        service.signal(sig)
        for pid in workers:
            os.kill(pid, sig)
        service.wait_until_health_is(503)
        for pid in workers:
            os.kill(pid, sig)
        load.wait_for_answers(50)
        assert len(_workers(service)) == 2
        assert service.process.wait(TIMEOUT_S) == 0
        assert service.log_levels == {"INFO"}
    assert_none_lost(load.report(), Outcome.REFUSED)


def test_sigterm_without_a_drain_loses_nothing_that_was_sent(one: Made) -> None:
    """Closing at once, the service still answers what clients on kept-alive connections have sent just before."""
    with live_service(one.path, "--workers", "2") as service, steady(service, one, clients=8) as load:
        load.wait_for_answers(200)
        service.signal(signal.SIGTERM)
        assert service.process.wait(TIMEOUT_S) == 0
    assert_none_lost(load.report(), Outcome.REFUSED)


def test_a_killed_worker_takes_only_its_own_requests_along(one: Made) -> None:
    """Of two workers one is killed: another replaces it, and each of its connections loses one request at most.

    None of the clients ends a connection by itself.
    """
    clients = 6
    with live_service(one.path, "--workers", "2") as service, steady(service, one, clients=clients) as load:
        load.wait_for_answers(200)
        victim = min(_workers(service))
        had = _connections(victim, service.address[1])
        os.kill(victim, signal.SIGKILL)
        wait_until_gone(victim)
        load.wait_for_answers(200)
        service.wait_for("worker died; another is started")
        wait_until(lambda: len(_workers(service)) == 2)
        load.wait_for_answers(200)
        report = load.report()
    died = report.outcomes[Outcome.RESET] + report.outcomes[Outcome.CUT]
    assert died <= had < clients, report
    assert report.outcomes[Outcome.WRONG] == report.outcomes[Outcome.ERROR] == report.outcomes[Outcome.UNSENT] == 0


def _connections(pid: int, port: int) -> int:
    """Count the connections to the port that a process holds."""
    held = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]
    return sum(f"socket:[{row[9]}]" in held for row in established)


def _workers(service: LiveService) -> set[int]:
    """Find the processes that serve: the children without the one that watches over shared memory."""
    return running(service.process.pid, b"spawn_main")


@pytest.mark.parametrize(("workers", "told"), [("1", "by-signal"), ("2", "by-signal"), ("2", "by-the-file")])
def test_models_are_swapped_under_load(one: Made, other: Made, tmp_path: Path, workers: str, told: str) -> None:
    """Back and forth, told or by itself: no request fails, and each answer has the scores of the version it names."""
    served = tmp_path / "model.onnx"
    put(one, served)
    watch = ["--watch-s", "1"] if told == "by-the-file" else []
    with (
        live_service(served, "--workers", workers, *watch) as service,
        steady(service, one, other, per_connection=50) as load,
    ):
        for count, model in enumerate((other, one, other), 1):
            before = load.report().versions.get(model.identity)
            put(model, served)
            if told == "by-signal":
                service.signal(signal.SIGHUP)
            service.wait_for("model loaded", count)
            answers = before.answers if before else 0
            load.wait_for(partial(_answered_more, model.identity, answers + 50))
        assert service.metrics()[SUCCESSFUL] == 1
    report = load.report()
    assert_none_lost(report, Outcome.REFUSED, Outcome.UNSENT)
    assert report.versions.keys() == {one.identity, other.identity}


def _answered_more(identity: str, count: int, report: Report) -> bool:
    return _answers(report, identity) > count


def _answers(report: Report, identity: str) -> int:
    seen = report.versions.get(identity)
    return seen.answers if seen else 0


def broken_models(good: Made, max_bytes: int) -> list[tuple[str, bytes | Callable[[Path], None], str]]:
    """Return a name for each broken model, its bytes or what puts it at a path, and what must be said of it."""
    data = good.path.read_bytes()
    corrupt = bytearray(data)
    corrupt[data.index(np.array([0.25], "<f4").tobytes()) + 3] ^= 0x7F  # a weight changes by much
    of_another_shape = onnx.load_from_string(data)
    of_another_shape.graph.input[0].type.tensor_type.shape.dim[1].dim_value += 1
    return [
        ("corrupt", bytes(corrupt), "does not reproduce golden pair"),
        ("truncated", data[: len(data) // 2], "not a usable artefact"),
        ("half of zeros", data[: len(data) // 2].ljust(len(data), b"\0"), "not a usable artefact"),
        ("empty", b"", "not a usable artefact"),
        ("of another shape", of_another_shape.SerializeToString(), "not a usable artefact"),
        ("too large", bytes(max_bytes + 1), f"it has {max_bytes + 1:,} bytes, expected at most {max_bytes:,}"),
        ("a directory, which root cannot read either", Path.mkdir, "Is a directory"),
        ("a pipe without a writer", os.mkfifo, "not a regular file"),
        ("missing", lambda _: None, "No such file"),
    ]


def test_a_broken_model_is_refused_under_load(
    one: Made, other: Made, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """The old one stays, the log and a metric say so, and no copy is kept; the next good one is taken."""
    served, max_bytes = tmp_path / "model.onnx", one.path.stat().st_size + 1000
    put(one, served)
    with (
        live_service(served, "--workers", "2", "--max-model-bytes", str(max_bytes)) as service,
        steady(service, one, other) as load,
    ):
        for count, (name, broken, reason) in enumerate(broken_models(other, max_bytes), start=1):
            with subtests.test(msg=name):
                remove(served)
                served.write_bytes(broken) if isinstance(broken, bytes) else broken(served)
                service.signal(signal.SIGHUP)
                refusal = service.wait_for("model refused", count)
                assert (refusal["level"], str(served) in refusal["detail"]) == ("ERROR", True)
                assert reason in refusal["detail"]
        wait_until(lambda: service.metrics()[SUCCESSFUL] == 0)
        load.wait_for_answers(100)
        assert load.report().versions.keys() == {one.identity}
        put(other, served)
        service.signal(signal.SIGHUP)
        load.wait_for(lambda report: _answers(report, other.identity) > 0)
        service.wait_for("model loaded")
        assert service.metrics()[SUCCESSFUL] == 1
        wait_until(lambda: len(snapshots(service)) == 1)
        assert "Traceback" not in service.log_text
    assert_none_lost(load.report(), Outcome.REFUSED, Outcome.UNSENT)


def remove(path: Path) -> None:
    """Remove what is at a path."""
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_descriptors_run_out_and_come_back(one: Made, workers: str) -> None:
    """Without descriptors new clients wait, those that are connected are served on, and then the new ones are."""
    with (
        live_service(one.path, "--workers", workers) as service,
        steady(service, one) as load,
        ExitStack() as clients,
    ):
        load.wait_for_answers(50)
        pids = _workers(service) or {service.process.pid}
        for pid in pids:
            limit_descriptors(pid, n_descriptors(pid) + 30)
        for _ in range(150):
            clients.enter_context(service.connect())
        service.wait_for("file descriptors ran out")
        load.wait_for_answers(200)
        clients.pop_all().close()
        with service.connect() as late:
            late.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            assert late.recv(100).startswith(b"HTTP/1.1 200")
        load.wait_for_answers(100)
    assert_none_lost(load.report(), Outcome.REFUSED, Outcome.UNSENT)


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_SHIFT"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (status == 0 && clock == CLOCK_REALTIME) now->tv_sec += shift();
    return status;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""
"""A clock that is set by a file: the wall clock of one process jumps, and the machine's stays."""


@pytest.fixture
def clock(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Build the clock; return the file that sets it, and the environment in which it is read."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the clock with")
    source, library, shift = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "shift"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", source, "-o", library, "-ldl"], check=True)
    shift.write_text("0")
    return shift, {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)}


def test_clock_jumps_are_not_noticed(one: Made, clock: tuple[Path, dict[str, str]]) -> None:
    """The wall clock jumps by days, back and forth: every request is answered, and the responses' dates follow."""
    shift, environment = clock
    day_s = 86_400
    with live_service(one.path, "--workers", "2", env=environment) as service, steady(service, one) as load:
        for days in (3, -3, 0):
            shift.with_suffix(".new").write_text(str(days * day_s))
            shift.with_suffix(".new").rename(shift)
            expected = time.time() + days * day_s
            wait_until(partial(_date_is, service, expected))
            load.wait_for_answers(100)
        assert service.stop() == 0
        assert service.log_levels == {"INFO"}
    assert_none_lost(load.report(), Outcome.REFUSED)


def _date_is(service: LiveService, expected_s: float) -> bool:
    """Return whether a response has about this time."""
    date = service.get("/health").headers["date"]
    return abs(parsedate_to_datetime(date).timestamp() - expected_s) < 2 * TIMEOUT_S

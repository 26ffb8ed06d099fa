"""A live service: its processes, signals, sockets and log."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from benchmarks.load.formats import JSON
from tests.artefacts import metadata, with_metadata, write_artefact
from tests.live import TIMEOUT_S, LiveService, live_service, samples, starting_service, wait_until
from tests.service.server.exchange import (
    LONG_TIMEOUTS,
    Connection,
    begin,
    check_refusal,
    check_score,
    event_request,
    score,
)
from tests.service.server.processes import (
    children,
    limit_descriptors,
    running,
    wait_until_gone,
    wait_until_importing,
)

pytestmark = pytest.mark.process
STARTED = "Application startup complete."
CANNOT_START = "worker cannot start; the others continue"


def last_line(stderr: str) -> dict[str, str]:
    """Read the only line of a log, which is JSON."""
    [line] = stderr.splitlines()
    parsed: dict[str, str] = json.loads(line)
    return parsed


def refusals(*commands: Sequence[str]) -> list[dict[str, str]]:
    """Run commands that end with 1 and a line of the log each, in one process, for the imports take the most of it."""
    script = "import json, sys; from service.__main__ import main; print([main(json.loads(a)) for a in sys.argv[1:]])"
    arguments = [json.dumps(["serve", "--workers", "2", *command]) for command in commands]
    ended = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert ended.stdout == f"{[1] * len(commands)}\n"
    return [json.loads(line) for line in ended.stderr.splitlines()]


def wait_until_counted(service: LiveService, n_events: int) -> dict[str, float]:
    """Wait until all workers together count so many events, as they publish ten times a second; return the metrics."""
    wait_until(lambda: service.metrics()["anomaly_events_scored_total"] == n_events)
    return service.metrics()


def test_the_log_is_json_without_bodies(model_path: Path) -> None:
    """Every line is JSON with a UTC time, a level and an event; the ready one has the address and the model.

    Neither the access log nor an error repeats what a client sent.
    """
    with live_service(model_path, "--access-log", "--log-level", "debug") as service:
        [ready] = service.events("ready")
        assert ready["url"] == service.base_url
        assert ready["model"] == service.get("/model").json()["identity"]
        assert (ready["workers"], ready["pid"]) == (1, service.process.pid)
        for body in (b'{"features": [-3.1337e37, "-3.1337e37"]}', b'{"features": [3e38,-3.1337e37,1,1,1]}'):
            service.post("/score", body, JSON.media_type)
        assert service.stop() == 0
        for line in service.log_lines:
            assert {"timestamp", "level", "logger", "event", "pid"} <= set(line)
            assert line["timestamp"].endswith("+00:00")
        assert service.log_lines[-1]["event"] == "stopped"
        assert [line["path"] for line in service.events("request")] == ["/model", "/score", "/score"]
        assert not re.search(r"3\.1337\d*e", service.log_text)


def test_a_request_in_flight_is_answered_before_the_end(model_path: Path) -> None:
    """A request whose body is still arriving at the signal gets its scores, and the status is 0."""
    with live_service(model_path, *LONG_TIMEOUTS) as service, Connection(service) as connection:
        rest = begin(connection, 2)
        service.signal(signal.SIGTERM)
        service.wait_for("Shutting down")
        connection.send(rest)
        response = connection.response()
        assert (response.status, len(response.body)) == (200, 2 * 4)
        assert connection.ended()
        assert service.process.wait(TIMEOUT_S) == 0
        assert service.log_levels == {"INFO"}


def test_a_request_that_never_ends_does_not_keep_the_service(model_path: Path) -> None:
    """After --shutdown-s the service leaves without the client that is still sending, and both are told in words."""
    with live_service(model_path, "--shutdown-s", "1") as service, Connection(service) as connection:
        begin(connection, 2)
        assert service.stop() == 0
        check_refusal(connection.response(), 503, "the service stopped before it scored the request; send it again")
        [line] = [line for line in service.log_lines if line["level"] != "INFO"]
        assert line["event"] == "Cancel 1 running task(s), timeout graceful shutdown exceeded"
        assert "exc_info" not in service.log_text


@pytest.mark.slow
@pytest.mark.parametrize(("sig", "workers"), [(signal.SIGTERM, 2), (signal.SIGINT, 1)])
def test_a_signal_during_the_start_ends_the_service_cleanly(
    model_path: Path, workers: int, sig: signal.Signals
) -> None:
    """A signal while modules are imported is neither a death by signal nor a traceback."""
    with starting_service(model_path, "--workers", str(workers)) as service:
        wait_until_importing(lambda: {service.process.pid}, 1)
        service.signal(sig)
        assert service.process.wait(TIMEOUT_S) == 0
        assert service.log_lines[-1]["event"] == "stopped"
        assert service.log_levels == {"INFO"}
        assert not service.events("ready")


@pytest.mark.slow
def test_ctrl_c_while_workers_start_is_for_the_supervisor(model_path: Path) -> None:
    """A terminal sends SIGINT to every process: workers in the middle of their imports leave it to the supervisor."""
    with starting_service(model_path, "--workers", "2") as service:
        wait_until_importing(lambda: children(service.process.pid), 2)
        for pid in children(service.process.pid):
            os.kill(pid, signal.SIGINT)
        service.wait_for("ready")
        assert service.stop() == 0
        assert service.log_levels == {"INFO"}


def test_what_cannot_be_used_is_one_line(model_path: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    """A file that is missing or wrong, and an address that cannot be had, end the process with 1 and a line."""
    wrong, missing, pipe = tmp_path / "wrong", tmp_path / "missing", tmp_path / "pipe"
    wrong.write_text("nonsense\n")
    os.mkfifo(pipe)
    golden = metadata().golden
    golden.anomaly_scores[0] += 1
    wrong_scores = write_artefact(tmp_path / "wrong.onnx", with_metadata(golden=golden))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases = (
            (("--model", str(tmp_path / "missing.onnx")), "cannot use the model", "No such file"),
            (("--model", __file__), "cannot use the model", "no ONNX model"),
            (("--model", str(tmp_path)), "cannot use the model", str(tmp_path)),
            (("--model", str(pipe)), "cannot use the model", str(pipe)),
            (("--model", str(wrong_scores)), "cannot use the model", "does not reproduce golden pair 0"),
            (("--model", "/dev/zero"), "cannot use the model", "/dev/zero"),
            (("--max-model-bytes", "10"), "cannot use the model", "10"),
            (("--model-sha256", "0" * 64), "cannot use the model", "0" * 64),
            (("--api-keys", str(missing)), "cannot use the keys", str(missing)),
            (("--api-keys", str(wrong)), "cannot use the keys", "line 1"),
            (("--tls-certificate", str(wrong), "--tls-key", str(wrong)), "cannot use the certificate", str(wrong)),
            (("--port", port), "cannot listen", rf"^127\.0\.0\.1:{port}: [\w ]* in use; choose another"),
            (("--port", port, "--host", "192.0.2.1"), "cannot listen", rf"^192\.0\.2\.1:{port}: .*Cannot assign"),
            (("--port", port, "--host", "a b"), "cannot listen", f"^a b:{port}: "),
            (("--ops-port", port), "cannot listen", rf"^127\.0\.0\.1:{port}: .*--ops-port"),
        )
        found = refusals(*(("--model", str(model_path), "--port", "0", *flags) for flags, _, _ in cases))
    for (flags, event, reason), line in zip(cases, found, strict=True):
        with subtests.test(msg=" ".join(flags)):
            assert line["event"] == event
            assert re.search(reason, line["detail"]), line["detail"]


@pytest.mark.slow
def test_all_workers_answer_and_nothing_is_written(model_path: Path, tmp_path: Path) -> None:
    """Several share the port, and files of temporary directories, which cleaners remove, have no part in it.

    That there are several is said by a variable, which does what its flag does. A directory for metrics that another
    program named is not used.
    """
    inherited = {"TMPDIR": str(tmp_path), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "missing")}
    with live_service(model_path, "--access-log", env={**inherited, "ANOMALY_WORKERS": "2"}) as service:
        assert service.events("ready")[0]["workers"] == 2
        with ExitStack() as stack:  # each connection goes to the worker that has the fewest
            for connection in [stack.enter_context(Connection(service)) for _ in range(16)]:
                connection.send(event_request())
                check_score(connection.response())
            wait_until(lambda: len(service.events("request")) == 16)
        counted = Counter(line["pid"] for line in service.events("request"))
        assert (list(counted.values()), service.process.pid in counted) == ([8, 8], False)
        wait_until_counted(service, 16)
        assert not list(tmp_path.iterdir())
        tmp_path.rmdir()
        os.kill(service.events(STARTED)[0]["pid"], signal.SIGKILL)
        service.wait_for(STARTED, 3)
        wait_until_counted(service, 16)
        assert len([name for name in service.metrics() if name.startswith("anomaly_worker_requests pid=")]) == 2
        assert service.stop() == 0


def test_connections_of_the_start_are_shared(model_path: Path, tmp_path: Path) -> None:
    """Clients that connect while a worker still starts are handed to all, not to those that are ready already."""
    path = tmp_path / "socket"
    with starting_service(model_path, "--uds", str(path), "--workers", "2", "--access-log") as service:
        wait_until_importing(lambda: running(service.process.pid, b"spawn_main"), 2)
        late = max(running(service.process.pid, b"spawn_main"))
        os.kill(late, signal.SIGSTOP)
        service.wait_for(STARTED)
        with ExitStack() as stack:
            clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(8)]
            for client in clients:
                client.settimeout(TIMEOUT_S)
                client.connect(str(path))
                client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            os.kill(late, signal.SIGCONT)
            assert {client.recv(15) for client in clients} == {b"HTTP/1.1 200 OK"}
            service.wait_for("request", 8)
        assert list(Counter(line["pid"] for line in service.events("request")).values()) == [4, 4]


def test_metrics_directories_of_others_are_not_used(model_path: Path, tmp_path: Path) -> None:
    """A variable of prometheus_client that the service inherits changes nothing."""
    (tmp_path / "counter_1.db").write_bytes(b"of a process that has ended")
    with live_service(model_path, env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}) as service:
        assert score(service).status_code == 200
        assert service.metrics()["anomaly_events_scored_total"] == 1
        assert len(list(tmp_path.iterdir())) == 1


def test_an_address_of_version_6_is_written_as_a_url(model_path: Path) -> None:
    """The service listens on IPv6, its URL can be used as it stands in the log, and SIGINT ends it."""
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with live_service(model_path, "--host", "::1") as service:
        assert service.base_url.startswith("http://[::1]:")
        assert score(service).status_code == 200
        service.signal(signal.SIGINT)
        assert service.process.wait(TIMEOUT_S) == 0


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """Workers count together, and what one counted stays counted when it is killed.

    Its successor serves the model that the others do, whatever lies there now.
    """
    path = write_artefact(tmp_path / "model.onnx")
    another = write_artefact(tmp_path / "another.onnx", with_metadata(model_name="another")).read_bytes()
    with live_service(path, "--workers", "2") as service:
        for _ in range(20):
            assert score(service).status_code == 200
        counted = wait_until_counted(service, 20)
        assert counted["anomaly_requests_total route=/score status=200"] == 20
        assert [counted[name] for name in counted if name.startswith("anomaly_model_info")] == [1]
        service.wait_for(STARTED, 2)
        victims = [line["pid"] for line in service.events(STARTED)]
        by_worker = {pid: counted[f"anomaly_worker_requests pid={pid}"] for pid in victims}
        assert sum(by_worker.values()) >= 20  # and those to /metrics
        for count, (victim, content) in enumerate(zip(victims, (b"", another), strict=True), start=1):
            path.write_bytes(content)
            os.kill(victim, signal.SIGKILL)
            died = service.wait_for("worker died; another is started", count)
            assert (died["worker"], died["exit_code"]) == (victim, -signal.SIGKILL)
            service.wait_for(STARTED, 2 + count)
        assert {score(service).headers["model-version"] for _ in range(20)} == {service.events("ready")[0]["model"]}
        counted = wait_until_counted(service, 40)
        assert not [pid for pid in victims if f"anomaly_worker_requests pid={pid}" in counted]
        assert service.stop() == 0


@pytest.mark.slow
def test_the_others_serve_on_where_a_worker_cannot_start(model_path: Path) -> None:
    """A successor that dies at its start, or cannot be made, is tried again after a pause, then after a longer one."""
    with live_service(model_path, "--workers", "2") as service:
        supervisor = service.process.pid
        first = children(supervisor)
        victim = service.wait_for(STARTED, 2)["pid"]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: bool(children(supervisor) - first))
        [unborn] = children(supervisor) - first
        allowed = limit_descriptors(supervisor, 10)
        os.kill(unborn, signal.SIGKILL)
        died = service.wait_for(CANNOT_START)
        assert (died["level"], died["worker"], died["exit_code"]) == ("ERROR", unborn, -signal.SIGKILL)
        refused = service.wait_for(CANNOT_START, 2)
        assert "raise the limits" in refused["detail"]
        assert refused["again_s"] > died["again_s"]
        limit_descriptors(supervisor, allowed)
        service.wait_for(STARTED, 3)
        assert len(children(supervisor) - {victim, unborn}) == len(first)
        assert score(service).status_code == 200
        assert service.stop() == 0
        assert "Traceback" not in service.log_text


@pytest.mark.slow
def test_without_workers_the_service_ends(model_path: Path) -> None:
    """Where no worker can be started, the service ends with the last one."""
    with live_service(model_path, "--workers", "2") as service:
        service.wait_for(STARTED, 2)
        first, last = (line["pid"] for line in service.events(STARTED))
        limit_descriptors(service.process.pid, 10)
        os.kill(first, signal.SIGKILL)
        service.wait_for(CANNOT_START)
        os.kill(last, signal.SIGKILL)
        assert service.process.wait(TIMEOUT_S) == 1
        assert service.events("worker cannot start; all stop")


@pytest.mark.slow
def test_workers_do_not_outlive_the_supervisor(model_path: Path) -> None:
    """When the supervisor is killed, the workers stop, and the port is free."""
    with live_service(model_path, "--workers", "2") as service:
        workers = {line["pid"] for line in service.events(STARTED)}
        assert len(workers) == 2
        service.signal(signal.SIGKILL)
        service.process.wait(TIMEOUT_S)
        for pid in workers:
            wait_until_gone(pid)
        with pytest.raises(httpx.ConnectError):
            score(service)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_log_that_nothing_reads_stops_nothing(model_path: Path, workers: str) -> None:
    """Lines of a full pipe are dropped, counted and reported once it is read again; the service ends at SIGTERM."""
    command = [sys.executable, "-m", "service", "--model", str(model_path), "--port", "0", "--access-log"]
    environment = {**os.environ, "ANOMALY_WORKERS": workers}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stderr is not None
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        while (line := json.loads(process.stderr.readline())).get("event") != "ready":
            pass
        n_requests, path = 0, "/" + "a" * 190
        with httpx.Client(base_url=line["url"], timeout=TIMEOUT_S) as client:

            def dropped() -> float:
                return samples(client.get("/metrics").text)["anomaly_log_lines_dropped_total"]

            try:
                while not dropped():
                    for _ in range(100):
                        assert client.get(path).status_code == 404
                    n_requests += 100
                while (line := json.loads(process.stderr.readline()))["event"] != "log lines were dropped":
                    assert line["event"] == "request"
                assert line["lines"] > 0
                for _ in range(n_requests):
                    client.get(path)
                process.terminate()
                assert process.wait(TIMEOUT_S) == 0
            finally:
                process.kill()


def test_warnings_are_lines_of_the_log() -> None:
    """A warning of any library, which Python prints as plain text, is JSON on stderr like all else."""
    script = (
        "import warnings; from service.logs import configure_logging; configure_logging('info'); warnings.warn('old')"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    line = last_line(ended.stderr)
    assert (line["level"], line["logger"]) == ("WARNING", "py.warnings")
    assert "UserWarning: old" in line["event"]

"""The soak finds what it is to find, and takes what is in order for what it is."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.client import Reply
from benchmarks.course import Findings, recalibrated
from benchmarks.disorder import Disorder, Limits, judge_refusal, wrong_requests
from benchmarks.exchange import Connection
from benchmarks.figures import plot_soak
from benchmarks.machine import Machine
from benchmarks.results import Counts, Event, Soak
from benchmarks.soak import by_kill, judge, thinned
from benchmarks.tables import soak_text
from benchmarks.tally import Failure, Outcome, Second, Tally, merged
from benchmarks.vitals import SHORTEST_S, Growth, Vital, Watch, growths, look, sockets, started
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.artefacts import N_FEATURES, oracle, sample_events, write_artefact
from tests.live import LiveService, live_service

LIMITS = Limits(10_000, 2_000, 1_000, header_s=1, stall_s=1)
WRONG = [wrong.name for wrong in wrong_requests("http://x:1", N_FEATURES, LIMITS)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """Serve a small model with small limits."""
    model = write_artefact(tmp_path_factory.mktemp("model") / "model.onnx")
    sizes = ["--max-body-bytes", "10000", "--max-header-bytes", "2000", "--max-url-bytes", "1000"]
    with live_service(model, *sizes, "--header-s", "1", "--stall-s", "1") as running:
        yield running


@pytest.mark.parametrize("name", WRONG)
def test_every_wrong_request_is_wrong(service: LiveService, name: str) -> None:
    """A real service refuses each for its own reason, or the soak would ask what nobody minds."""
    [wrong] = [one for one in wrong_requests(service.base_url, N_FEATURES, LIMITS) if one.name == name]
    with Connection(service.base_url, None, 10) as connection:
        assert judge_refusal(connection.ask(wrong.request), wrong.statuses) == (Outcome.ANSWERED, "")


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(400, b"HTTP/1.1 400 \r\n\r\n", b'{"status_code":400,"detail":"why"}'), Outcome.ANSWERED),
        (Reply(400, b"HTTP/1.1 400 \r\n\r\n", b'{"status_code":400,"detail":""}'), Outcome.ERROR),
        (Reply(400, b"HTTP/1.1 400 \r\n\r\n", b"[]"), Outcome.ERROR),
        (Reply(400, b"HTTP/1.1 400 \r\n\r\n", b"why"), Outcome.ERROR),
        (Reply(404, b"HTTP/1.1 404 \r\n\r\n", b'{"status_code":404,"detail":"why"}'), Outcome.ERROR),
        (Reply(503, b"HTTP/1.1 503 \r\nRetry-After: 1\r\n\r\n", b""), Outcome.REFUSED),
        (Reply(503, b"HTTP/1.1 503 \r\n\r\n", b""), Outcome.ERROR),
    ],
)
def test_a_refusal_says_what_and_why(reply: Reply, outcome: Outcome) -> None:
    """Another status, another shape or no reason is an error; overload is neither right nor wrong."""
    assert judge_refusal(reply, (400,))[0] is outcome


def test_disorder_is_borne(service: LiveService) -> None:
    """Clients that do wrong, leave and stall get what they should, and the service answers on."""
    with Disorder(service.base_url, N_FEATURES, LIMITS, pause_s=0) as disorder:
        seen: set[str] = set()
        while not ({"a head that drips", "a body that stops"} <= seen and len(disorder.left) >= 5):
            seen |= disorder.ended()
    report = disorder.report()
    assert not report.failures, str(report)
    assert report.begun == sum(report.outcomes.values())
    with Connection(service.base_url, None, 10) as connection:
        assert connection.ask(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").status == 200


def test_only_what_was_lost_at_a_kill_is_put_down_to_it() -> None:
    """A wrong score is never, and a lost request only if the worker died meanwhile."""
    lost = Failure("q", Outcome.RESET, "", 10.0, 12.0)
    assert by_kill(lost, [11.0])
    assert by_kill(lost, [3.0, 12.5])
    assert not by_kill(lost, [3.0, 20.0])
    assert not by_kill(Failure("q", Outcome.WRONG, "", 10.0, 12.0), [11.0])


def test_each_kind_of_fault_is_one() -> None:
    """A lost request, more lost at a kill than the worker had, bursts that are none, and memory that grows."""
    fine, lossy = Tally(), Tally()
    fine.end("q", fine.begin(), Outcome.REFUSED, "", 503, None)
    for _ in range(3):
        lossy.end("q", lossy.begin(), Outcome.RESET, "gone", None, None)
    assert judge(Findings(reports={"small": fine.report()}, bursts=[fine.report()])) == []
    assert judge(Findings(faults=["one"])) == ["one"]
    assert len(judge(Findings(reports={"small": lossy.report()}))) == 3
    kill = [Event(0.0, "kill")]
    assert judge(Findings(reports={"small": lossy.report()}, events=kill, cut_at_most=3)) == []
    [fault] = judge(Findings(reports={"small": lossy.report()}, events=kill, cut_at_most=2))
    assert "3 requests were lost at kills of workers that had 2 sockets" in fault
    assert len(judge(Findings(bursts=[lossy.report()], events=kill))) == 4
    [fault] = judge(Findings(vitals={"leak": lived([100.0 + place for place in range(100)])}))
    assert "the memory grows" in fault


def lived(memory: list[float]) -> list[Vital]:
    """Make a life of such memory, for long enough to be judged."""
    step = (SHORTEST_S + 10) / (len(memory) - 1)
    return [Vital(step * place, mb, 10, 3) for place, mb in enumerate(memory)]


def test_memory_that_grows_is_told_from_memory_that_stays() -> None:
    """Warming up is no growth, nor is a peak; a short life is not judged."""
    flat = lived([10.0 * place for place in range(25)] + [250.0] * 74 + [900.0])
    leak = lived([100.0 + place for place in range(100)])
    found = growths({"flat": flat, "leak": leak, "short": leak[:50]})
    assert [(growth.process, growth.flat) for growth in found] == [("flat", True), ("leak", False)]


def test_a_process_is_watched_while_it_lives() -> None:
    """Its memory, descriptors, threads and sockets are seen, and its end is no error."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with Watch(lambda: {"it": process.pid}) as watch:
            while not watch.seen:
                time.sleep(0.02)
        assert look(process.pid, 0).descriptors >= 3
        assert sockets(process.pid) == 0
        assert started(process.pid) >= started(os.getpid())
        process.kill()
        process.wait()
    assert 1 < watch.seen["it"][0].resident_mb < 100
    with pytest.raises(OSError, match=str(process.pid)):
        look(process.pid, 0)


def test_a_recalibrated_model_is_another_with_the_same_scores(tmp_path: Path) -> None:
    """That is what a reload is known by."""
    artefact = load_artefact(write_artefact(tmp_path / "model.onnx"))
    other = recalibrated(artefact)
    events = sample_events(3)
    assert other.identity != artefact.identity
    assert Scorer(other).score(events) == pytest.approx(oracle(events), rel=1e-5)


def test_reports_add_up() -> None:
    """Counts are sums, and every failure stays."""
    tally = Tally()
    tally.end("q", tally.begin(), Outcome.ANSWERED, "", 200, "m")
    tally.end("q", tally.begin(), Outcome.ERROR, "500", 500, None)
    both = merged([tally.report(), tally.report()])
    assert (both.begun, both.statuses, len(both.failures)) == (4, {200: 2, 500: 2}, 2)
    assert both.outcomes[Outcome.ANSWERED] == both.outcomes[Outcome.ERROR] == 2


def test_few_samples_are_all_kept() -> None:
    """Many are thinned out evenly."""
    assert thinned(list(range(300))) == list(range(300))
    assert thinned(list(range(1000)))[:3] == [0, 4, 8]


def test_the_report_is_written_read_and_drawn(tmp_path: Path) -> None:
    """The figure is a PNG, and the text has what was counted."""
    soak = Soak(
        models=["density@0"],
        commit="0" * 40,
        command="python -m benchmarks.soak --minutes 1",
        started="2030-01-01T00:00:00+00:00",
        machine=Machine(processor="a processor", cores=2, memory_gb=16.0, system="a system"),
        versions={},
        load="all",
        minutes=1.0,
        requests={"small": Counts(12, {"answered": 10, "reset": 2}, {"200": 10})},
        left={"within the head": 4},
        log={"worker died": 1},
        cut_by_kills=2,
        failures=0,
        faults=[],
        events=[Event(10.0, "reload"), Event(20.0, "kill"), Event(25.0, "refused file"), Event(30.0, "burst")],
        growths=[Growth("parent", 60.0, 100.0, 101.0, 18.0, 18.0)],
        vitals={name: lived([100.0, 101.0]) for name in ("parent", "worker 5", "worker 6")},
        seconds=[Second(0, {"answered": 5, "refused": 1}, 1.0, 2.0), Second(1, {}, 0.0, 0.0)],
    )
    results.write(tmp_path / "soak.json", soak)
    assert results.read(tmp_path / "soak.json", Soak) == soak
    plot_soak(soak, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
    text = soak_text(soak)
    assert "| small | 12 | 10 | 2 |" in text
    assert "| parent | 1.0 | 100 | 101 | 18 | 18 |" in text
    assert "**0 requests lost or answered wrongly**, but for 2 in flight in a worker that was killed" in text

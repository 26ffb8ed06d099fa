"""The closed-loop load counts every request once, and names what was lost."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.load.background import Background, Exchange
from benchmarks.load.closed_loop import ClosedLoop
from benchmarks.load.connection import Request
from benchmarks.load.formats import JSON, RAW
from benchmarks.load.outcomes import Outcome, Record, Report, merged
from benchmarks.load.scoring import Score, ScoringRequest, WrongAnswerError, checked, mixed_requests
from benchmarks.targets.launcher import Server
from tests.artefacts import constants, oracle, sample_events
from tests.benchmarks.conftest import BODY
from tests.benchmarks.server import serving_once
from tests.live import LiveService, live_service

pytestmark = pytest.mark.process

REQUESTS = mixed_requests(sample_events(30), (1, 7, 30))
LARGE = sample_events(60_000)
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 2\r\n\r\nno"


@pytest.fixture
def steady(service: LiveService, identity: str) -> Callable[..., ClosedLoop]:
    """Make clients that send REQUESTS to the service, whose scores are checked."""

    def make(scores: Score = oracle, **options: Any) -> ClosedLoop:
        return ClosedLoop(service.base_url, checked(service.base_url, REQUESTS, {identity: scores}), **options)

    return make


def sums_up(loop: ClosedLoop) -> bool:
    """Tell whether everything begun has an outcome, second by second too."""
    by_second = sum(sum(second.outcomes.values()) for second in loop.record.seconds())
    return loop.report().begun == sum(loop.report().outcomes.values()) == by_second


def test_every_request_is_answered_and_checked(steady: Callable[..., ClosedLoop], identity: str) -> None:
    """All formats and sizes, on connections that last, and nothing else happens."""
    with steady() as loop:
        loop.wait_for_answers(4 * len(REQUESTS))
    report = loop.report()
    assert not report.failures, str(report)
    assert report.begun == report.outcomes[Outcome.ANSWERED] == report.versions[identity].answers
    assert sums_up(loop)
    assert all(0 < second.p50_ms <= second.p99_ms for second in loop.record.seconds())


def test_one_score_that_is_not_the_models_is_a_failure(steady: Callable[..., ClosedLoop]) -> None:
    """An error in the last event of a batch is found, and no other request fails."""

    def mistaken(events: NDArray[np.float32]) -> NDArray[np.float64]:
        scores = oracle(events)
        scores[29:] *= 1.001
        return scores

    with steady(mistaken, clients=1) as loop:
        report = loop.wait_for(lambda report: report.outcomes[Outcome.WRONG] >= 5)
    assert {failure.request for failure in report.failures} == {one.name for one in REQUESTS if len(one.events) == 30}
    assert "score 29 is" in report.failures[0].detail
    assert report.outcomes[Outcome.ANSWERED] > 0


def test_a_model_that_is_not_expected_is_a_failure_until_it_is(service: LiveService, identity: str) -> None:
    """The models may change while the load runs."""
    scores: dict[str, Score] = {}
    with ClosedLoop(service.base_url, checked(service.base_url, REQUESTS, scores)) as loop:
        report = loop.wait_for(lambda report: report.outcomes[Outcome.WRONG] > 0)
        assert f"Model-Version is {identity}, expected one of" in report.failures[0].detail
        scores[identity] = oracle
        loop.wait_for_answers(10)


def test_a_request_that_the_service_refuses_as_wrong_is_a_failure(service: LiveService) -> None:
    """A 4xx to a right request is an error."""
    [too_wide] = checked(service.base_url, [ScoringRequest.of(JSON, np.zeros((2, 9), np.float32))], {})
    with ClosedLoop(service.base_url, [too_wide], clients=1) as loop:
        report = loop.wait_for(lambda report: report.outcomes[Outcome.ERROR] > 0)
    assert '400: b\'{"status_code":400' in report.failures[0].detail


def test_connections_are_opened_anew_when_told(steady: Callable[..., ClosedLoop]) -> None:
    """A client that closes its connection after each response loses none."""
    with steady(per_connection=1) as loop:
        loop.wait_for_answers(100)
    assert not loop.report().failures
    assert loop.report().outcomes[Outcome.CLOSED_IDLE] == 0


@pytest.mark.slow
def test_requests_of_a_killed_service_are_lost_or_unsent(model: Path, identity: str) -> None:
    """What it had taken is lost, and what was not taken any more counts apart."""
    with live_service(model) as killed:
        requests = checked(killed.base_url, REQUESTS, {identity: oracle})
        with ClosedLoop(killed.base_url, requests, clients=8) as loop:
            loop.wait_for_answers(100)
            killed.signal(signal.SIGKILL)
            killed.process.wait()
            loop.wait_for(lambda report: report.outcomes[Outcome.UNSENT] >= 8)
    report = loop.report()
    lost = report.outcomes[Outcome.RESET] + report.outcomes[Outcome.CUT]
    assert 1 <= lost == len(report.failures), str(report)
    assert all(failure.detail for failure in report.failures)
    assert sums_up(loop)


def test_an_error_of_the_check_ends_the_load(steady: Callable[..., ClosedLoop]) -> None:
    """It is raised at the end, and is no outcome."""

    def broken(_: NDArray[np.float32]) -> NDArray[np.float64]:
        raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        steady(broken, clients=1) as loop,
        pytest.raises(RuntimeError, match="ZeroDivisionError"),
    ):
        loop.wait_for_answers(1)


@pytest.mark.slow
def test_what_is_beyond_the_limit_is_refused_and_the_rest_gets_its_scores(model: Path, identity: str) -> None:
    """Large bodies are sent to their end after a refusal, and the next response is for the next request."""
    with live_service(model, "--max-inflight-events", str(len(LARGE))) as service:
        requests = checked(service.base_url, [ScoringRequest.of(RAW, LARGE)], {identity: oracle_of_large})
        with ClosedLoop(service.base_url, requests, clients=8) as loop:
            loop.wait_for(lambda report: report.outcomes[Outcome.REFUSED] >= 3)
            loop.wait_for_answers(3)
    assert not loop.report().failures


def oracle_of_large(events: NDArray[np.float32]) -> NDArray[np.float64]:
    """Score as the oracle does, but in one expression: it takes seconds for so many."""
    means, scales = constants(events.shape[1])
    scores: NDArray[np.float64] = (((events - means) / scales) ** 2).mean(axis=1)
    return scores


def answering(response: bytes, received: list[bytes]) -> Callable[[socket.socket], None]:
    """Give this response to all that comes, which is collected."""

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(1000):
            received.append(data)
            connection.sendall(response)

    return serve


def test_a_client_that_obeys_waits_for_retry_after(subtests: pytest.Subtests) -> None:
    """Refused for a minute, one client asks once, and another again and again."""
    for obeys, count in ((True, 1), (False, 5)):
        received: list[bytes] = []
        with subtests.test(msg=f"obeys: {obeys}"), serving_once(answering(REFUSAL, received)) as url:
            request = Request.exact("now", b"now?", b"yes")
            with ClosedLoop(url, [request], clients=1, obey_retry_after=obeys, pause_s=0.01) as loop:
                loop.wait_for(lambda report, count=count: report.outcomes[Outcome.REFUSED] >= count)  # type: ignore[misc]
            assert (len(received) == 1) is obeys


def test_a_refusal_must_say_when_to_retry(subtests: pytest.Subtests) -> None:
    """A 503 without Retry-After is an error, as is any other status."""
    for bad in (REFUSAL.replace(b"Retry-After: 60\r\n", b""), REFUSAL.replace(b"503", b"500")):
        with subtests.test(msg=repr(bad)), serving_once(answering(bad, [])) as url:
            with ClosedLoop(url, [Request.exact("now", b"now?", b"yes")], clients=1, pause_s=0.01) as loop:
                loop.wait_for(lambda report: report.outcomes[Outcome.ERROR] > 0)
            assert loop.report().outcomes[Outcome.REFUSED] == 0


def test_a_background_load_counts_right_responses(bare: Server, three: Request) -> None:
    """It runs until the end of the block, which says what was wrong."""
    with Background(bare.base_url, [Exchange("three", three.data, BODY)]) as background:
        pass
    assert background.seen.responses >= 1
    assert background.seen.seconds > 0
    wrong = Exchange("three", three.data, b"something else")
    with pytest.raises(WrongAnswerError, match="the body is"), Background(bare.base_url, [wrong]):
        pass


def test_reports_add_up() -> None:
    """Counts are sums, and every failure stays."""
    record = Record()
    record.end("r", record.begin(), Outcome.ANSWERED, version="m")
    record.end("r", record.begin(), Outcome.ERROR, "500")
    both: Report = merged([record.report(), record.report()])
    assert (both.begun, len(both.failures)) == (4, 2)
    assert both.outcomes[Outcome.ANSWERED] == both.outcomes[Outcome.ERROR] == 2

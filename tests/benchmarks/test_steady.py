"""Steady load counts every request once, and names what was lost."""

import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from numpy.typing import NDArray

from benchmarks.bodies import JSON
from benchmarks.exchange import Connection, LostError
from benchmarks.steady import Question, SteadyLoad, mixed_questions
from benchmarks.tally import Outcome, Report
from service.model.artefact import load_artefact
from tests.artefacts import oracle, sample_events, write_artefact
from tests.live import LiveService, live_service

QUESTIONS = mixed_questions(sample_events(30), (1, 7, 30))
REQUEST = b"POST /score HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Score = Callable[[NDArray[np.float32]], NDArray[Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a model whose scores the oracle knows."""
    return write_artefact(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def identity(model: Path) -> str:
    """Name the model."""
    return load_artefact(model).identity


@pytest.fixture(scope="module")
def service(model: Path) -> Iterator[LiveService]:
    """Serve the model to the tests that do not harm it."""
    with live_service(model) as running:
        yield running


def sums_up(report: Report) -> bool:
    """Tell whether everything begun has an outcome, second by second too."""
    by_second = sum(sum(second.outcomes.values()) for second in report.by_second)
    return report.begun == sum(report.outcomes.values()) == by_second


def test_every_request_is_answered_and_checked(service: LiveService, identity: str) -> None:
    """All formats and sizes, on connections that last, and nothing else happens."""
    with SteadyLoad(service.base_url, QUESTIONS, {identity: oracle}) as load:
        load.wait_for_answers(4 * len(QUESTIONS))
    report = load.report()
    assert not report.failures, str(report)
    assert report.begun == report.outcomes[Outcome.ANSWERED] == report.statuses[200]
    assert report.versions[identity].answers == report.begun
    assert sums_up(report)
    assert all(0 < second.p50_ms <= second.p99_ms for second in report.by_second)


def test_one_score_that_is_not_the_models_is_a_failure(service: LiveService, identity: str) -> None:
    """A mistake in the last event of a batch is found, and no other request is blamed."""

    def mistaken(events: NDArray[np.float32]) -> NDArray[np.float64]:
        scores = oracle(events)
        scores[29:] *= 1.001
        return scores

    with SteadyLoad(service.base_url, QUESTIONS, {identity: mistaken}, clients=1) as load:
        report = load.wait_for(lambda report: report.outcomes[Outcome.WRONG] >= 5)
    assert {failure.question for failure in report.failures} == {
        question.name for question in QUESTIONS if len(question.events) == 30
    }
    assert "score 29 is" in report.failures[0].detail
    assert report.outcomes[Outcome.ANSWERED] > 0


def test_a_model_that_is_not_expected_is_a_failure_until_it_is(service: LiveService, identity: str) -> None:
    """The models may change while the load runs."""
    scores: dict[str, Score] = {}
    with SteadyLoad(service.base_url, QUESTIONS, scores) as load:
        report = load.wait_for(lambda report: report.outcomes[Outcome.WRONG] > 0)
        assert f"Model-Version is {identity}, expected one of" in report.failures[0].detail
        scores[identity] = oracle
        load.wait_for_answers(10)


def test_a_request_that_the_service_refuses_as_wrong_is_a_failure(service: LiveService, identity: str) -> None:
    """The load asks nothing wrong: a 4xx is nobody's fault but the service's, or the test's."""
    too_wide = Question.of(JSON, np.zeros((2, 9), np.float32))
    with SteadyLoad(service.base_url, [too_wide], {identity: oracle}, clients=1) as load:
        report = load.wait_for(lambda report: report.outcomes[Outcome.ERROR] > 0)
    assert '400: b\'{"status_code":400' in report.failures[0].detail


def test_connections_are_opened_anew_when_told(service: LiveService, identity: str) -> None:
    """A client that leaves after each reply loses none."""
    with SteadyLoad(service.base_url, QUESTIONS, {identity: oracle}, per_connection=1) as load:
        load.wait_for_answers(100)
    assert not load.report().failures
    assert load.report().outcomes[Outcome.CLOSED_IDLE] == 0


def test_a_killed_service_shows(model: Path, identity: str) -> None:
    """What it had taken is lost, and what was not taken any more is told apart."""
    with (
        live_service(model) as doomed,
        SteadyLoad(doomed.base_url, QUESTIONS, {identity: oracle}, clients=8) as load,
    ):
        load.wait_for_answers(100)
        doomed.signal(signal.SIGKILL)
        doomed.process.wait()
        load.wait_for(lambda report: report.outcomes[Outcome.UNSENT] >= 8)
    report = load.report()
    lost = report.outcomes[Outcome.RESET] + report.outcomes[Outcome.CUT]
    assert 1 <= lost == len(report.failures), str(report)
    assert all(failure.detail for failure in report.failures)
    assert sums_up(report)


def test_a_client_that_cannot_judge_stops_the_test(service: LiveService, identity: str) -> None:
    """A fault of the load's own is raised at its end, and is no outcome."""

    def broken(_: NDArray[np.float32]) -> NDArray[np.float64]:
        raise ZeroDivisionError

    with (
        pytest.raises(ZeroDivisionError),
        SteadyLoad(service.base_url, QUESTIONS, {identity: broken}, clients=1) as load,
        pytest.raises(RuntimeError, match="ZeroDivisionError"),
    ):
        load.wait_for_answers(1)


@contextmanager
def serving(serve: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Give one connection to `serve`, which has it for itself, and the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            accepted, _ = listener.accept()
            with (
                tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
                if tls
                else accepted as connection
            ):
                serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def take_request(connection: socket.socket) -> None:
    """Read a request whole."""
    received = b""
    while len(received) < len(REQUEST):
        received += connection.recv(1000)
    assert received == REQUEST


def lost(connection: Connection) -> str:
    """Send a request that gets no reply, and give how it was lost."""
    with pytest.raises(LostError) as raised:
        connection.ask(REQUEST)
    return raised.value.how


def test_a_connection_that_was_closed_idle_is_told_from_a_reset() -> None:
    """A request that the server read and did not answer is lost, also on a connection that had served before."""

    def reply_and_leave(connection: socket.socket) -> None:
        take_request(connection)
        connection.sendall(REPLY)

    def reply_read_and_leave(connection: socket.socket) -> None:
        reply_and_leave(connection)
        take_request(connection)

    for serve, how in ((reply_and_leave, "closed idle"), (reply_read_and_leave, "reset")):
        with serving(serve) as url, Connection(url, None, 10) as connection:
            assert connection.ask(REQUEST).body == b"ok"
            assert lost(connection) == how


def test_a_first_request_is_never_closed_idle() -> None:
    """A server that accepts a connection and closes it has lost the request."""
    with serving(lambda _: None) as url, Connection(url, None, 10) as connection:
        assert lost(connection) == "reset"


@pytest.mark.parametrize("reply", [REPLY[:-1], REPLY[:10], REPLY + b"x", REPLY.replace(b"Content", b"Discontent")])
def test_a_reply_must_be_whole_and_no_more(reply: bytes) -> None:
    """Bytes that miss, bytes too many and a reply without a length are a cut."""

    def serve(connection: socket.socket) -> None:
        take_request(connection)
        connection.sendall(reply)

    with serving(serve) as url, Connection(url, None, 10) as connection:
        assert lost(connection) == "cut"


def test_nobody_listens() -> None:
    """Then nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Connection(url, None, 10) as connection:
        assert lost(connection) == "unsent"


def test_requests_go_over_tls_too() -> None:
    """The certificate is checked, and a closed connection is told from a reset as without."""
    authority = trustme.CA()
    certificate, ours = authority.issue_cert("127.0.0.1"), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(ours)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)

    def serve(connection: socket.socket) -> None:
        for _ in range(2):
            take_request(connection)
            connection.sendall(REPLY)

    with serving(serve, ours) as url, Connection(url, theirs, 10) as connection:
        assert connection.ask(REQUEST).body == connection.ask(REQUEST).body == b"ok"
        assert lost(connection) == "closed idle"

    def refused(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.do_handshake()  # type: ignore[attr-defined]

    with serving(refused, ours) as url, Connection(url, ssl.create_default_context(), 10) as connection:
        assert lost(connection) == "unsent"

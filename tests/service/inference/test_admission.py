"""A worker takes on so much work at once and no more: the rest gets a 503 before its body is read."""

from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.load.formats import JSON, RAW, Format
from benchmarks.targets.processes import sockets
from service.errors import NotReadyError, OverloadedError, RequestTimeoutError
from service.inference.admission import Admission
from service.server.protocol import RESERVED_CONNECTIONS
from tests.artefacts import sample_events
from tests.live import LiveService, live_service, wait_until
from tests.service.server.exchange import Connection, begin, check_refusal, check_score, event_request, post

MAX_EVENTS = 100


@pytest.fixture(scope="module")
def service(model_path: Path) -> Iterator[LiveService]:
    """Serve with low limits of events in flight, connections and events of a request."""
    flags = ("--max-inflight-events", str(MAX_EVENTS), "--max-connections", "4", "--max-events", "1000")
    with live_service(model_path, *flags) as service:
        yield service


def test_what_does_not_fit_is_refused_at_once_and_the_connection_goes_on(service: LiveService) -> None:
    """Beside a request in flight, one that fits is scored; one that does not gets 503 and Retry-After, unread."""
    with Connection(service) as first, Connection(service) as second:
        rest = begin(first, MAX_EVENTS - 1)
        second.send(event_request())
        check_score(second.response())
        refused = post(RAW.write("events", sample_events(2)), fmt=RAW, path="/score/batch")
        second.send(refused + event_request())
        response = second.response()
        assert (response.status, response.headers["retry-after"]) == (503, "1")
        assert f"expected at most {MAX_EVENTS}" in response.detail()
        check_score(second.response())
        first.send(rest)
        assert len(first.response().body) == 4 * (MAX_EVENTS - 1)


def test_a_refusal_does_not_wait_for_the_body(service: LiveService) -> None:
    """The 503 comes to a client that has sent nothing but its head, and tells it to connect again."""
    with Connection(service) as first, Connection(service) as second:
        rest = begin(first, MAX_EVENTS)
        second.send(post(bytes(20), "Expect: 100-continue", fmt=RAW, path="/score/batch")[:-20])
        check_refusal(second.response(), 503, "")
        assert second.ended()
        first.send(rest)
        assert first.response().status == 200


def test_a_body_in_chunks_is_admitted_as_it_grows(service: LiveService) -> None:
    """Without Content-Length the size shows as the body comes: it is refused once it is too much beside others."""
    with Connection(service) as first, Connection(service) as second:
        rest = begin(first, MAX_EVENTS)
        second.send(
            f"POST /score/batch HTTP/1.1\r\nHost: a\r\nContent-Type: {RAW.media_type}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        body = RAW.write("events", sample_events(MAX_EVENTS))
        second.send(b"%x\r\n%b\r\n" % (len(body), body))
        assert second.response().status == 503
        first.send(rest)
        assert first.response().status == 200


def test_alone_a_request_larger_than_the_limit_is_scored(service: LiveService) -> None:
    """The limit is of all requests in flight together."""
    with Connection(service) as connection:
        connection.send(post(RAW.write("events", sample_events(3 * MAX_EVENTS)), fmt=RAW, path="/score/batch"))
        assert len(connection.response().body) == 4 * 3 * MAX_EVENTS


def test_requests_in_flight_are_in_the_metrics(service: LiveService) -> None:
    """Requests, events and bytes that are being read are counted until they are answered."""

    def in_flight() -> tuple[float, ...]:
        found = service.metrics()
        return tuple(found[f"anomaly_inflight_{name}"] for name in ("requests", "events", "bytes"))

    with Connection(service) as connection:
        rest = begin(connection, 10)
        wait_until(lambda: in_flight() == (1, 10, 200))
        connection.send(rest)
        assert connection.response().status == 200
    wait_until(lambda: in_flight() == (0, 0, 0))


def test_a_client_that_disconnects_makes_room(service: LiveService) -> None:
    """What was in flight for it is in flight no more, and others are admitted again."""
    with Connection(service) as first:
        begin(first, MAX_EVENTS)
    body = RAW.write("events", sample_events(MAX_EVENTS))
    wait_until(lambda: service.post("/score/batch", body, RAW.media_type).status_code == 200)


@pytest.mark.parametrize("fmt", [RAW, JSON], ids=["raw", "json"])
def test_more_events_than_a_request_may_have_are_refused(service: LiveService, fmt: Format) -> None:
    """A batch of one event too many is a 413 that names the limit."""
    with Connection(service) as connection:
        connection.send(post(fmt.write("events", sample_events(1001)), fmt=fmt, path="/score/batch"))
        response = connection.response()
        assert response.status == 413
        assert response.detail() == "the batch has more than 1000 events, expected at most 1000: send smaller batches"


def test_a_connection_too_many_gets_a_503_and_health_is_answered(service: LiveService) -> None:
    """Beyond the limit a scoring request gets a 503 and the connection is closed; health and metrics respond."""
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(service)) for _ in range(4)]
        for connection in connections:
            connection.send(event_request())
            check_score(connection.response())
        with Connection(service) as fifth:
            fifth.send(event_request())
            response = fifth.response()
            check_refusal(response, 503, "")
            assert response.headers["retry-after"] == "1"
            assert fifth.ended()
        assert service.get("/health").status_code == 200
        assert service.metrics()["anomaly_requests_total route=/score status=503"] > 0
        connections[0].send(event_request())
        check_score(connections[0].response())


@pytest.mark.process
def test_connections_above_the_limit_are_bounded(model_path: Path) -> None:
    """Above --max-connections some more are kept, for probes, and further ones are closed."""
    with live_service(model_path, "--max-connections", "1", "--header-s", "3600") as service, ExitStack() as stack:
        before = sockets(service.pid)
        for _ in range(RESERVED_CONNECTIONS + 30):
            stack.enter_context(service.connect())
        wait_until(lambda: sockets(service.pid) - before <= 1 + RESERVED_CONNECTIONS)


@pytest.mark.process
def test_connections_above_the_limit_that_are_answered_are_bounded(model_path: Path) -> None:
    """Those that were refused, and linger for the rest of their request, make room for new ones: all are answered."""
    with live_service(model_path, "--max-connections", "1") as service, ExitStack() as stack:
        first = stack.enter_context(Connection(service))
        begin(first, 1)
        before = sockets(service.pid)
        for _ in range(3 * RESERVED_CONNECTIONS):
            connection = stack.enter_context(Connection(service))
            connection.send(event_request()[:-1])
            assert connection.response().status == 503
        wait_until(lambda: sockets(service.pid) - before <= RESERVED_CONNECTIONS)


def test_the_limits_are_of_events_and_of_bytes() -> None:
    """Either limit refuses a request; one that has ended counts no more; growing counts as being admitted."""
    admission = Admission(max_events=10, max_bytes=1000)

    def in_flight() -> tuple[int, int, int]:
        return admission.requests, admission.events, admission.bytes

    with admission.admit(4, 100):
        for n_events, n_bytes in [(7, 1), (1, 901)]:
            with pytest.raises(OverloadedError, match="4 events and 100 bytes in flight"):
                admission.admit(n_events, n_bytes)
        with admission.admit(1, 100) as admitted:
            admitted.grow(6, 50)
            assert in_flight() == (2, 10, 200)
            admitted.grow(6, 150)
            assert in_flight() == (2, 10, 250)
            with pytest.raises(OverloadedError):
                admitted.grow(7, 50)
        assert in_flight() == (1, 4, 100)
    assert in_flight() == (0, 0, 0)
    for n_events, n_bytes, expected in [(5, 500, False), (6, 0, True), (0, 501, True)]:
        with admission.admit(n_events, n_bytes):
            assert admission.more_than_half_full == expected
    with admission.admit(11, 2000) as admitted:
        admitted.grow(12, 2000)
        assert in_flight() == (1, 12, 2000)
    assert in_flight() == (0, 0, 0)


def test_a_cancelled_request_ends_with_the_error_that_it_was_cancelled_with() -> None:
    """Without an error of its own, a cancellation means that the service has stopped; nothing stays in flight."""
    admission = Admission(max_events=10, max_bytes=1000)
    reason = RequestTimeoutError("too late")
    with pytest.raises(RequestTimeoutError, match="too late"), admission.admit(1, 1):
        raise CancelledError(reason)
    with pytest.raises(NotReadyError, match="the service stopped"), admission.admit(1, 1):
        raise CancelledError
    assert admission.requests == 0

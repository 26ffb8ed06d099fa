"""A worker takes on so much work at once and no more: the rest gets a 503 before its body is read."""

from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.load.formats import JSON, RAW, Format
from service.errors import NotReadyError, OverloadedError, RequestTimeoutError
from service.inference.admission import Admission
from tests.artefacts import sample_events
from tests.live import LiveService, live_service, wait_until
from tests.service.server.exchange import Connection, begin, check_refusal, check_score, event_request, post

MAX_EVENTS = 100


@pytest.fixture(scope="module")
def busy(model_path: Path) -> Iterator[LiveService]:
    """Serve with room for few events, and few connections, with a probe's port beside."""
    flags = ("--max-inflight-events", str(MAX_EVENTS), "--max-connections", "4", "--max-events", "1000")
    with live_service(model_path, *flags) as service:
        yield service


def test_what_does_not_fit_is_refused_at_once_and_the_connection_goes_on(busy: LiveService) -> None:
    """Beside a request in flight, one that fits is scored; one that does not gets 503 and Retry-After, unread."""
    with Connection(busy) as first, Connection(busy) as second:
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


def test_a_refusal_does_not_wait_for_the_body(busy: LiveService) -> None:
    """The 503 comes to a client that has sent nothing but its head, and tells it to connect again."""
    with Connection(busy) as first, Connection(busy) as second:
        rest = begin(first, MAX_EVENTS)
        head = f"POST /score/batch HTTP/1.1\r\nHost: a\r\nContent-Type: {RAW.media_type}\r\nContent-Length: 20\r\n"
        second.send(f"{head}Expect: 100-continue\r\n\r\n".encode())
        check_refusal(second.response(), 503, "")
        assert second.ended()
        first.send(rest)
        assert first.response().status == 200


def test_a_body_in_chunks_is_admitted_as_it_grows(busy: LiveService) -> None:
    """Without Content-Length the size shows as the body comes: it is refused once it is too much beside others."""
    with Connection(busy) as first, Connection(busy) as second:
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


def test_alone_a_request_larger_than_the_bound_is_scored(busy: LiveService) -> None:
    """The limit is on all requests in flight together: alone, a large batch is scored."""
    with Connection(busy) as connection:
        connection.send(post(RAW.write("events", sample_events(3 * MAX_EVENTS)), fmt=RAW, path="/score/batch"))
        assert len(connection.response().body) == 4 * 3 * MAX_EVENTS


def test_what_is_in_flight_is_in_the_metrics(busy: LiveService) -> None:
    """Requests, events and bytes that are being read are told, and are none once they are answered."""
    with Connection(busy) as connection:
        rest = begin(connection, 10)
        wait_for_inflight(busy, 1, 10, 200)
        connection.send(rest)
        assert connection.response().status == 200
    wait_for_inflight(busy, 0, 0, 0)


def wait_for_inflight(service: LiveService, n_requests: int, n_events: int, n_bytes: int) -> None:
    """Wait until the metrics, which are renewed ten times a second, have these numbers."""
    expected = {"requests": n_requests, "events": n_events, "bytes": n_bytes}

    def told() -> bool:
        found = service.metrics()
        return {name: found[f"anomaly_inflight_{name}"] for name in expected} == expected

    wait_until(told)


def test_a_client_that_leaves_makes_room(busy: LiveService) -> None:
    """What was in flight for a client that is gone is forgotten, and others are admitted again."""
    with Connection(busy) as first:
        begin(first, MAX_EVENTS)
    with Connection(busy) as second:
        for _ in range(100):
            second.send(post(RAW.write("events", sample_events(MAX_EVENTS)), fmt=RAW, path="/score/batch"))
            if second.response().status == 200:
                return
    pytest.fail("the room of a client that left is still taken")


@pytest.mark.parametrize("fmt", [RAW, JSON], ids=["raw", "json"])
def test_more_events_than_a_request_may_have_are_refused(busy: LiveService, fmt: Format) -> None:
    """A batch of one event too many is a 413 that names the limit."""
    with Connection(busy) as connection:
        connection.send(post(fmt.write("events", sample_events(1001)), fmt=fmt, path="/score/batch"))
        response = connection.response()
        assert response.status == 413
        assert response.detail() == "the batch has more than 1000 events, expected at most 1000: send smaller batches"


def test_too_many_connections_are_told_so_and_probes_are_answered(busy: LiveService) -> None:
    """Beyond the limit a scoring request gets a 503 and the connection is closed; health and metrics respond."""
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(busy)) for _ in range(4)]
        for connection in connections:
            connection.send(event_request())
            check_score(connection.response())
        with Connection(busy) as crowding:
            crowding.send(event_request())
            response = crowding.response()
            check_refusal(response, 503, "")
            assert response.headers["retry-after"] == "1"
            assert crowding.ended()
        assert busy.get("/health").status_code == 200
        assert busy.metrics()["anomaly_requests_total route=/score status=503"] > 0
        connections[0].send(event_request())
        check_score(connections[0].response())


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
            with pytest.raises(OverloadedError):
                admitted.grow(7, 50)
        assert in_flight() == (1, 4, 100)
    assert in_flight() == (0, 0, 0)
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

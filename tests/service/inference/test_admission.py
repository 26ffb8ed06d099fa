"""A worker takes on so much work at once and no more: the rest gets a 503 before its body is read."""

import json
import time
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.errors import NotReadyError, OverloadedError, RequestTimeoutError
from service.inference.admission import Admission
from tests.artefacts import sample_events
from tests.live import LiveService, live_service
from tests.service.formats.encodings import JSON, RAW, Format
from tests.service.server.test_protocol import Wire, check_score, event_request, post
from tests.service.test_metrics import samples

MAX_EVENTS = 100


@pytest.fixture(scope="module")
def busy(model_path: Path) -> Iterator[LiveService]:
    """Serve with room for few events, and few connections, with a probe's port beside."""
    flags = ("--max-inflight-events", str(MAX_EVENTS), "--max-connections", "4", "--max-events", "1000")
    with live_service(model_path, *flags) as service:
        yield service


def begin(wire: Wire, n_events: int) -> bytes:
    """Send a request up to the last byte of its body, know it in flight, and give that byte."""
    body = RAW.write("events", sample_events(n_events))
    whole = post(body, "Expect: 100-continue", fmt=RAW, path="/score/batch")
    wire.send(whole[: -len(body)])
    assert wire.head()[0] == "HTTP/1.1 100 Continue"
    wire.send(body[:-1])
    return body[-1:]


def test_what_does_not_fit_is_refused_at_once_and_the_connection_goes_on(busy: LiveService) -> None:
    """Beside a request in flight, one that fits is scored; one that does not gets 503 and Retry-After, unread."""
    with Wire(busy) as first, Wire(busy) as second:
        rest = begin(first, MAX_EVENTS - 1)
        second.send(event_request())
        check_score(second.reply())
        refused = post(RAW.write("events", sample_events(2)), fmt=RAW, path="/score/batch")
        second.send(refused + event_request())
        reply = second.reply()
        assert reply.status_line == "HTTP/1.1 503 Service Unavailable"
        assert reply.headers["retry-after"] == "1"
        assert f"expected at most {MAX_EVENTS}" in json.loads(reply.body)["detail"]
        check_score(second.reply())
        first.send(rest)
        assert len(first.reply().body) == 4 * (MAX_EVENTS - 1)


def test_a_refusal_does_not_wait_for_the_body(busy: LiveService) -> None:
    """The 503 comes to a client that has sent nothing but its head, and tells it to connect again."""
    with Wire(busy) as first, Wire(busy) as second:
        rest = begin(first, MAX_EVENTS)
        head = f"POST /score/batch HTTP/1.1\r\nHost: a\r\nContent-Type: {RAW.media_type}\r\nContent-Length: 20\r\n"
        second.send(f"{head}Expect: 100-continue\r\n\r\n".encode())
        reply = second.reply()
        assert (reply.status_line[9:12], reply.headers["connection"]) == ("503", "close")
        assert second.ended()
        first.send(rest)
        assert first.reply().status_line == "HTTP/1.1 200 OK"


def test_a_body_in_chunks_is_admitted_as_it_grows(busy: LiveService) -> None:
    """Without Content-Length the size shows as the body comes: it is refused once it is too much beside others."""
    with Wire(busy) as first, Wire(busy) as second:
        rest = begin(first, MAX_EVENTS)
        second.send(
            f"POST /score/batch HTTP/1.1\r\nHost: a\r\nContent-Type: {RAW.media_type}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        body = RAW.write("events", sample_events(MAX_EVENTS))
        second.send(b"%x\r\n%b\r\n" % (len(body), body))
        assert second.reply().status_line == "HTTP/1.1 503 Service Unavailable"
        first.send(rest)
        assert first.reply().status_line == "HTTP/1.1 200 OK"


def test_alone_a_request_larger_than_the_bound_is_scored(busy: LiveService) -> None:
    """The bound is on what is in flight together: a large batch that nobody is beside is not refused for ever."""
    with Wire(busy) as wire:
        wire.send(post(RAW.write("events", sample_events(3 * MAX_EVENTS)), fmt=RAW, path="/score/batch"))
        assert len(wire.reply().body) == 4 * 3 * MAX_EVENTS


def test_what_is_in_flight_is_in_the_metrics(busy: LiveService) -> None:
    """Requests, events and bytes that are being read are told, and are none once they are answered."""
    names = ("requests", "events", "bytes")
    with Wire(busy) as wire:
        rest = begin(wire, 10)
        wait_for_inflight(busy, dict(zip(names, (1.0, 10.0, 200.0), strict=True)))
        wire.send(rest)
        assert wire.reply().status_line == "HTTP/1.1 200 OK"
    wait_for_inflight(busy, dict.fromkeys(names, 0.0))


def wait_for_inflight(service: LiveService, expected: dict[str, float]) -> None:
    """Wait until the metrics, which are renewed ten times a second, have these numbers."""
    deadline = time.monotonic() + 30
    while True:
        found = samples(httpx.get(f"{service.base_url}/metrics").text)
        if {name: found[f"anomaly_inflight_{name}"] for name in expected} == expected:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_client_that_leaves_makes_room(busy: LiveService) -> None:
    """What was in flight for a client that is gone is forgotten, and others are admitted again."""
    with Wire(busy) as first:
        begin(first, MAX_EVENTS)
    with Wire(busy) as second:
        for _ in range(100):
            second.send(post(RAW.write("events", sample_events(MAX_EVENTS)), fmt=RAW, path="/score/batch"))
            if second.reply().status_line == "HTTP/1.1 200 OK":
                return
    pytest.fail("the room of a client that left is still taken")


@pytest.mark.parametrize("fmt", [RAW, JSON], ids=["raw", "json"])
def test_more_events_than_a_request_may_have_are_refused(busy: LiveService, fmt: Format) -> None:
    """A batch of one event too many is a 413 that names the limit."""
    with Wire(busy) as wire:
        wire.send(post(fmt.write("events", sample_events(1001)), fmt=fmt, path="/score/batch"))
        reply = wire.reply()
        assert reply.status_line.startswith("HTTP/1.1 413")
        assert json.loads(reply.body)["detail"] == (
            "the batch has more than 1000 events, expected at most 1000: send smaller batches"
        )


def test_too_many_connections_are_told_so_and_probes_are_answered(busy: LiveService) -> None:
    """Beyond the limit a request to score gets a 503 and goodbye, while health and metrics are answered."""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(busy)) for _ in range(4)]
        for wire in wires:
            wire.send(event_request())
            check_score(wire.reply())
        with Wire(busy) as crowding:
            crowding.send(event_request())
            reply = crowding.reply()
            assert (reply.status_line[9:12], reply.headers["retry-after"], reply.headers["connection"]) == (
                "503",
                "1",
                "close",
            )
            assert crowding.ended()
        assert httpx.get(f"{busy.base_url}/health").status_code == 200
        assert 'status="503"' in httpx.get(f"{busy.base_url}/metrics").text
        wires[0].send(event_request())
        check_score(wires[0].reply())


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

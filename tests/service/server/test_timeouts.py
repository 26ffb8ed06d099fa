"""Clients that are slow, stalled or silent do not keep what they hold: real sockets against short deadlines."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.artefacts import sample_events
from tests.live import LiveService, live_service
from tests.service.formats.encodings import JSON, NPY, RAW
from tests.service.server.test_protocol import EVENT, Wire, check_score, event_request, post

HEADER_S, STALL_S, REQUEST_S = 1, 1, 3
LINES = "POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def strict(model_path: Path) -> Iterator[LiveService]:
    """Serve with short deadlines."""
    flags = ("--header-s", str(HEADER_S), "--stall-s", str(STALL_S), "--request-s", str(REQUEST_S))
    with live_service(model_path, *flags, "--keep-alive-s", "2") as service:
        yield service


def check_timeout(wire: Wire, words: str) -> None:
    """Read a 408 with these words, after which the connection is closed."""
    reply = wire.reply()
    assert reply.status_line == "HTTP/1.1 408 Request Timeout"
    assert reply.headers["connection"] == "close"
    detail = json.loads(reply.body)["detail"]
    assert words in detail
    assert wire.ended()


def drip(wire: Wire, data: bytes) -> None:
    """Send byte after byte, each before any deadline on silence, until the service answers."""
    wire.socket.settimeout(0.3)
    for place in range(len(data)):
        wire.send(data[place : place + 1])
        try:
            if wire.socket.recv(1, socket.MSG_PEEK) is not None:
                break
        except TimeoutError:
            continue
    wire.socket.settimeout(30)


def test_a_head_that_comes_byte_by_byte_is_given_up(strict: LiveService) -> None:
    """However lively the drip, a head has its time and no more."""
    with Wire(strict) as wire:
        drip(wire, LINES.encode())
        check_timeout(wire, f"head took longer than {HEADER_S} s")


def test_a_body_that_stops_is_given_up(strict: LiveService) -> None:
    """A body of which nothing more comes is a 408, on a batch and on one event."""
    batch = post(JSON.write("events", sample_events(3)), path="/score/batch")
    for request in (event_request(), batch):
        with Wire(strict) as wire:
            wire.send(request[:-5])
            check_timeout(wire, f"no byte of the body came for {STALL_S} s")


def test_a_body_that_comes_byte_by_byte_is_given_up(strict: LiveService) -> None:
    """A drip never stalls, but a whole request has its time."""
    with Wire(strict) as wire:
        head, _, body = event_request().partition(b"\r\n\r\n")
        wire.send(head + b"\r\n\r\n")
        drip(wire, body)
        check_timeout(wire, f"longer than {REQUEST_S} s to arrive")


def test_a_connection_on_which_nothing_is_said_is_closed(strict: LiveService) -> None:
    """Silence, and line ends that begin no request, do not hold a connection."""
    with Wire(strict) as silent, Wire(strict) as blank:
        blank.send(b"\r\n")
        assert silent.ended()
        assert blank.ended()


def test_an_idle_connection_is_closed_after_its_time_alone(strict: LiveService) -> None:
    """One that has just been used stays; one that is idle for --keep-alive-s is closed, with nothing said."""
    with Wire(strict) as wire:
        began = time.monotonic()
        while time.monotonic() - began < 4:  # longer than an idle one may live
            wire.send(event_request())
            check_score(wire.reply())
            time.sleep(0.2)
        assert wire.ended()


def test_a_pause_within_the_deadlines_is_no_fault(strict: LiveService) -> None:
    """A request in three pieces with pauses between is answered."""
    request = event_request()
    with Wire(strict) as wire:
        for piece in (request[:30], request[30:-5], request[-5:]):
            wire.send(piece)
            time.sleep(0.3)
        check_score(wire.reply())


def test_a_client_that_reads_nothing_is_cut_off(strict: LiveService) -> None:
    """Replies that nobody takes are not kept: the connection is closed, and others are served meanwhile."""
    request = post(
        RAW.write("events", sample_events(200_000)), f"Accept: {NPY.media_type}", fmt=RAW, path="/score/batch"
    )
    with Wire(strict, receive_buffer_bytes=4096) as stalled, Wire(strict) as other:
        stalled.socket.settimeout(0.5)
        deadline = time.monotonic() + 30
        try:
            while time.monotonic() < deadline:
                try:
                    stalled.send(request)
                except TimeoutError:
                    other.send(event_request())
                    check_score(other.reply())
            pytest.fail("a client that reads nothing is still served")
        except ConnectionError:
            pass


def test_the_rest_of_a_refused_body_has_its_time_too(strict: LiveService) -> None:
    """A client that goes on sending a body, slowly, whose refusal it has, is closed."""
    with Wire(strict) as wire:
        head = post(b"", path="/score/batch").replace(b"application/json", b"text/plain")
        wire.send(head.replace(b"Content-Length: 0", b"Content-Length: 100") + b"x")
        assert wire.reply().status_line == "HTTP/1.1 415 Unsupported Media Type"
        assert wire.ended()


def test_what_is_given_up_is_counted_and_frees_its_place(strict: LiveService) -> None:
    """Metrics have the 408s, nothing is in flight any more, and the log is calm."""
    with Wire(strict) as wire:
        wire.send(event_request()[:-1])
        check_timeout(wire, "no byte")
    with Wire(strict) as wire:
        wire.send(post(JSON.write("features", EVENT)))
        check_score(wire.reply())
    text = httpx.get(f"{strict.base_url}/metrics").text
    assert 'anomaly_requests_total{route="/score",status="408"}' in text
    assert {line["level"] for line in strict.log_lines} == {"INFO"}

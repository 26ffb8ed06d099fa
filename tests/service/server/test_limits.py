"""What a request's head may be: its size, its framing, and what happens to the requests around a wrong one."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from service.server.discard import DISCARD_BYTES
from tests.artefacts import sample_events
from tests.live import LiveService, live_service
from tests.service.formats.encodings import JSON, RAW
from tests.service.server.test_protocol import EVENT, Reply, Wire, check_score, event_request, post

BODY_BYTES, HEADER_BYTES, URL_BYTES = 100_000, 2_000, 300


@pytest.fixture(scope="module")
def bounded(model_path: Path) -> Iterator[LiveService]:
    """Serve with small limits."""
    limits = {"--max-body-bytes": BODY_BYTES, "--max-header-bytes": HEADER_BYTES, "--max-url-bytes": URL_BYTES}
    with live_service(model_path, *(str(text) for pair in limits.items() for text in pair)) as service:
        yield service


def check_refusal(reply: Reply, status: int, words: str) -> None:
    """See that a reply is an error in the form of all others, after which the connection is closed."""
    assert int(reply.status_line[9:12]) == status
    assert (reply.headers["content-type"], reply.headers["connection"]) == ("application/json", "close")
    error = json.loads(reply.body)
    assert error["status_code"] == status
    assert words in error["detail"]


@pytest.mark.parametrize("step", [10_000, 7], ids=["at-once", "in-pieces"])
@pytest.mark.parametrize(
    ("head", "status", "words"),
    [
        (f"GET /{'a' * URL_BYTES} HTTP/1.1\r\nHost: a\r\n\r\n", 414, f"expected at most {URL_BYTES}"),
        (f"GET /health HTTP/1.1\r\nHost: a\r\nX: {'a' * HEADER_BYTES}\r\n\r\n", 431, f"at most {HEADER_BYTES}"),
        ("GET /health HTTP/1.1\r\nHost: a\r\n" + "X: a\r\n" * 400 + "\r\n", 431, f"at most {HEADER_BYTES}"),
        ("GET /health HTTP/1.1\r\n\r\n", 400, "0 Host headers"),
        ("GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "2 Host headers"),
        ("GET /health HTTP/1.1\r\nHost a\r\n\r\n", 400, "not well-formed HTTP/1.1"),
    ],
    ids=["url", "header", "headers", "no-host", "two-hosts", "no-colon"],
)
def test_a_head_that_is_not_taken_is_refused_in_words(
    bounded: LiveService, head: str, status: int, words: str, step: int
) -> None:
    """Too long or wrong, at once or in pieces: a JSON error that names the limit, and the end of the connection."""
    with Wire(bounded) as wire:
        for start in range(0, len(head), step):
            try:
                wire.send(head[start : start + step].encode())
            except ConnectionError:  # it has heard enough
                break
        check_refusal(wire.reply(), status, words)
        assert wire.ended()


def test_a_wrong_request_waits_for_the_replies_to_those_before_it(bounded: LiveService) -> None:
    """Two good requests and garbage in one write: two scores, then the refusal."""
    with Wire(bounded) as wire:
        wire.send(event_request() + event_request() + b"garbage\r\n\r\n")
        check_score(wire.reply())
        check_score(wire.reply())
        check_refusal(wire.reply(), 400, "not well-formed")
        assert wire.ended()


def test_a_wrong_chunk_is_the_refusal_of_its_own_request(bounded: LiveService) -> None:
    """A body that stops being HTTP in the middle gets its 400 after the reply to the request before it."""
    head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    for before in (0, 1, 2):
        with Wire(bounded) as wire:
            wire.send(before * event_request() + head + b"5\r\n12345\r\nzz\r\n")
            for _ in range(before):
                check_score(wire.reply())
            check_refusal(wire.reply(), 400, "not well-formed")
            assert wire.ended()


def test_endless_trailers_are_not_kept(bounded: LiveService) -> None:
    """What follows a body in chunks is bounded as a head is, and is no part of the request."""
    body = JSON.write("features", EVENT)
    head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    with Wire(bounded) as wire:
        wire.send(head + chunks + b"X-Some: trailer\r\n\r\n")
        check_score(wire.reply())
        wire.send(head + chunks)
        try:
            for _ in range(10_000):
                wire.send(b"X: " + 50 * b"a" + b"\r\n")
        except ConnectionError:
            return
        check_refusal(wire.reply(), 431, "what follows the body")


def test_an_announced_body_is_refused_before_it_comes_and_not_read_for_ever(bounded: LiveService) -> None:
    """A body beyond the limit gets its 413 at once; a client that sends on regardless is cut off in the end."""
    head = post(b"", path="/score/batch", fmt=RAW).replace(b"Content-Length: 0", b"Content-Length: 1000000000")
    with Wire(bounded) as wire:
        wire.send(head)
        assert wire.reply().status_line.startswith("HTTP/1.1 413")
        sent, piece = 0, bytes(2**20)
        with suppress(ConnectionError):
            while sent < 2 * DISCARD_BYTES:
                wire.send(piece)
                sent += len(piece)
        assert DISCARD_BYTES - len(piece) <= sent < 2 * DISCARD_BYTES


def test_the_body_of_a_refused_request_is_not_the_next_request(bounded: LiveService) -> None:
    """A request inside the body of one that was refused early is never answered; the one after the body is."""
    inside = event_request()
    with Wire(bounded) as wire:
        wire.send(post(inside, "Content-Encoding: gzip") + event_request())
        reply = wire.reply()
        assert reply.status_line == "HTTP/1.1 415 Unsupported Media Type"
        assert "Content-Encoding is 'gzip'" in json.loads(reply.body)["detail"]
        check_score(wire.reply())


def test_an_upgrade_is_passed_over(bounded: LiveService) -> None:
    """Requests that ask for another protocol are answered in this one, bodies included, and so is what follows."""
    with Wire(bounded) as wire:
        asking = event_request(
            "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB"
        )
        wire.send(asking + asking + event_request())
        for _ in range(3):
            check_score(wire.reply())


@pytest.mark.parametrize(
    ("head", "status", "words"),
    [
        (b"GET /health HTTP/1.1", 400, "0 Host headers"),
        (b"GET /" + b"a" * URL_BYTES + b" HTTP/1.1\r\nHost: a", 414, "URL"),
    ],
    ids=["no-host", "url"],
)
def test_a_request_to_upgrade_is_checked_as_any_other(
    bounded: LiveService, head: bytes, status: int, words: str
) -> None:
    """What is wrong with it is named, although it is parsed a second time."""
    with Wire(bounded) as wire:
        wire.send(head + b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        check_refusal(wire.reply(), status, words)


def test_refusals_are_counted(bounded: LiveService) -> None:
    """Requests that never were any are in the metrics, under the route of all unknown paths."""
    with Wire(bounded) as wire:
        wire.send(b"garbage\r\n\r\n")
        check_refusal(wire.reply(), 400, "not well-formed")
    text = httpx.get(f"{bounded.base_url}/metrics").text
    assert 'anomaly_requests_total{route="other",status="400"}' in text


def test_a_client_that_leaves_stops_costing_work(bounded: LiveService) -> None:
    """Batches of clients that left before they were scored are not scored, and nothing is logged."""
    body = RAW.write("events", sample_events(4_000))
    for _ in range(20):
        with Wire(bounded) as wire:
            wire.send(post(body, fmt=RAW, path="/score/batch")[:-1])
    with Wire(bounded) as wire:
        wire.send(event_request())
        check_score(wire.reply())
    assert {line["level"] for line in bounded.log_lines} == {"INFO"}

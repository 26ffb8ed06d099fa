"""What a request's head may be: its size, its framing, and what happens to the requests around a wrong one."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.load.formats import JSON, RAW
from service.server.discard import DISCARD_BYTES
from tests.artefacts import sample_events
from tests.live import LiveService, live_service, wait_until
from tests.service.server.exchange import EVENT, Connection, check_refusal, check_score, event_request, post

pytestmark = pytest.mark.process
BODY_BYTES, HEADER_BYTES, URL_BYTES = 100_000, 2_000, 300


@pytest.fixture(scope="module")
def bounded(model_path: Path) -> Iterator[LiveService]:
    """Serve with small limits."""
    limits = {"--max-body-bytes": BODY_BYTES, "--max-header-bytes": HEADER_BYTES, "--max-url-bytes": URL_BYTES}
    with live_service(model_path, *(str(text) for pair in limits.items() for text in pair)) as service:
        yield service


UPGRADE = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
HEADS = [
    (f"GET /{'a' * URL_BYTES} HTTP/1.1\r\nHost: a\r\n\r\n", 414, f"expected at most {URL_BYTES}"),
    (f"GET /health HTTP/1.1\r\nHost: a\r\nX: {'a' * HEADER_BYTES}\r\n\r\n", 431, f"at most {HEADER_BYTES}"),
    ("GET /health HTTP/1.1\r\nHost: a\r\n" + "X: a\r\n" * 400 + "\r\n", 431, f"at most {HEADER_BYTES}"),
    ("GET /health HTTP/1.1\r\n\r\n", 400, "0 Host headers"),
    ("GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "2 Host headers"),
    ("GET /health HTTP/1.1\r\nHost a\r\n\r\n", 400, "not well-formed HTTP/1.1"),
    (f"GET /health HTTP/1.1\r\n{UPGRADE}\r\n", 400, "0 Host headers"),
    (f"GET /{'a' * URL_BYTES} HTTP/1.1\r\nHost: a\r\n{UPGRADE}\r\n", 414, "URL"),
    ("garbage\r\n\r\n", 400, "not well-formed"),
]
"""Heads that are too long or wrong; a request to upgrade is parsed a second time, and checked as any other."""


def test_a_head_that_is_not_taken_is_refused_in_words(bounded: LiveService, subtests: pytest.Subtests) -> None:
    """At once or in pieces: a JSON error that names the limit, the connection's end, and a count in the metrics."""
    for head, status, words in HEADS:
        for step in (10_000, 7):
            with subtests.test(msg=f"{head[:60]!r} by {step} bytes"), Connection(bounded) as connection:
                with suppress(ConnectionError):  # the refusal may come before the end of the head
                    for start in range(0, len(head), step):
                        connection.send(head[start : start + step].encode())
                check_refusal(connection.response(), status, words)
                assert connection.ended()
    assert bounded.metrics()["anomaly_requests_total route=other status=400"] > 0


def test_a_wrong_request_waits_for_the_responses_to_those_before_it(bounded: LiveService) -> None:
    """Two good requests and garbage in one write: two scores, then the refusal."""
    with Connection(bounded) as connection:
        connection.send(event_request() + event_request() + b"garbage\r\n\r\n")
        check_score(connection.response())
        check_score(connection.response())
        check_refusal(connection.response(), 400, "not well-formed")
        assert connection.ended()


def test_a_wrong_chunk_is_the_refusal_of_its_own_request(bounded: LiveService) -> None:
    """A body that stops being HTTP in the middle gets its 400 after the response to the request before it."""
    head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    for before in (0, 1, 2):
        with Connection(bounded) as connection:
            connection.send(before * event_request() + head + b"5\r\n12345\r\nzz\r\n")
            for _ in range(before):
                check_score(connection.response())
            check_refusal(connection.response(), 400, "not well-formed")
            assert connection.ended()


def test_endless_trailers_are_not_kept(bounded: LiveService) -> None:
    """What follows a body in chunks is bounded as a head is, and is no part of the request."""
    body = JSON.write("features", EVENT)
    head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    with Connection(bounded) as connection:
        connection.send(head + chunks + b"X-Some: trailer\r\n\r\n")
        check_score(connection.response())
        connection.send(head + chunks)
        try:
            for _ in range(10_000):
                connection.send(b"X: " + 50 * b"a" + b"\r\n")
        except ConnectionError:
            return
        check_refusal(connection.response(), 431, "what follows the body")


@pytest.mark.slow
def test_an_announced_body_is_refused_before_it_comes_and_not_read_for_ever(bounded: LiveService) -> None:
    """A body beyond the limit gets its 413 at once; a client that sends on regardless is cut off in the end."""
    head = post(b"", path="/score/batch", fmt=RAW).replace(b"Content-Length: 0", b"Content-Length: 1000000000")
    with Connection(bounded) as connection:
        connection.send(head)
        assert connection.response().status == 413
        sent, piece = 0, bytes(2**20)
        with suppress(ConnectionError):
            while sent < 2 * DISCARD_BYTES:
                connection.send(piece)
                sent += len(piece)
        assert DISCARD_BYTES - len(piece) <= sent < 2 * DISCARD_BYTES


def test_the_body_of_a_refused_request_is_not_the_next_request(bounded: LiveService) -> None:
    """A request inside the body of one that was refused early is never answered; the one after the body is."""
    inside = event_request()
    with Connection(bounded) as connection:
        connection.send(post(inside, "Content-Encoding: gzip") + event_request())
        response = connection.response()
        assert (response.status, "Content-Encoding is 'gzip'" in response.detail()) == (415, True)
        check_score(connection.response())


def test_an_upgrade_is_passed_over(bounded: LiveService) -> None:
    """Requests that ask for another protocol are answered in this one, bodies included, and so is what follows."""
    with Connection(bounded) as connection:
        asking = event_request(
            "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB"
        )
        connection.send(asking + asking + event_request())
        for _ in range(3):
            check_score(connection.response())


def test_a_client_that_leaves_stops_costing_work(bounded: LiveService) -> None:
    """Batches of clients that left before they were scored are not scored, and nothing is logged."""
    body = RAW.write("events", sample_events(4_000))
    before = bounded.metrics()["anomaly_events_scored_total"]
    for _ in range(20):
        with Connection(bounded) as connection:
            connection.send(post(body, fmt=RAW, path="/score/batch")[:-1])
    with Connection(bounded) as connection:
        connection.send(event_request())
        check_score(connection.response())
    wait_until(lambda: bounded.metrics()["anomaly_inflight_requests"] == 0)
    assert bounded.metrics()["anomaly_events_scored_total"] == before + 1
    assert bounded.log_levels == {"INFO"}

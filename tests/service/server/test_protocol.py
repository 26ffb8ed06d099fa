"""HTTP/1.1 byte by byte: whole replies, in the order of their requests, however the client speaks and reads."""

import email.utils
import json
import re
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest

from tests.artefacts import RTOL, oracle, sample_events
from tests.live import LiveService, live_service
from tests.service.formats.encodings import JSON, NPY, RAW, Format

PATIENCE_S = 30
EVENT = sample_events(1)[0]


class Reply(NamedTuple):
    """A reply as it was read."""

    status_line: str
    headers: dict[str, str]
    body: bytes


class Wire:
    """A connection on which bytes are written and replies are read."""

    def __init__(self, service: LiveService, receive_buffer_bytes: int | None = None) -> None:
        url = httpx.URL(service.base_url)
        self.socket = socket.socket()
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect((url.host, url.port))
        self._read = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def _more(self) -> None:
        more = self.socket.recv(65_536)
        assert more, self._read
        self._read += more

    def head(self) -> tuple[str, dict[str, str]]:
        """Read a status line and the headers, each of which comes once and in order."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, self._read = self._read.split(b"\r\n\r\n", 1)
        status_line, *lines = head.decode("ascii").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert re.fullmatch(r"[a-z-]+", name)
            assert value == value.strip() != ""
            assert name not in headers
            headers[name] = value
        return status_line, headers

    def reply(self, *, without_body: bool = False) -> Reply:
        """Read a whole reply, and no more."""
        status_line, headers = self.head()
        length = 0 if without_body else int(headers["content-length"])
        while len(self._read) < length:
            self._more()
        body, self._read = self._read[:length], self._read[length:]
        return Reply(status_line, headers, body)

    def ended(self) -> bool:
        """Tell whether the service has closed the connection, with nothing more to say."""
        return not self._read and self.socket.recv(1) == b""


@pytest.fixture(scope="module", params=[[], ["--access-log"]], ids=["one-write", "access-log"])
def spoken(model_path: Path, request: pytest.FixtureRequest) -> Iterator[LiveService]:
    """Serve with and without a log of requests, which have ways of their own to send a reply."""
    with live_service(model_path, *request.param) as service:
        yield service


def post(
    body: bytes,
    *lines: str,
    fmt: Format = JSON,
    path: str = "/score",
    version: str = "1.1",
) -> bytes:
    """Write a POST request with these further headers."""
    head = [f"POST {path} HTTP/{version}", "Host: a", f"Content-Type: {fmt.media_type}", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def event_request(*lines: str, version: str = "1.1", path: str = "/score") -> bytes:
    """Write a request for the score of EVENT."""
    return post(JSON.write("features", EVENT), *lines, version=version, path=path)


def check_head(reply: Reply, status: str, model: bool = True) -> None:
    """Check what every reply to a request to score starts with."""
    assert reply.status_line == f"HTTP/1.1 {status}"
    sent = email.utils.parsedate_to_datetime(reply.headers["date"])
    assert abs(sent.timestamp() - time.time()) < 3600
    assert reply.headers["date"].endswith(" GMT")
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert ("model-version" in reply.headers) == model


def check_score(reply: Reply) -> None:
    """Check that this is the score of EVENT."""
    check_head(reply, "200 OK")
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body).keys() == {"anomaly_score"}
    np.testing.assert_allclose(json.loads(reply.body)["anomaly_score"], oracle(EVENT[np.newaxis])[0], RTOL)


def test_a_reply_is_a_whole_message(spoken: LiveService) -> None:
    """Status line, date, model, type and length come before the body, and the connection stays open."""
    with Wire(spoken) as wire:
        for _ in range(3):
            wire.send(event_request())
            reply = wire.reply()
            check_score(reply)
            assert set(reply.headers) == {"date", "model-version", "content-type", "content-length"}


@pytest.mark.parametrize(
    ("request_bytes", "status", "detail"),
    [
        (post(b'{"features": 7}'), "400 Bad Request", "features is a number, expected a list of 5 numbers"),
        (post(b"", path="/score/batch"), "400 Bad Request", "the body is empty, expected at least 1 event"),
        (event_request("Accept: text/html"), "406 Not Acceptable", 'Accept is "text/html", expected one of'),
        (post(b"x").replace(b"json", b"yaml"), "415 Unsupported Media Type", "Content-Type is"),
    ],
)
def test_a_refusal_is_a_whole_message(spoken: LiveService, request_bytes: bytes, status: str, detail: str) -> None:
    """Errors are framed as scores are, are not to be kept, and leave the connection open."""
    with Wire(spoken) as wire:
        wire.send(request_bytes)
        reply = wire.reply()
        check_head(reply, status, model=False)
        assert (reply.headers["content-type"], reply.headers["cache-control"]) == ("application/json", "no-store")
        assert json.loads(reply.body)["status_code"] == int(status[:3])
        assert json.loads(reply.body)["detail"].startswith(detail)
        wire.send(event_request())
        check_score(wire.reply())


def test_a_working_point_s_threshold_is_a_header(spoken: LiveService) -> None:
    """Headers of one request alone are framed like all others."""
    with Wire(spoken) as wire:
        wire.send(event_request(path="/score?working_point=loose"))
        reply = wire.reply()
        check_head(reply, "200 OK")
        assert reply.headers["score-threshold"] == "2.0"
        assert json.loads(reply.body).keys() == {"anomaly_score", "accepted"}


def test_the_connection_is_closed_for_a_client_that_wants_it(spoken: LiveService) -> None:
    """After `Connection: close` the reply says so, and ends the connection."""
    with Wire(spoken) as wire:
        wire.send(event_request("Connection: close"))
        reply = wire.reply()
        check_score(reply)
        assert reply.headers["connection"] == "close"
        assert wire.ended()


def test_a_client_of_http_1_0_is_answered(spoken: LiveService) -> None:
    """A client of the old version gets the same reply, and the end of the connection."""
    with Wire(spoken) as wire:
        wire.send(event_request(version="1.0"))
        reply = wire.reply()
        check_score(reply)
        assert reply.headers["connection"] == "close"
        assert wire.ended()


def test_requests_of_one_packet_are_answered_in_order(spoken: LiveService) -> None:
    """Pipelined requests, good and wrong ones and of both routes, get their replies in the requests' order."""
    events = sample_events(40)
    sent = b""
    for place, event in enumerate(events):
        sent += post(RAW.write("features", event), fmt=RAW)
        if place % 7 == 0:
            sent += post(b'{"features": []}')
        if place % 5 == 0:
            sent += post(RAW.write("events", events[place:]), fmt=RAW, path="/score/batch")
        if place % 11 == 0:
            sent += b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    with Wire(spoken) as wire:
        wire.send(sent)
        for place in range(len(events)):
            expected = oracle(events[place:])
            np.testing.assert_allclose(np.frombuffer(wire.reply().body, "<f4"), expected[:1], RTOL)
            if place % 7 == 0:
                assert wire.reply().status_line == "HTTP/1.1 400 Bad Request"
            if place % 5 == 0:
                np.testing.assert_allclose(np.frombuffer(wire.reply().body, "<f4"), expected, RTOL)
            if place % 11 == 0:
                assert wire.reply().body == b'{"status":"ok"}'
        wire.send(event_request("Connection: close"))
        check_score(wire.reply())
        assert wire.ended()


def test_a_client_that_waits_to_send_is_told_to(spoken: LiveService) -> None:
    """With Expect: 100-continue the body is asked for, and one reply follows; a refused head gets its refusal alone."""
    body = JSON.write("features", EVENT)
    request = post(body, "Expect: 100-continue")
    with Wire(spoken) as wire:
        for _ in range(2):
            wire.send(request.removesuffix(body))
            assert wire.head() == ("HTTP/1.1 100 Continue", {})
            wire.send(body)
            check_score(wire.reply())
        wire.send(request.removesuffix(body).replace(b"json", b"yaml"))
        assert wire.reply().status_line == "HTTP/1.1 415 Unsupported Media Type"


def test_a_body_in_chunks_is_a_body(spoken: LiveService) -> None:
    """Chunks of any length, one byte included, are the body that they make up."""
    body = JSON.write("features", EVENT)
    head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with Wire(spoken) as wire:
        for step in (1, 7, len(body)):
            pieces = [body[start : start + step] for start in range(0, len(body), step)]
            wire.send(head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n")
            check_score(wire.reply())


def test_a_client_that_reads_late_gets_all_its_replies(spoken: LiveService) -> None:
    """Replies wait, in order, for a client that sends on and does not read, and others are answered meanwhile."""
    batches = [sample_events(n_events, seed=n_events) for n_events in (20_000, 1, 30_000, 17) * 6]
    requests = [
        post(RAW.write("events", events), f"Accept: {NPY.media_type}", fmt=RAW, path="/score/batch")
        for events in batches
    ]
    with Wire(spoken, receive_buffer_bytes=4096) as wire, Wire(spoken) as other:
        wire.socket.setblocking(False)
        left = memoryview(b"".join(requests))
        stalled = 0
        while left and stalled < 20:  # until the service takes no more, for it has too much to say
            try:
                left = left[wire.socket.send(left) :]
                stalled = 0
            except BlockingIOError:
                other.send(event_request())
                check_score(other.reply())
                stalled += 1
        wire.socket.settimeout(PATIENCE_S)
        receive_all(wire, left, batches)


def receive_all(wire: Wire, left: memoryview, batches: Sequence[np.ndarray]) -> None:
    """Read the scores of all batches while the rest of the requests is sent."""
    for events in batches:
        while left:
            wire.socket.setblocking(False)
            try:
                left = left[wire.socket.send(left) :]
            except BlockingIOError:
                break
            finally:
                wire.socket.settimeout(PATIENCE_S)
        scores = NPY.read("anomaly_scores", wire.reply().body)
        np.testing.assert_allclose(scores, oracle(events), RTOL)


def leave_after(service: LiveService, data: bytes) -> None:
    """Send this, leave, and see that the next client is answered and nothing wrong is in the log."""
    with Wire(service) as wire:
        wire.send(data)
    with Wire(service) as wire:
        wire.send(event_request())
        check_score(wire.reply())
    assert not [line for line in service.log_lines if line["level"] not in {"INFO", "DEBUG"}]


def test_a_client_that_leaves_before_its_reply_harms_nobody(spoken: LiveService) -> None:
    """Connections that end within a request, or after it, leave the service as it was."""
    for data in (event_request()[:-5], event_request(), post(bytes(10), fmt=RAW)):
        leave_after(spoken, data)


@pytest.mark.parametrize("flags", [[], ["--access-log"]], ids=["one-write", "access-log"])
def test_a_client_that_leaves_before_many_replies_harms_nobody(model_path: Path, flags: list[str]) -> None:
    """Connections that end while many requests of theirs wait leave the service as it was."""
    with live_service(model_path, *flags) as service:
        for _ in range(3):
            leave_after(service, event_request() * 50)


def test_other_methods_and_paths_are_framed_as_ever(spoken: LiveService) -> None:
    """HEAD has the headers of GET without a body, and unknown paths and methods are refused, on one connection."""
    with Wire(spoken) as wire:
        wire.send(b"HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n")
        reply = wire.reply(without_body=True)
        assert (reply.status_line, reply.headers["content-length"]) == ("HTTP/1.1 200 OK", "15")
        wire.send(b"HEAD /score HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wire.reply(without_body=True).status_line == "HTTP/1.1 405 Method Not Allowed"
        for request_line, status in (
            (b"GET /score", "405 Method Not Allowed"),
            (b"PUT /score/batch", "405 Method Not Allowed"),
            (b"GET /nowhere", "404 Not Found"),
            (b"POST /score/nowhere", "404 Not Found"),
        ):
            wire.send(request_line + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            reply = wire.reply()
            check_head(reply, status, model=False)
            assert json.loads(reply.body)["status_code"] == int(status[:3])
        wire.send(event_request())
        check_score(wire.reply())


def test_a_path_with_a_slash_at_its_end_is_the_same(model_path: Path) -> None:
    """/score/ and /score/batch/ score, and their events are counted as those of the paths without."""
    events = sample_events(300)
    with live_service(model_path) as service, Wire(service) as wire:
        wire.send(event_request(path="/score/"))
        check_score(wire.reply())
        wire.send(post(RAW.write("events", events), fmt=RAW, path="/score/batch/"))
        np.testing.assert_allclose(np.frombuffer(wire.reply().body, "<f4"), oracle(events), RTOL)
        text = httpx.get(f"{service.base_url}/metrics").text
        assert "anomaly_events_scored_total 301.0" in text
        assert 'anomaly_requests_total{route="/score",status="200"} 1.0' in text
        assert 'anomaly_requests_total{route="/score/batch",status="200"} 1.0' in text


def test_requests_are_logged_only_where_that_is_wanted(spoken: LiveService, request: pytest.FixtureRequest) -> None:
    """With --access-log each request is a line, with its status; without it none is."""
    with Wire(spoken) as wire:
        wire.send(b"GET /no/route?query HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert wire.reply().status_line == "HTTP/1.1 404 Not Found"
        assert wire.ended()
    logged = [line["status"] for line in spoken.events("request") if line["path"] == "/no/route"]
    assert logged == [404] * ("access-log" in request.node.callspec.id)

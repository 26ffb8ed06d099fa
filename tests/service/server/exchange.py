"""One connection to a live service: requests sent whole or in pieces, responses read by the letter of HTTP/1.1."""

import email.utils
import json
import re
import socket
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

import httpx
import numpy as np

from benchmarks.load.formats import JSON, RAW, Format
from tests.artefacts import RTOL, oracle, sample_events
from tests.live import TIMEOUT_S, LiveService

EVENT = sample_events(1)[0]


class Response(NamedTuple):
    """A response as it was read."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Return whether the service ends the connection after it."""
        return self.headers.get("connection") == "close"

    def detail(self) -> str:
        """Return the message of an error, whose form is checked."""
        assert self.headers["content-type"] == "application/json"
        error = json.loads(self.body)
        if error.keys() == {"error"}:  # of the Open Inference Protocol
            assert isinstance(error["error"], str)
            return error["error"]
        assert error.keys() == {"status_code", "detail"}
        assert error["status_code"] == self.status
        assert isinstance(error["detail"], str)
        return error["detail"]


class Connection:
    """A connection on which bytes are written and responses are read."""

    def __init__(self, service: LiveService, receive_buffer_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(service.address)
        self._service = service
        self._other: Connection | None = None
        self._read = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()
        if self._other is not None:
            self._other.close()

    def send(self, data: bytes) -> None:
        """Send all of it; raises ConnectionError once the service has closed the connection."""
        self.socket.sendall(data)

    def send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Send each piece once the service has read the one before; stops where the service no longer takes any."""
        try:
            for place, piece in enumerate(pieces):
                if place:
                    self.wait_until_read()
                self.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # its response is still to be read

    def finish(self) -> None:
        """Say that no more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def head(self) -> tuple[int, dict[str, str]]:
        """Read a status line and the headers, each of which comes once."""
        while b"\r\n\r\n" not in self._read:
            self._receive()
        head, self._read = self._read.split(b"\r\n\r\n", 1)
        status_line, *lines = head.decode("ascii").split("\r\n")
        status = HTTPStatus(int(status_line[9:12]))
        assert status_line == f"HTTP/1.1 {status.value} {status.phrase}"
        headers: dict[str, str] = {}
        for line in lines:
            field = re.fullmatch(r"([a-z-]+): ([!-~]+(?: [!-~]+)*)", line)
            assert field, line
            assert field[1] not in headers, line
            headers[field[1]] = field[2]
        return status.value, headers

    def response(self, method: str = "POST") -> Response:
        """Read one response, and no byte more than belongs to it."""
        status, headers = self.head()
        return Response(status, headers, self.body(0 if method == "HEAD" else int(headers["content-length"])))

    def body(self, n_bytes: int) -> bytes:
        """Read a body of this length, and no byte more."""
        while len(self._read) < n_bytes:
            self._receive()
        body, self._read = self._read[:n_bytes], self._read[n_bytes:]
        return body

    def ended(self) -> bool:
        """Return whether the service closes the connection with nothing more to say."""
        try:
            return not self._read and self.socket.recv(1) == b""
        except ConnectionResetError:  # as it does to a client that still sends
            return True

    def _receive(self) -> None:
        more = self.socket.recv(65_536)
        assert more, f"the connection ended after {self._read!r}"
        self._read += more

    def wait_until_read(self) -> None:
        """Wait until the service has read what was sent: it does before it answers a later request."""
        if self._other is None:
            self._other = Connection(self._service)
        self._other.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert self._other.response().status == 200


def post(body: bytes, *lines: str, fmt: Format = JSON, path: str = "/score", version: str = "1.1") -> bytes:
    """Write a POST request with these further headers."""
    more = [f"{name}: {value}" for name, value in fmt.headers]
    head = [f"POST {path} HTTP/{version}", "Host: a", f"Content-Type: {fmt.media_type}", *more, *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def event_request(*lines: str, version: str = "1.1", path: str = "/score") -> bytes:
    """Write a request for the score of EVENT."""
    return post(JSON.write("features", EVENT), *lines, version=version, path=path)


def check_head(response: Response, status: int, model: bool = True) -> None:
    """Check what every response to a request to score starts with."""
    assert response.status == status
    sent = email.utils.parsedate_to_datetime(response.headers["date"])
    assert abs(sent.timestamp() - time.time()) < 3600
    assert response.headers["date"].endswith(" GMT")
    assert int(response.headers["content-length"]) == len(response.body)
    assert ("model-version" in response.headers) == model


def check_score(response: Response) -> None:
    """Check that this is the score of EVENT."""
    check_head(response, 200)
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.body).keys() == {"anomaly_score"}
    np.testing.assert_allclose(json.loads(response.body)["anomaly_score"], oracle(EVENT[np.newaxis])[0], RTOL)


def check_refusal(response: Response, status: int, words: str) -> None:
    """Check that this is an error with these words, after which the connection is closed."""
    assert (response.status, response.closes) == (status, True)
    assert words in response.detail()


LONG_TIMEOUTS = ("--stall-s", "3600", "--request-s", "3600")
"""Settings with which a request that was begun stays in flight, however long the test takes."""


def begin(connection: Connection, n_events: int) -> bytes:
    """Send a batch of raw events up to the last byte of its body, have it in flight, and give that byte."""
    body = RAW.write("events", sample_events(n_events))
    whole = post(body, "Expect: 100-continue", fmt=RAW, path="/score/batch")
    connection.send(whole[: -len(body)])
    assert connection.head() == (100, {})  # sent once the service reads the body
    connection.send(body[:-1])
    return body[-1:]


def score(service: LiveService) -> httpx.Response:
    """Score EVENT over a connection of its own."""
    return service.post("/score", JSON.write("features", EVENT), JSON.media_type)

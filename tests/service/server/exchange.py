"""One connection to a live service: bytes sent whole or in pieces, and replies read by the letter of HTTP/1.1.

It does not know what is asked, nor what the service should answer.
"""

import json
import re
import socket
from collections.abc import Iterable
from typing import NamedTuple

import httpx

from tests.live import LiveService

PATIENCE_S = 30


class Reply(NamedTuple):
    """A reply as it was read."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Tell whether the service ends the connection after it."""
        return self.headers.get("connection") == "close"

    def detail(self) -> str:
        """Give the message of an error, whose form is checked."""
        assert self.headers["content-type"] == "application/json"
        said = json.loads(self.body)
        assert said.keys() == {"status_code", "detail"}
        assert said["status_code"] == self.status
        assert isinstance(said["detail"], str)
        return said["detail"]


class Connection:
    """A connection on which bytes are written and replies are read."""

    def __init__(self, service: LiveService) -> None:
        url = httpx.URL(service.base_url)
        self._socket = socket.create_connection((url.host, url.port or 0), PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._service = service
        self._other: Connection | None = None
        self._read = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._socket.close()
        if self._other is not None:
            self._other.close()

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send each piece once the service has read the one before; stops where the service no longer takes any."""
        try:
            for place, piece in enumerate(pieces):
                if place:
                    self._wait_until_read()
                self._socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has answered, which is to be read

    def finish(self) -> None:
        """Say that no more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def reply(self, method: str = "POST") -> Reply:
        """Read one reply, and no byte more than belongs to it."""
        while b"\r\n\r\n" not in self._read:
            self._receive()
        head, self._read = self._read.split(b"\r\n\r\n", 1)
        status_line, *lines = head.decode("ascii").split("\r\n")
        found = re.fullmatch(r"HTTP/1\.1 ([1-5]\d\d) [A-Za-z -]+", status_line)
        assert found, status_line
        headers: dict[str, str] = {}
        for line in lines:
            field = re.fullmatch(r"([a-z-]+): ([!-~]+(?: [!-~]+)*)", line)
            assert field, line
            assert field[1] not in headers, line
            headers[field[1]] = field[2]
        length = 0 if method == "HEAD" else int(headers["content-length"])
        while len(self._read) < length:
            self._receive()
        body, self._read = self._read[:length], self._read[length:]
        return Reply(int(found[1]), headers, body)

    def ended(self) -> bool:
        """Tell whether the service closes the connection with nothing more to say."""
        try:
            return not self._read and self._socket.recv(1) == b""
        except ConnectionResetError:  # as it does to those who still send
            return True

    def _receive(self) -> None:
        more = self._socket.recv(65_536)
        assert more, f"the connection ended after {self._read!r}"
        self._read += more

    def _wait_until_read(self) -> None:
        """Wait until the service has read what was sent: it does before it answers who asks later."""
        if self._other is None:
            self._other = Connection(self._service)
        self._other.send([b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"])
        assert self._other.reply().status == 200

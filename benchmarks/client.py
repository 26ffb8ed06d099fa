"""A client that waits for each reply: one kept-alive connection, requests as bytes.

It does not know formats or scores.
"""

import socket
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urlsplit

TIMEOUT_S = 60
PIECE_BYTES = 1 << 16
"""A kernel that is not preemptible copies all that it is given before another process has its turn."""


class Reply(NamedTuple):
    """A reply, and how many bytes its head and body have together."""

    status: int
    head: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Count the bytes of head and body."""
        return len(self.head) + len(self.body)

    @property
    def headers(self) -> dict[str, str]:
        """Give the fields of the head, their names in lower case."""
        fields = [line.split(":", 1) for line in self.head.decode("latin-1").splitlines()[1:] if line]
        return {name.lower(): value.strip() for name, value in fields}


def address(url: str) -> tuple[str, int]:
    """Give the host and the port of a URL; raises ValueError where it has not both."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"{url} has no host and port, expected http://HOST:PORT")
    return parts.hostname, parts.port


def encode(url: str, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """Write a request of HTTP/1.1."""
    fields = {"Host": urlsplit(url).netloc, **(headers or {}), "Content-Length": str(len(body))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


class Client:
    """A connection, open until the end of its `with` block; raises OSError where it breaks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._socket = socket.create_connection(address(url), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._socket.close()

    def get(self, path: str) -> Reply:
        """Ask for a page."""
        return self.send(encode(self._url, "GET", path))

    def post(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Post a body."""
        return self.send(encode(self._url, "POST", path, headers, body))

    def send(self, request: bytes) -> Reply:
        """Send what `encode` wrote, and wait for the reply."""
        for start in range(0, len(request), PIECE_BYTES):
            self._socket.sendall(memoryview(request)[start : start + PIECE_BYTES])
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        head = bytes(received[: end + 4])
        reply = Reply(int(head.split(None, 2)[1]), head, b"")
        length = int(reply.headers["content-length"])
        del received[: end + 4]
        while len(received) < length:
            received += self._receive()
        return reply._replace(body=bytes(received))

    def _receive(self) -> bytes:
        data = self._socket.recv(PIECE_BYTES)
        if not data:
            raise ConnectionError("the server closed the connection within a reply")
        return data

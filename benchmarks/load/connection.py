"""A kept-alive HTTP/1.1 connection that carries one request at a time and never sends one twice."""

import re
import select
import socket
import struct
import time
from collections.abc import Callable
from functools import cache
from typing import Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

TIMEOUT_S: Final = 60
PIECE_BYTES: Final = 1 << 16
"""Limited, because a non-preemptible kernel copies all the data before another process can run."""
UNSENT_BYTES: Final = 1 << 17
"""Size of the send buffer; with the default, complete bodies would be buffered for a server that reads slowly."""
TCP_INFO_BYTES = 128
ACKNOWLEDGED = struct.Struct("<120xQ")
"""tcpi_bytes_acked in Linux's struct tcp_info."""


class LostError(ConnectionError):
    """A request without a complete response; `how` is one of four cases.

    Unsent: no connection, so no byte of the request was written. Closed idle: the connection had been used before, the
    server closed it, and the server's system acknowledged no byte of the request. Reset: no byte of a response was
    received. Cut: only a part was received.
    """

    def __init__(self, how: Literal["unsent", "closed idle", "reset", "cut"], detail: str) -> None:
        super().__init__(detail)
        self.how = how


class Response(NamedTuple):
    """A response: its status, the status line with the headers, and its body."""

    status: int
    head: bytes
    body: bytes

    @property
    def size(self) -> int:
        """Count the bytes of head and body."""
        return len(self.head) + len(self.body)

    @property
    def headers(self) -> dict[str, str]:
        """The headers, their names in lower case."""
        fields = [line.split(":", 1) for line in self.head.decode("latin-1").splitlines()[1:] if line]
        return {name.lower(): value.strip() for name, value in fields}

    def header(self, name: str) -> str | None:
        """Return the value of one header, or None."""
        found = _field(name).search(self.head)
        return found[1].decode("latin-1") if found else None


class Request(NamedTuple):
    """A request as bytes, and a function that describes how a response of status 200 is wrong, or returns None."""

    name: str
    data: bytes
    fault: Callable[[Response], str | None]

    @classmethod
    def exact(cls, name: str, data: bytes, body: bytes) -> "Request":
        """Expect a response with exactly this body."""
        return cls(
            name, data, lambda response: None if response.body == body else f"the body is {response.body[:200]!r}"
        )


@cache
def _field(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"\r\n%b: *([^\r]*)" % name.encode(), re.IGNORECASE)


def address(url: str) -> tuple[str, int]:
    """Return the host and the port of a URL; raises ValueError where it lacks one."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"{url} has no host and port, expected http://HOST:PORT")
    return parts.hostname, parts.port


def encode(url: str, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """Return an HTTP/1.1 request."""
    fields = {"Host": urlsplit(url).netloc, **(headers or {}), "Content-Length": str(len(body))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def get(url: str, path: str) -> Response:
    """Send one GET request on a new connection. Raises LostError."""
    with Connection(url) as connection:
        return connection.ask(encode(url, "GET", path))


class Connection:
    """A non-blocking connection, opened by `begin` if necessary.

    `ask` waits for the response; a load generator polls `fileno()` and calls `proceed` instead. A request is sent
    completely even if the response comes earlier. `n_responses` counts responses since the connection was opened;
    `sent_s` and `received_s` are the times of the last bytes.
    """

    def __init__(self, url: str) -> None:
        self._address = address(url)
        self._socket: socket.socket | None = None
        self._unsent = memoryview(b"")
        self._written = self._acknowledged = 0
        self._send_error: OSError | None = None
        self._received = bytearray()
        self._end: int | None = None
        self._response: Response | None = None
        self.n_responses = 0
        self.sent_s = self.received_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def fileno(self) -> int:
        """Return the file descriptor of the open connection."""
        assert self._socket is not None
        return self._socket.fileno()

    @property
    def is_open(self) -> bool:
        """Whether the next request uses the existing connection."""
        return self._socket is not None

    @property
    def unsent(self) -> bool:
        """Whether a part of the request is still to be sent."""
        return bool(self._unsent)

    def ask(self, request: bytes, timeout_s: float = TIMEOUT_S) -> Response:
        """Send a request and wait for its response; raises LostError, after which the connection is closed."""
        self.begin(request)
        poll = select.poll()
        while (response := self.proceed()) is None:
            poll.register(self.fileno(), select.POLLIN | (select.POLLOUT if self.unsent else 0))
            if not poll.poll(timeout_s * 1e3):
                raise self.lost(TimeoutError(f"nothing for {timeout_s} s"))
        return response

    def is_stalled(self, now_s: float) -> bool:
        """Return whether nothing was sent or received for TIMEOUT_S."""
        return now_s - max(self.sent_s, self.received_s) > TIMEOUT_S

    def begin(self, request: bytes) -> None:
        """Start to send a request; raises LostError."""
        opened = self._socket or self._open()
        if self.n_responses:
            self._require_idle(opened)
        self._acknowledged = self._written
        self._unsent = memoryview(request)
        self._send_error, self._response, self._end = None, None, None
        self.sent_s = time.perf_counter()
        self._received.clear()
        self._send(opened)

    def proceed(self) -> Response | None:
        """Send and receive without blocking; return the response once it is complete.

        Raises LostError, after which the connection is closed.
        """
        assert self._socket is not None
        if self._unsent:
            self._send(self._socket)
        if self._response is None:
            self._receive(self._socket)
        if self._response is None or self._unsent:
            return None
        response, self._response = self._response, None
        self.n_responses += 1
        if (response.header("connection") or "").lower() == "close":
            self.close()
        return response

    def lost(self, error: Exception) -> LostError:
        """Close the connection and describe how its request was lost."""
        opened, received = self._socket, bytes(self._received[:100])
        detail = f"{self._send_error or error!r} after {len(self._received)} bytes of the response, {received!r}"
        try:
            if received:
                return LostError("cut", detail)
            # bytes_acked counts the SYN too.
            if opened and self.n_responses and isinstance(error, EOFError) and _acked(opened) <= self._acknowledged + 1:
                return LostError("closed idle", detail)
            return LostError("reset", f"{detail}; request {self.n_responses + 1} of its connection")
        finally:
            self.close()

    def _open(self) -> socket.socket:
        try:
            opened = socket.create_connection(self._address, TIMEOUT_S)
        except OSError as error:
            raise LostError("unsent", repr(error)) from error
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)
        opened.setblocking(False)
        self._socket, self.n_responses, self._written = opened, 0, 0
        return opened

    def _require_idle(self, opened: socket.socket) -> None:
        """Raise LostError if the server has closed the idle connection or has sent data without a request."""
        try:
            sent = opened.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.close()
            raise LostError("closed idle", repr(error)) from error
        self.close()
        if sent:
            raise LostError("cut", f"the server sent {sent[:200]!r} without a request")
        raise LostError("closed idle", "closed before the request was written")

    def _send(self, opened: socket.socket) -> None:
        try:
            sent = opened.send(self._unsent[:PIECE_BYTES])
        except BlockingIOError:
            return
        except OSError as error:  # the server may have responded before the end of the request
            self._send_error, self._unsent = error, memoryview(b"")
            return
        self.sent_s = time.perf_counter()
        self._written += sent
        self._unsent = self._unsent[sent:]

    def _receive(self, opened: socket.socket) -> None:
        try:
            received = opened.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise self.lost(error) from error
        if not received:
            raise self.lost(EOFError("the server closed the connection"))
        self.received_s = time.perf_counter()
        self._received += received
        if self._end is None:
            self._end = self._find_end()
        if self._end is not None and len(self._received) >= self._end:
            if len(self._received) > self._end:
                raise self.lost(ValueError(f"{len(self._received) - self._end} bytes more than the response"))
            head, separator, body = bytes(self._received).partition(b"\r\n\r\n")
            self._response = Response(int(head.split(None, 2)[1]), head + separator, body)

    def _find_end(self) -> int | None:
        """Return the length of the response once its headers are received. Raises LostError if they are invalid."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = Response(0, bytes(self._received[: end + 4]), b"")
        length = head.header("content-length") or ""
        if not re.match(rb"HTTP/1\.1 \d{3} ", head.head) or not length.isdigit():
            raise self.lost(ValueError("the response has no status or no Content-Length"))
        return end + 4 + int(length)


def _acked(opened: socket.socket) -> int:
    """Return the number of bytes that the server's system has acknowledged."""
    info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    count: int = ACKNOWLEDGED.unpack(info)[0]
    return count

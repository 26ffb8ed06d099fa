"""A request and its response, which is sent in one write."""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from weakref import ref

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.api.extensions import Headers
from service.api.request_id import find_id
from service.errors import STATUSES, OverloadedError
from service.server.discard import DISCARD_BYTES

STATUS_LINES: Final = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
KEEP_ALIVE: Final = b"keep-alive"
JOINED_BYTES: Final = 4096
"""Up to this size, copying a body takes less time than a write of head and body as two buffers."""

SECURED_BYTES: Final = 65_536
"""Bytes that are written to TLS at once, and buffered before the client counts as behind."""

RETRY_LATER: Final = STATUSES[OverloadedError]


class Cycle(RequestResponseCycle):
    """A request and its response, which is sent in one write."""

    refused = False
    """Whether the response tells the client to retry later."""
    _head: bytes | None = None
    learn: Callable[["Cycle", Headers], None] | None = None
    """Called with the response's headers when the request is answered with scores."""

    @property
    def announced_bytes(self) -> int:
        """The Content-Length; 0 without one."""
        return next((int(value) for name, value in self.scope["headers"] if name == b"content-length"), 0)

    async def send(self, message: ASGISendEvent) -> None:
        """Send a response by ASGI messages: its start, and then its whole body."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            given = tuple((name, value) for name, value in message.get("headers", ()))
            headers = tuple(header for header in given if header[0].lower() != b"connection")
            self.keep_alive = self.keep_alive and headers == given  # the only value in use is close
            self.refused = message["status"] == RETRY_LATER
            self._head = self.head(message["status"], headers)
        elif message["type"] == "http.response.body" and self._head is not None and not message.get("more_body"):
            self.write(self._head, b"" if self.scope["method"] == "HEAD" else message.get("body", b""))
            self._head = None
        else:
            raise RuntimeError(f"unexpected ASGI message {message['type']}, expected a start and then a whole body")

    def head(self, status: int, headers: Headers) -> bytes:
        """Format the status line and headers, with the id of the request if it has one, each with its line end."""
        return response_head(status, headers) + id_header(find_id(self.scope["headers"]))

    def write(self, head: bytes, body: bytes | bytearray) -> None:
        """Write a whole response: `head` is its status line and headers, each with its line end."""
        self.response_started = True
        if self.more_body and (self.waiting_for_100_continue or self.announced_bytes > DISCARD_BYTES):
            self.keep_alive = False  # the body may never arrive, or may be too long to discard
        staying, closing = connection_headers(self.default_headers)
        head = b"%b%b\r\n" % (head, staying if self.keep_alive else closing)
        write_response(self.transport, self.scope["scheme"], head, body)
        self.response_complete = True
        self.body = bytearray()  # else its unread part would live as long as the connection
        self.message_event.set()
        self.on_response()


def write_response(transport: asyncio.Transport, scheme: str | None, head: bytes, body: bytes | bytearray) -> None:
    """Write a whole head and a body in one write; over TLS, a long body takes a few.

    Over TLS, uvloop counts none of the first write as buffered, however little of it the client reads; it counts only
    later writes.
    """
    if len(body) <= JOINED_BYTES:
        transport.write(head + body)
        return
    if len(body) <= SECURED_BYTES or scheme != "https":
        transport.writelines([head, body])
        return
    transport.write(head)
    left = memoryview(body)
    while left and not transport.is_closing():
        n_bytes = len(left) if transport.get_write_buffer_size() else SECURED_BYTES
        transport.write(left[:n_bytes])
        left = left[n_bytes:]


_written: tuple[list[tuple[bytes, bytes]], tuple[bytes, bytes]] = ([], (b"", b"connection: close\r\n"))


def connection_headers(given: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Format the headers of all responses, for a connection that stays open and one that closes, once a second."""
    global _written  # noqa: PLW0603  # the server replaces the list once a second, on one thread
    if _written[0] is not given:
        staying = b"".join([b"%b: %b\r\n" % header for header in given])
        closing = b"".join([b"%b: %b\r\n" % header for header in given if header[0] != KEEP_ALIVE])
        _written = given, (staying, closing + b"connection: close\r\n")
    return _written[1]


def id_header(request_id: bytes | None) -> bytes:
    """Format the header that returns the id of a request; empty without an id."""
    return b"" if request_id is None else b"x-request-id: %b\r\n" % request_id


@lru_cache(maxsize=256)
def response_head(status: int, headers: Headers) -> bytes:
    """Format a status line and headers, each with its line end."""
    return b"".join([STATUS_LINES[status], *[b"%b: %b\r\n" % header for header in headers]])


def send_response(of: ref[Cycle], status: int, headers: Headers, body: bytes | bytearray) -> bool:
    """Write a response in one call; return False if it has to wait until the client reads."""
    cycle = of()
    if cycle is None or cycle.flow.write_paused:
        return False
    if not cycle.disconnected and not cycle.response_complete:
        cycle.refused = status == RETRY_LATER
        if cycle.learn is not None:
            cycle.learn(cycle, headers)
        cycle.write(b"%bcontent-length: %d\r\n" % (cycle.head(status, headers), len(body)), body)
    return True

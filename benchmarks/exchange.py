"""A kept-alive connection that sends a request and, where no reply comes, says how the request was lost.

It does not know formats or scores, and never sends a request twice.
"""

import socket
import ssl
import struct
from typing import Final, Literal
from urllib.parse import urlsplit

from benchmarks.client import PIECE_BYTES, Reply, address

How = Literal["unsent", "closed idle", "reset", "cut"]
UNSENT: Final = "unsent"
CLOSED_IDLE: Final = "closed idle"
RESET: Final = "reset"
CUT: Final = "cut"

TCP_INFO_BYTES = 128
ACKNOWLEDGED = struct.Struct("<120xQ")
"""tcpi_bytes_acked in Linux's struct tcp_info."""


class LostError(Exception):
    """A request has no whole reply; `how` says what is known of it.

    Unsent: no connection, and so no byte of it was written. Closed idle: the connection had served before, the server
    ended it, and its system acknowledged no byte of the request. Reset: no byte of a reply came. Cut: some came.
    """

    def __init__(self, how: How, detail: str) -> None:
        super().__init__(detail)
        self.how = how


class Connection:
    """A connection, opened when it is needed; `exchanges` are those since then."""

    def __init__(self, url: str, tls: ssl.SSLContext | None, patience_s: float) -> None:
        self._address = address(url)
        self._name = urlsplit(url).hostname
        self._tls = tls
        self._patience_s = patience_s
        self._socket: socket.socket | None = None
        self.exchanges = 0

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def ask(self, request: bytes) -> Reply:
        """Send a request and give the whole reply; raises LostError, after which the connection is closed."""
        try:
            reply = self._ask(request)
        except BaseException:
            self.close()
            raise
        self.exchanges += 1
        if reply.headers.get("connection", "").lower() == "close":
            self.close()
        return reply

    def _ask(self, request: bytes) -> Reply:
        connection = self._socket or self._open()
        if self.exchanges:
            self._require_silence(connection)
        before = _acknowledged(connection)
        fault: OSError | None = None
        try:
            for start in range(0, len(request), PIECE_BYTES):
                connection.sendall(memoryview(request)[start : start + PIECE_BYTES])
        except OSError as error:  # a reply may have come early, to a request that was not wanted whole
            fault = error
        received = bytearray()
        try:
            return self._read(connection, received)
        except (OSError, EOFError, ValueError) as error:
            said = f"{fault or error!r} after {len(received)} bytes of the reply, {received[:100]!r}"
            ended = isinstance(error, EOFError | ssl.SSLEOFError | BrokenPipeError)
            if received:
                raise LostError(CUT, said) from error
            if self.exchanges and ended and _acknowledged(connection) == before:
                raise LostError(CLOSED_IDLE, said) from error
            raise LostError(RESET, f"{said}; exchange {self.exchanges + 1} of its connection") from error

    def _open(self) -> socket.socket:
        try:
            opened = socket.create_connection(self._address, self._patience_s)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                opened = self._tls.wrap_socket(opened, server_hostname=self._name)
        except OSError as error:
            raise LostError(UNSENT, repr(error)) from error
        self._socket, self.exchanges = opened, 0
        return opened

    def _require_silence(self, connection: socket.socket) -> None:
        """Look whether the server has ended an idle connection, or has said what nobody asked for."""
        connection.settimeout(0)
        try:
            said = connection.recv(PIECE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            connection.settimeout(self._patience_s)
            return
        except OSError as error:
            raise LostError(CLOSED_IDLE, repr(error)) from error
        if said:
            raise LostError(CUT, f"the server said {said[:200]!r}, which nobody had asked for")
        raise LostError(CLOSED_IDLE, "ended before the request was written")

    def _read(self, connection: socket.socket, received: bytearray) -> Reply:
        """Read a reply; raises ValueError where it cannot be understood, EOFError where it ends early."""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += _receive(connection)
        head = bytes(received[: end + 4])
        reply = Reply(int(head.split(None, 2)[1]), head, b"")
        if "content-length" not in reply.headers:
            raise ValueError("the reply has no Content-Length")
        size = len(head) + int(reply.headers["content-length"])
        while len(received) < size:
            received += _receive(connection)
        if len(received) > size:
            raise ValueError(f"{len(received) - size} bytes more than the reply")
        return reply._replace(body=bytes(received[len(head) :]))


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(PIECE_BYTES)
    if not data:
        raise EOFError("the server closed the connection")
    return data


def _acknowledged(connection: socket.socket) -> int:
    """Count the bytes that the server's system has acknowledged."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    count: int = ACKNOWLEDGED.unpack(info)[0]
    return count

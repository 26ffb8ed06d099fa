"""A client of HTTP/2 that does what no good one does: it writes frames by hand (RFC 9113), with literal headers."""

import asyncio
import struct
from collections import defaultdict
from contextlib import suppress
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW: Final = 4
"""The setting of a stream's first window."""
FRAME_BYTES: Final = 16_384
WINDOW_BYTES: Final = 65_535
KEPT_FRAMES: Final = 100
CANCEL: Final = struct.pack(">I", 8)


class Frame(NamedTuple):
    """A frame that was received."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Write a frame."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def request_headers(path: str) -> bytes:
    """Write the headers of a call, each as a literal without an index."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "a",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    text = ((name.encode(), value.encode()) for name, value in fields.items())
    return b"".join(b"\x00%c%b%c%b" % (len(name), name, len(value), value) for name, value in text)


class Connection:
    """A connection whose frames are received all the time, and which keeps to the windows of the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._first_window = WINDOW_BYTES
        self._windows: dict[int, int] = defaultdict(int)
        self.received: list[Frame] = []
        """The frames that begin or end something, the last of many."""
        self.ended: set[int] = set()
        """The streams that the server has ended."""
        self.unsent: dict[int, int] = {}
        """How many bytes of the message of each call a client has yet to send; for the client to keep."""
        self.closed = False
        self._next_stream = 1
        self._receiving = asyncio.get_running_loop().create_task(self._receive())

    @classmethod
    async def open(cls, address: str, source: str = "127.0.0.1") -> "Connection":
        """Connect from an address of this machine and exchange settings."""
        host, port = address.split(":")
        connection = cls(*await asyncio.open_connection(host, int(port), local_addr=(source, 0)))
        connection._windows[0] = WINDOW_BYTES
        await connection.send(PREFACE, frame(SETTINGS))
        return connection

    async def send(self, *frames: bytes) -> None:
        """Send frames; nothing happens where the server has closed the connection."""
        with suppress(ConnectionError):
            self._writer.write(b"".join(frames))
            await self._writer.drain()

    def next_streams(self, n_streams: int) -> range:
        """Return the numbers of so many new streams."""
        first, self._next_stream = self._next_stream, self._next_stream + 2 * n_streams
        return range(first, self._next_stream, 2)

    async def begin(self, path: str, message_bytes: int) -> int:
        """Begin a call with the start of a message of so many bytes, and return the number of its stream."""
        [stream] = self.next_streams(1)
        self._windows[stream] = self._first_window
        start = struct.pack(">BI", 0, message_bytes)
        await self.send(frame(HEADERS, END_HEADERS, stream, request_headers(path)), frame(DATA, 0, stream, start))
        self._spend(stream, len(start))
        return stream

    async def send_data(self, stream: int, n_bytes: int) -> int:
        """Send as many bytes of a message as the windows allow and return their number; 0 once the stream has ended."""
        allowed = min(n_bytes, FRAME_BYTES, self._windows[0], self._windows[stream])
        if allowed <= 0 or stream in self.ended or self.closed:
            return 0
        self._spend(stream, allowed)
        await self.send(frame(DATA, 0, stream, bytes(allowed)))
        return allowed

    async def close(self) -> None:
        """Close the connection."""
        self._receiving.cancel()
        self._writer.close()

    def _spend(self, stream: int, n_bytes: int) -> None:
        self._windows[0] -= n_bytes
        self._windows[stream] -= n_bytes

    async def _receive(self) -> None:
        try:
            while True:
                head, flags, stream = struct.unpack(">IBI", await self._reader.readexactly(9))
                await self._take(Frame(head & 0xFF, flags, stream, await self._reader.readexactly(head >> 8)))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed = True

    async def _take(self, received: Frame) -> None:
        kind, flags, stream, payload = received
        if kind in {HEADERS, RST_STREAM, GOAWAY}:
            self.received = [*self.received[-KEPT_FRAMES:], received]
        if kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
            self.ended.add(stream)
        elif kind == WINDOW_UPDATE:
            self._windows[stream] += struct.unpack(">I", payload)[0]
        elif kind == PING and not flags & ACK:
            await self.send(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            for setting, value in struct.iter_unpack(">HI", payload):
                if setting == INITIAL_WINDOW:
                    for one in self._windows.keys() - {0}:
                        self._windows[one] += value - self._first_window
                    self._first_window = value
            await self.send(frame(SETTINGS, ACK))

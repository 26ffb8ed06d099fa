"""Clients that misuse a service of this machine, without an API key: `python -m benchmarks.load.attacks NAME PORT`.

An attack runs in its own process until its stdin is closed, at a lower priority than the measured clients.
"""

import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import repeat
from typing import Final, NamedTuple

import numpy as np

from benchmarks.load.formats import JSON, NPY, RAW, npy_bytes

Data = Iterator[bytes]
"""The data of a connection in pieces; an empty piece is a pause."""

N_FEATURES: Final = 14
PAUSE_S: Final = 0.01
"""Interval at which all connections are polled."""
PIECES, PIECE_BYTES = 8, 1 << 18
"""Maximum number of bytes that a connection sends at a time."""
ALL_BYTES: Final = 1 << 20
SMALL_BUFFER_BYTES: Final = 4096
"""The receive buffer of clients that do not read all."""

PIPELINED: Final = b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * 10_000
UPGRADES: Final = b"GET / HTTP/1.1\r\nHost:\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" * 5_000
HEALTH: Final = b"GET /health HTTP/1.1\r\nHost:\r\n\r\n"
METRICS: Final = b"GET /metrics HTTP/1.1\r\nHost:\r\n\r\n"
ONE_BYTE_CHUNKS: Final = b"1\r\n0\r\n" * 40_000
HEADERS: Final = b"GET /none HTTP/1.1\r\nHost:\r\n" + b"".join(b"header%d:%b\r\n" % (n, b"v" * 140) for n in range(99))
"""The maximum number of headers of a request, which fill its head of 16 KiB."""
SHORT_HEADERS: Final = b"GET /none HTTP/1.1\r\nHost:\r\n" + b"ab:cd\r\n" * 2_300
"""As many headers as a head of 16 KiB has room for."""
LONG_BODY_BYTES: Final = tuple(60_000_000 // 4**size for size in range(12))
"""Lengths of bodies within the default limit of 64 MiB that together use all the memory for bodies."""


class Attack(NamedTuple):
    """The data that each connection of an attack sends, and how much of a response it reads at a time."""

    n_connections: int
    data: Callable[[], Data]
    read_bytes: int = ALL_BYTES
    finishes: bool = False
    """Whether the client closes its half of the connection after its data."""


class Client:
    """One connection of an attack, reopened whenever the service closes it."""

    def __init__(self, port: int, attack: Attack) -> None:
        self._port, self._attack = port, attack
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.socket()
        if self._attack.read_bytes < ALL_BYTES:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        self._socket.setblocking(False)
        self._socket.connect_ex(("127.0.0.1", self._port))
        self._data, self._left = self._attack.data(), memoryview(b"")

    def go_on(self) -> None:
        """Read and send without blocking; reconnect if the service has closed the connection."""
        for act in (self._read, self._send):
            try:
                act()
            except BlockingIOError:  # nothing to read, not connected yet, or the service does not read
                pass
            except OSError:
                self.close()
                self._connect()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _read(self) -> None:
        if self._attack.read_bytes and not self._socket.recv(self._attack.read_bytes):
            raise ConnectionResetError

    def _send(self) -> None:
        for _ in range(PIECES):
            if not self._left:
                data = next(self._data, None)
                if data is None and self._attack.finishes:
                    self._socket.shutdown(socket.SHUT_WR)  # raises OSError once the service has closed its half too
                self._left = memoryview(data or b"")
            if not self._left:
                return
            self._left = self._left[self._socket.send(self._left[:PIECE_BYTES]) :]


def post(path: str, media_type: str, body: bytes, n_bytes: int | None = None, **headers: str) -> bytes:
    """Return a request; `n_bytes` is its Content-Length if it differs from the body's."""
    given = {"Host": "x", "Content-Type": media_type, "Content-Length": str(n_bytes or len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(path: str) -> bytes:
    """Return the head of a request with a chunked body."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {RAW.media_type}", "Transfer-Encoding: chunked"]
    return "\r\n".join([*lines, "", ""]).encode()


def slowly(head: bytes, pause_s: float = 1.0) -> Data:
    """Yield a head, then one byte per second."""
    yield head
    next_s = time.monotonic() + pause_s
    while True:
        if time.monotonic() >= next_s:
            next_s += pause_s
            yield b"0"
        else:
            yield b""


@cache
def column_order() -> bytes:
    """Return a batch in NumPy's column order, in which no event is complete before the last column."""
    body = npy_bytes(np.ones((2**21, N_FEATURES), np.uint8, order="F"))
    return post("/score/batch", NPY.media_type, body, Accept=JSON.media_type)


@cache
def long_batch() -> bytes:
    """Return a batch whose response is longer than the system's buffers."""
    return post("/score/batch", RAW.media_type, bytes(4 * N_FEATURES * 400_000), Accept=JSON.media_type)


@cache
def wrong_event() -> bytes:
    """Return an invalid event of the maximum length, with the error at its end."""
    return post("/score", JSON.media_type, b'{"features": [%b"x"]}' % (b"1," * 32_000))


def _ends_apart(request: bytes) -> Data:
    """Yield a request repeatedly, with its last bytes separate."""
    while True:
        yield request[:-100]
        yield request[-100:]


ATTACKS: Final[dict[str, Attack]] = {
    "pipelining": Attack(40, lambda: repeat(PIPELINED), read_bytes=0),
    "upgrades": Attack(40, lambda: repeat(UPGRADES), read_bytes=0),
    "silence": Attack(400, lambda: iter(())),
    "half-open": Attack(100, lambda: iter([HEALTH * 10]), read_bytes=0, finishes=True),
    "slow reading": Attack(30, lambda: iter([long_batch()]), read_bytes=100),
    "slow heads": Attack(400, lambda: slowly(b"GET /")),
    "unfinished heads": Attack(400, lambda: iter([HEADERS])),
    "slow bodies": Attack(
        144, lambda: slowly(post("/score/batch", RAW.media_type, b"", random.choice(LONG_BODY_BYTES)))
    ),
    "one-byte chunks": Attack(16, lambda: iter([chunked("/score/batch"), *repeat(ONE_BYTE_CHUNKS, 1000)])),
    "events in chunks": Attack(40, lambda: iter([chunked("/score"), b"f000\r\n%b\r\n" % bytes(0xF000)])),
    "many headers": Attack(16, lambda: repeat(SHORT_HEADERS + b"\r\n")),
    "wrong events": Attack(16, lambda: repeat(wrong_event())),
    "column order": Attack(2, lambda: _ends_apart(column_order())),
    "metrics": Attack(8, lambda: repeat(METRICS)),
}
"""The attacks by name."""


@contextmanager
def attacking(name: str, port: int) -> Iterator[None]:
    """Attack a service on 127.0.0.1 during the block. Raises RuntimeError at its end if the attack has ended early."""
    command = [sys.executable, "-m", __name__, name, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout is not None
        attacker.stdout.readline()  # every connection has sent something
        yield
        if attacker.poll() is not None:
            raise RuntimeError(f"the attack {name!r} ended with status {attacker.returncode}")


def main(name: str, port: str) -> None:
    """Attack a service on 127.0.0.1 until stdin ends."""
    os.nice(10)
    clients = [Client(int(port), ATTACKS[name]) for _ in range(ATTACKS[name].n_connections)]
    began = False
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        for client in clients:
            client.go_on()
        if not began:
            began = True
            print("began", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The clients of the attacks: `python -m tests.attacks.clients NAME PORT SECONDS` attacks a service on 127.0.0.1.

None has an API key. Each runs for the given seconds in a process of its own, with less priority than the bystanders.
"""

import io
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle, repeat
from typing import Final

import numpy as np

Bytes = Iterator[bytes]

PIPELINED: Final = b"GET / HTTP/1.1\r\nHost:\r\n\r\n" * 10_000
UPGRADES: Final = b"GET / HTTP/1.1\r\nHost:\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" * 5_000
ONE_BYTE_CHUNKS: Final = b"1\r\n0\r\n" * 40_000
MANY_HEADERS: Final = b"GET /none HTTP/1.1\r\nHost:\r\n" + b"a:b\r\n" * 2_700 + b"\r\n"
METRICS: Final = b"GET /metrics HTTP/1.1\r\nHost:\r\n\r\n"
LONG_BODY_BYTES: Final = 60_000_000
"""A body within the default limit of 64 MiB, a whole number of events."""
PAUSE_S: Final = 0.01
PIECES, PIECE_BYTES = 8, 1 << 18


def post(path: str, media_type: str, body: bytes, n_bytes: int | None = None, **headers: str) -> bytes:
    """Write a request; `n_bytes` is its Content-Length where that is not the body's."""
    given = {"Host": "x", "Content-Type": media_type, "Content-Length": str(n_bytes or len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(path: str) -> bytes:
    """Write the head of a request whose body comes in chunks."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/octet-stream", "Transfer-Encoding: chunked"]
    return "\r\n".join([*lines, "", ""]).encode()


def column_order() -> bytes:
    """Write a batch as NumPy saves it from columns: no event is whole before the last column ends."""
    file = io.BytesIO()
    np.save(file, np.ones((2**21, 14), np.uint8, order="F"))
    return post("/score/batch", "application/x-npy", file.getvalue(), Accept="application/json")


def wrong_event() -> bytes:
    """Write an event that is as long as one may be, and wrong at its end."""
    return post("/score", "application/json", b'{"features": [%b"x"]}' % (b"1," * 130_000))


class Client:
    """One connection, which sends what it is given as fast as it may, and reads or does not."""

    def __init__(self, port: int, data: Bytes, *, reads: bool, buffer_bytes: int | None = None) -> None:
        self._port, self._data, self._reads, self._buffer_bytes = port, data, reads, buffer_bytes
        self._left = memoryview(b"")
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.socket()
        if self._buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", self._port))

    def go_on(self) -> None:
        """Read and send what can be; connect again once the service has ended the connection."""
        try:
            if self._reads and not self.socket.recv(1 << 20):
                raise ConnectionResetError
        except BlockingIOError:
            pass
        except OSError:
            self.socket.close()
            self._left = memoryview(b"")
            self._connect()
        with suppress(OSError):  # not connected yet, or the service does not read
            for _ in range(PIECES):
                self._left = self._left or memoryview(next(self._data, b""))
                self._left = self._left[self.socket.send(self._left[:PIECE_BYTES]) :]


def attack(clients: Callable[[int], Client], n_clients: int, seconds: float) -> None:
    """Keep so many clients going."""
    end_s = time.monotonic() + seconds
    going = list(map(clients, range(n_clients)))
    while time.monotonic() < end_s:
        for client in going:
            client.go_on()
        time.sleep(PAUSE_S)


def slowly(head: bytes, byte: bytes = b"0", pause_s: float = 1.0) -> Bytes:
    """Give a head, and then one byte a second."""
    yield head
    next_s = time.monotonic() + pause_s
    while True:
        if time.monotonic() >= next_s:
            next_s += pause_s
            yield byte
        else:
            yield b""


def silence(port: int, seconds: float, n_clients: int = 400) -> None:
    """Open connections and say nothing; open another for each that the service ends."""
    end_s, poll = time.monotonic() + seconds, selectors.DefaultSelector()
    for _ in range(n_clients):
        poll.register(socket.create_connection(("127.0.0.1", port)), selectors.EVENT_READ)
    while time.monotonic() < end_s:
        for key, _ in poll.select(PAUSE_S):
            assert isinstance(key.fileobj, socket.socket)
            poll.unregister(key.fileobj)
            key.fileobj.close()
            with suppress(OSError):
                poll.register(socket.create_connection(("127.0.0.1", port)), selectors.EVENT_READ)


def sipping(port: int, seconds: float, n_clients: int = 30) -> None:
    """Ask for long responses, and take a few bytes of them at a time."""
    body = b"[" + b"0," * 13 + b"0]"
    body = b'{"events":[%b]}' % b",".join([body] * 400_000)
    request = post("/score/batch", "application/json", body)

    def client(_: int) -> Client:
        return Client(port, iter([request]), reads=False, buffer_bytes=4096)

    end_s = time.monotonic() + seconds
    going = [client(number) for number in range(n_clients)]
    while time.monotonic() < end_s:
        for one in going:
            one.go_on()
            with suppress(OSError):
                one.socket.recv(100)
        time.sleep(PAUSE_S)


def _attack_with(data: Callable[[], Bytes], *, reads: bool, n_clients: int) -> Callable[[int, float], None]:
    def run(port: int, seconds: float) -> None:
        attack(lambda _: Client(port, data(), reads=reads), n_clients, seconds)

    return run


def _long_bodies() -> Callable[[], Bytes]:
    """Announce bodies of many sizes, which together leave no room."""
    n_bytes = cycle(LONG_BODY_BYTES // 4**size for size in range(12))
    return lambda: slowly(post("/score/batch", "application/octet-stream", b"", next(n_bytes)))


ATTACKS: Final[dict[str, Callable[[int, float], None]]] = {
    "pipelining": _attack_with(lambda: repeat(PIPELINED), reads=False, n_clients=40),
    "upgrades": _attack_with(lambda: repeat(UPGRADES), reads=False, n_clients=40),
    "silence": silence,
    "sipping": sipping,
    "dripping bodies": _attack_with(_long_bodies(), reads=True, n_clients=144),
    "dripping heads": _attack_with(lambda: slowly(b"GET /"), reads=True, n_clients=400),
    "one-byte chunks": _attack_with(
        lambda: iter([chunked("/score/batch"), *repeat(ONE_BYTE_CHUNKS, 1000)]), reads=True, n_clients=16
    ),
    "events in chunks": _attack_with(
        lambda: iter([chunked("/score"), *repeat(b"10000\r\n%b\r\n" % bytes(65_536), 3)]), reads=True, n_clients=40
    ),
    "many headers": _attack_with(lambda: repeat(MANY_HEADERS), reads=True, n_clients=16),
    "wrong events": _attack_with(lambda: repeat(wrong_event()), reads=True, n_clients=16),
    "column order": _attack_with(lambda: _split(column_order()), reads=True, n_clients=2),
    "metrics": _attack_with(lambda: repeat(METRICS), reads=True, n_clients=8),
}
"""The attacks by their names."""


def _split(request: bytes) -> Bytes:
    """Give a request again and again, its last bytes apart."""
    while True:
        yield request[:-100]
        yield request[-100:]


def valid_event(n_features: int) -> bytes:
    """Write an event that is scored."""
    return json.dumps({"features": [1.0] * n_features}).encode()


if __name__ == "__main__":
    os.nice(10)
    ATTACKS[sys.argv[1]](int(sys.argv[2]), float(sys.argv[3]))

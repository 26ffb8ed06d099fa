"""Bad clients: requests that must be refused, and clients that disconnect or stall.

A refusal with the expected status counts as answered, any other response as an error.
"""

import json
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import cycle
from typing import Final, NamedTuple, Self

from benchmarks.load.connection import TIMEOUT_S, Connection, LostError, Response, address, encode
from benchmarks.load.formats import JSON, MSGPACK, NPY, RAW, Format
from benchmarks.load.outcomes import Outcome, Record, Report, merged
from service.settings import Settings

CLOSE_BY_RESET: Final = struct.pack("ii", 1, 0)
"""A value of SO_LINGER."""
GRACE_S: Final = 15
"""Maximum delay after its timeout until a busy service closes a connection."""
UNREAD_EVENTS: Final = 600_000
"""A batch whose scores in JSON exceed all buffers."""


class BadRequest(NamedTuple):
    """A request that must be refused with this status."""

    name: str
    data: bytes
    status: int


def bad_requests(url: str, n_features: int, settings: Settings) -> list[BadRequest]:
    """Return a request of every kind that a service with these settings must refuse."""
    row = [1.0] * n_features
    nan = struct.pack("<f", float("nan")) * n_features

    def batch(fmt: Format, body: bytes, query: str = "", **headers: str) -> bytes:
        return encode(url, "POST", f"/score/batch{query}", {"Content-Type": fmt.media_type, **headers}, body)

    def document(events: object) -> bytes:
        return batch(JSON, json.dumps({"events": events}).encode())

    good = json.dumps({"events": [row]}).encode()
    bad_length = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n"
    unknown_type = encode(url, "POST", "/score/batch", {"Content-Type": "text/plain"}, good)
    requests = {
        "malformed JSON": (batch(JSON, good[:-2]), 400),
        "a text for a number": (document([["1", *row[1:]]]), 400),
        "too few features": (document([row, row[1:]]), 400),
        "events of a wrong type": (document("none"), 400),
        "NaN": (batch(RAW, nan), 400),
        "part of an event": (batch(RAW, nan[:-1]), 400),
        "no MessagePack": (batch(MSGPACK, b"\xc1"), 400),
        "no .npy": (batch(NPY, b"numpy"), 400),
        "an unknown type": (unknown_type, 415),
        "a type that cannot be sent": (batch(JSON, good, Accept="text/html"), 406),
        "an unknown working point": (batch(JSON, good, "?working_point=none"), 400),
        "an unknown parameter": (batch(JSON, good, "?threshold=1"), 400),
        "an unknown route": (encode(url, "GET", "/scores"), 404),
        "a wrong method": (encode(url, "GET", "/score"), 405),
        "malformed HTTP": (b"NONSENSE\r\n\r\n", 400),
        "a wrong length": (bad_length, 400),
        "a large body announced": (_head(settings.max_body_bytes + 1), 413),
        "long headers": (encode(url, "GET", "/health", {"X": "x" * settings.max_header_bytes}), 431),
        "a long URL": (encode(url, "GET", "/" + "x" * settings.max_url_bytes), 414),
    }
    return [BadRequest(name, data, status) for name, (data, status) in requests.items()]


def _head(size: int, headers: str = "") -> bytes:
    """Return the head of a request for scores with a body of this size."""
    head = f"POST /score/batch HTTP/1.1\r\nHost: x\r\n{headers}Content-Type: {RAW.media_type}\r\n"
    return f"{head}Content-Length: {size}\r\n\r\n".encode()


class BadClients:
    """Three bad clients during a `with` block; `left` and `stalls` count the connections by kind."""

    def __init__(self, url: str, n_features: int, settings: Settings, pause_s: float = 0.02) -> None:
        self._url = url
        self._settings = settings
        self._pause_s = pause_s
        self._event = bytes(4 * n_features)
        self._refused, self._stalled = Record(), Record()
        self.left: Counter[str] = Counter()
        self.stalls: Counter[str] = Counter()
        self._stopping = threading.Event()
        whole = _head(50_000 * len(self._event)) + self._event * 50_000
        part = _head(settings.max_body_bytes // 2) + self._event * 100
        slow_headers = partial(self._stall, "slow headers", b"POST /score HTTP/1.1\r\n", b"X: x\r\n", settings.header_s)
        slow_body = partial(self._stall, "a body that stops", part, b"", settings.stall_s)
        self._clients: tuple[Sequence[Callable[[], None]], ...] = (
            [partial(self._be_refused, request) for request in bad_requests(url, n_features, settings)],
            [
                partial(self._leave, "before a word", b"", 0),
                partial(self._leave, "within the head", whole[:40], 0),
                partial(self._leave, "within the body", whole[:500_000], 0),
                partial(self._leave, "before the response", whole, 0),
                partial(self._leave, "within the response", whole, 1000),
            ],
            [slow_headers, self._read_nothing, slow_body, self._read_nothing],
        )
        self._pool = ThreadPoolExecutor(len(self._clients))
        self._running: list[Future[None]] = []

    def __enter__(self) -> Self:
        self._refused.started = self._stalled.started = time.perf_counter()
        self._running = [self._pool.submit(self._run, acts) for acts in self._clients]
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._pool.shutdown()
        for client in self._running:
            client.result()

    def report(self) -> Report:
        """Return the outcomes of the bad requests and the stalled connections."""
        return merged([self._refused.report(), self._stalled.report()])

    def _run(self, acts: Sequence[Callable[[], None]]) -> None:
        for act in cycle(acts):
            if self._stopping.wait(self._pause_s):
                break
            act()

    def _be_refused(self, request: BadRequest) -> None:
        """Send a bad request on a new connection, and check the response."""
        began = self._refused.begin()
        try:
            with Connection(self._url) as connection:
                outcome, detail = judge_refusal(connection.ask(request.data), request.status)
        except LostError as error:
            outcome, detail = Outcome(error.how), str(error)
        self._refused.end(request.name, began, outcome, detail)

    def _leave(self, how: str, sent: bytes, n_read: int) -> None:
        """Send data, read a little, and close the connection, half of the time with a reset."""
        try:
            with socket.create_connection(address(self._url), TIMEOUT_S) as connection:
                connection.sendall(sent)
                if n_read:
                    connection.recv(n_read)
                if random.random() < 0.5:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_BY_RESET)
        except OSError:
            how = "because the service hung up"
        self.left[how] += 1

    def _stall(self, name: str, sent: bytes, piece: bytes, limit_s: float) -> None:
        """Send data, then almost nothing, and wait for a 408 or the end of the connection."""
        began, received = self._stalled.begin(), b""
        deadline = time.monotonic() + limit_s + GRACE_S
        outcome, detail = Outcome.ERROR, f"the connection is open after {limit_s + GRACE_S} s"
        try:
            with socket.create_connection(address(self._url), TIMEOUT_S) as connection:
                connection.sendall(sent)
                connection.settimeout(0.5)
                while time.monotonic() < deadline and not self._stopping.is_set():
                    connection.sendall(piece)
                    try:
                        received = connection.recv(10_000)
                    except TimeoutError:
                        continue
                    right = not received or b" 408 " in received[:20] or b" 503 " in received[:20]
                    outcome, detail = Outcome.ANSWERED if right else Outcome.ERROR, repr(received[:200])
                    break
        except ConnectionRefusedError as error:
            outcome, detail = Outcome.UNSENT, repr(error)
        except OSError:  # closed by the service
            outcome = Outcome.ANSWERED
        if self._stopping.is_set() and outcome is Outcome.ERROR and not received:
            outcome = Outcome.UNSENT  # it ended with the load, before its deadline
        self._stalled.end(name, began, outcome, detail)
        self.stalls[name] += 1

    def _read_nothing(self) -> None:
        """Ask for a response that no buffer holds, read none of it, and look whether the service has given up."""
        began, limit_s = self._stalled.begin(), self._settings.stall_s + GRACE_S
        outcome, detail = Outcome.ERROR, f"the response could still be read after {limit_s} s"
        try:
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.settimeout(TIMEOUT_S)
                connection.connect(address(self._url))
                connection.sendall(_head(UNREAD_EVENTS * len(self._event), f"Accept: {JSON.media_type}\r\n"))
                for _ in range(UNREAD_EVENTS // 10_000):
                    connection.sendall(self._event * 10_000)
                poll = select.poll()
                poll.register(connection, select.POLLERR | select.POLLHUP)
                stopped = self._stopping.wait(limit_s) if not poll.poll(0) else False
                received = bytearray()
                while not _is_whole(received) and (piece := connection.recv(1 << 20)):
                    received += piece
                if stopped or not _is_whole(received) or not received.startswith(b"HTTP/1.1 200 "):
                    outcome = Outcome.ANSWERED
        except OSError:  # closed by the service
            outcome = Outcome.ANSWERED
        self._stalled.end("a response that is not read", began, outcome, detail)


def judge_refusal(response: Response, status: int) -> tuple[Outcome, str]:
    """Return whether a refusal has the expected status, and a body with the status and the reason."""
    shown = f"{response.status}: {response.body[:200]!r}, expected {status}"
    if response.status == 503 and response.header("retry-after"):
        return Outcome.REFUSED, shown
    try:
        body = json.loads(response.body)
        right = response.status == status == body["status_code"] and bool(body["detail"])
    except (ValueError, KeyError, TypeError):
        right = False
    return (Outcome.ANSWERED, "") if right else (Outcome.ERROR, shown)


def _is_whole(received: bytearray) -> bool:
    """Return whether a response has as many bytes as its Content-Length."""
    end = received.find(b"\r\n\r\n")
    length = Response(0, bytes(received[: end + 4]), b"").header("content-length") or ""
    return end >= 0 and length.isdigit() and len(received) >= end + 4 + int(length)

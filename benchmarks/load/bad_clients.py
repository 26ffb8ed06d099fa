"""Bad clients: requests that must be refused, clients that leave or stall, each watched for what it gets.

A refusal with the right status counts as answered, another response as an error.
"""

import json
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Final, NamedTuple, Self

from benchmarks.load.connection import TIMEOUT_S, Connection, LostError, Response, address, encode
from benchmarks.load.outcomes import Outcome, Record, Report, merged

JSON = {"Content-Type": "application/json"}
RAW = {"Content-Type": "application/octet-stream"}
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection."""
PATIENCE_S: Final = 15
"""How much later than its timeout a busy service may close a connection."""


class BadRequest(NamedTuple):
    """A request that must be refused with this status."""

    name: str
    data: bytes
    status: int


class Limits(NamedTuple):
    """The service's limits."""

    body_bytes: int
    header_bytes: int
    url_bytes: int
    header_s: float
    stall_s: float


def bad_requests(url: str, n_features: int, limits: Limits) -> list[BadRequest]:
    """Write a request of every kind that must be refused."""
    row = [1.0] * n_features
    nan = struct.pack("<f", float("nan")) * n_features

    def batch(name: str, status: int, headers: dict[str, str], body: bytes, query: str = "") -> BadRequest:
        return BadRequest(name, encode(url, "POST", f"/score/batch{query}", headers, body), status)

    def document(events: object) -> bytes:
        return json.dumps({"events": events}).encode()

    good = document([row])
    bad_length = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n"
    return [
        batch("malformed JSON", 400, JSON, good[:-2]),
        batch("a text for a number", 400, JSON, document([["1", *row[1:]]])),
        batch("too few features", 400, JSON, document([row, row[1:]])),
        batch("events of a wrong type", 400, JSON, document("none")),
        batch("NaN", 400, RAW, nan),
        batch("part of an event", 400, RAW, nan[:-1]),
        batch("no MessagePack", 400, {"Content-Type": "application/msgpack"}, b"\xc1"),
        batch("no .npy", 400, {"Content-Type": "application/x-npy"}, b"numpy"),
        batch("an unknown type", 415, {"Content-Type": "text/plain"}, good),
        batch("a type that cannot be sent", 406, {**JSON, "Accept": "text/html"}, good),
        batch("an unknown working point", 400, JSON, good, "?working_point=none"),
        batch("an unknown parameter", 400, JSON, good, "?threshold=1"),
        BadRequest("an unknown route", encode(url, "GET", "/scores"), 404),
        BadRequest("a wrong method", encode(url, "GET", "/score"), 405),
        BadRequest("malformed HTTP", b"NONSENSE\r\n\r\n", 400),
        BadRequest("a wrong length", bad_length, 400),
        BadRequest("a large body announced", _announcing(limits.body_bytes + 1), 413),
        BadRequest("long headers", encode(url, "GET", "/health", {"X": "x" * limits.header_bytes}), 431),
        BadRequest("a long URL", encode(url, "GET", "/" + "x" * limits.url_bytes), 414),
    ]


def _announcing(size: int, headers: str = "") -> bytes:
    """Write the head of a request for scores whose body is to have that size."""
    head = f"POST /score/batch HTTP/1.1\r\nHost: x\r\n{headers}Content-Type: {RAW['Content-Type']}\r\n"
    return f"{head}Content-Length: {size}\r\n\r\n".encode()


class BadClients:
    """Three bad clients during a `with` block; `left` counts the connections that were left, by when."""

    def __init__(self, url: str, n_features: int, limits: Limits, pause_s: float = 0.02) -> None:
        self._url = url
        self._limits = limits
        self._pause_s = pause_s
        self._events = bytes(4 * n_features)
        self._requests = bad_requests(url, n_features, limits)
        self._refused, self._stalled = Record(), Record()
        self.left: Counter[str] = Counter()
        self.stalls: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._crashes: list[BaseException] = []
        acts = (self._refusals(), self._departures(), self._stalls())
        self._threads = [threading.Thread(target=self._run, args=(act,), daemon=True) for act in acts]

    def __enter__(self) -> Self:
        self._refused.started = self._stalled.started = time.perf_counter()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._crashes:
            raise self._crashes[0]

    def report(self) -> Report:
        """Sum up what the bad requests and the stalled connections got."""
        return merged([self._refused.report(), self._stalled.report()])

    def _run(self, acts: Iterator[Callable[[], None]]) -> None:
        try:
            while not self._stopping.wait(self._pause_s):
                next(acts)()
        except BaseException as error:
            self._crashes.append(error)

    def _refusals(self) -> Iterator[Callable[[], None]]:
        for request in cycle(self._requests):
            yield partial(self._be_refused, request)

    def _be_refused(self, request: BadRequest) -> None:
        """Send a bad request on a connection of its own, and compare the response with what it should be."""
        began = self._refused.begin()
        try:
            with Connection(self._url) as connection:
                outcome, detail = judge_refusal(connection.ask(request.data), request.status)
        except LostError as error:
            outcome, detail = Outcome(error.how), str(error)
        self._refused.end(request.name, began, outcome, detail)

    def _departures(self) -> Iterator[Callable[[], None]]:
        request = _announcing(50_000 * len(self._events)) + self._events * 50_000
        for how, n_bytes, n_read in cycle(
            (
                ("before a word", 0, 0),
                ("within the head", 40, 0),
                ("within the body", 500_000, 0),
                ("before the response", len(request), 0),
                ("within the response", len(request), 1000),
            )
        ):
            yield partial(self._leave, how, request[:n_bytes], n_read)

    def _leave(self, how: str, sent: bytes, n_read: int) -> None:
        """Send something, read a little, and close, half of the time with a reset."""
        try:
            with socket.create_connection(address(self._url), TIMEOUT_S) as connection:
                connection.sendall(sent)
                if n_read:
                    connection.recv(n_read)
                if random.random() < 0.5:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        except OSError:
            how = "because the service hung up"
        self.left[how] += 1

    def _stalls(self) -> Iterator[Callable[[], None]]:
        body = _announcing(self._limits.body_bytes // 2) + self._events * 100
        while True:
            head = b"POST /score HTTP/1.1\r\n"
            yield partial(self._stall, "slow headers", head, b"X: x\r\n", self._limits.header_s)
            yield self._take_nothing
            yield partial(self._stall, "a body that stops", body, b"", self._limits.stall_s)
            yield self._take_nothing

    def _stall(self, name: str, sent: bytes, drip: bytes, limit_s: float) -> None:
        """Send something, then next to nothing, and wait for a 408 or the end of the connection."""
        began, received = self._stalled.begin(), b""
        deadline = time.monotonic() + limit_s + PATIENCE_S
        outcome, detail = Outcome.ERROR, f"the connection is open after {limit_s + PATIENCE_S} s"
        try:
            with socket.create_connection(address(self._url), TIMEOUT_S) as connection:
                connection.sendall(sent)
                connection.settimeout(0.5)
                while time.monotonic() < deadline and not self._stopping.is_set():
                    connection.sendall(drip)
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

    def _take_nothing(self) -> None:
        """Ask for a response that no buffer holds, read none of it, and look whether the service has given up."""
        n_events, limit_s = 600_000, self._limits.stall_s + PATIENCE_S
        began = self._stalled.begin()
        outcome, detail = Outcome.ERROR, f"the response could still be read after {limit_s} s"
        try:
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.settimeout(TIMEOUT_S)
                connection.connect(address(self._url))
                connection.sendall(_announcing(n_events * len(self._events), "Accept: application/json\r\n"))
                for _ in range(n_events // 10_000):
                    connection.sendall(self._events * 10_000)
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
    """Tell whether a refusal has the right status, and a body that gives it and the reason."""
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
    """Tell whether a response has all the bytes that it announces."""
    end = received.find(b"\r\n\r\n")
    length = Response(0, bytes(received[: end + 4]), b"").header("content-length") or ""
    return end >= 0 and length.isdigit() and len(received) >= end + 4 + int(length)

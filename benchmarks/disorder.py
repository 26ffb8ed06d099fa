"""Clients that do wrong: requests that must be refused, clients that leave or stall, each watched for what it gets.

A refusal with the right status counts as answered, another reply as an error. It does not know right requests' scores.
"""

import json
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import NamedTuple

from benchmarks.client import TIMEOUT_S, Reply, address, encode
from benchmarks.exchange import Connection, LostError
from benchmarks.tally import Outcome, Report, Tally

JSON = {"Content-Type": "application/json"}
RAW = {"Content-Type": "application/octet-stream"}
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection."""


class Wrong(NamedTuple):
    """A request that must be refused with one of these statuses."""

    name: str
    request: bytes
    statuses: tuple[int, ...]


class Limits(NamedTuple):
    """What the service has been told."""

    body_bytes: int
    header_bytes: int
    url_bytes: int
    header_s: float
    stall_s: float


def wrong_requests(url: str, n_features: int, limits: Limits) -> list[Wrong]:
    """Write a request of every kind that must be refused."""
    row = [1.0] * n_features
    nan = struct.pack("<f", float("nan")) * n_features

    def batch(name: str, status: int, headers: dict[str, str], body: bytes, query: str = "") -> Wrong:
        return Wrong(name, encode(url, "POST", f"/score/batch{query}", headers, body), (status,))

    def document(events: object) -> bytes:
        return json.dumps({"events": events}).encode()

    good = document([row])
    host = b"Host: x\r\n"
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
        batch("a reply that cannot be had", 406, {**JSON, "Accept": "text/html"}, good),
        batch("an unknown working point", 400, JSON, good, "?working_point=none"),
        batch("an unknown parameter", 400, JSON, good, "?threshold=1"),
        Wrong("an unknown route", encode(url, "GET", "/scores"), (404,)),
        Wrong("a wrong method", encode(url, "GET", "/score"), (405,)),
        Wrong("malformed HTTP", b"NONSENSE\r\n\r\n", (400,)),
        Wrong("a wrong length", b"POST /score HTTP/1.1\r\n" + host + b"Content-Length: ten\r\n\r\n", (400,)),
        Wrong("a large body announced", _announcing(limits.body_bytes + 1), (413,)),
        Wrong("a long head", encode(url, "GET", "/health", {"X": "x" * limits.header_bytes}), (431,)),
        Wrong("a long URL", encode(url, "GET", "/" + "x" * limits.url_bytes), (414,)),
    ]


def _announcing(size: int) -> bytes:
    """Write the head of a request for scores whose body is to have that size."""
    head = f"POST /score/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}"
    return f"{head}\r\n\r\n".encode()


class Disorder:
    """Clients that do wrong during a `with` block, without end; `left` counts those who left, by how."""

    def __init__(self, url: str, n_features: int, limits: Limits, pause_s: float = 0.02) -> None:
        self._url = url
        self._limits = limits
        self._pause_s = pause_s
        self._wrong = wrong_requests(url, n_features, limits)
        self._events = bytes(4 * n_features)
        self._tally = Tally()
        self._ended: set[str] = set()
        self.left: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._crashes: list[BaseException] = []
        acts = (self._refusals(), self._departures(), self._stalls())
        self._threads = [threading.Thread(target=self._run, args=(act,), daemon=True) for act in acts]

    def __enter__(self) -> "Disorder":
        self._tally = Tally()  # its clock begins now
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
        """Sum up what the wrong requests got."""
        return self._tally.report()

    def ended(self) -> set[str]:
        """Name the kinds of wrong request and stall that have come to their end so far."""
        return set(self._ended)

    def _run(self, acts: Iterator[Callable[[], None]]) -> None:
        try:
            while not self._stopping.wait(self._pause_s):
                next(acts)()
        except BaseException as error:
            self._crashes.append(error)

    def _refusals(self) -> Iterator[Callable[[], None]]:
        for wrong in cycle(self._wrong):
            yield lambda wrong=wrong: self._be_refused(wrong)  # type: ignore[misc]

    def _be_refused(self, wrong: Wrong) -> None:
        """Send a wrong request on a connection of its own, and hold the reply against what it should be."""
        began = self._tally.begin()
        status, detail = None, ""
        try:
            with Connection(self._url, None, TIMEOUT_S) as connection:
                reply = connection.ask(wrong.request)
        except LostError as error:
            outcome, detail = Outcome(error.how), str(error)
        else:
            status = reply.status
            outcome, detail = judge_refusal(reply, wrong.statuses)
        self._tally.end(wrong.name, began, outcome, detail, status, None)

    def _departures(self) -> Iterator[Callable[[], None]]:
        request = _announcing(50_000 * len(self._events)) + self._events * 50_000
        for how, n_bytes, n_read in cycle(
            (
                ("before a word", 0, 0),
                ("within the head", 40, 0),
                ("within the body", 500_000, 0),
                ("before the reply", len(request), 0),
                ("within the reply", len(request), 1000),
            )
        ):
            yield lambda how=how, n_bytes=n_bytes, n_read=n_read: self._leave(how, request[:n_bytes], n_read)  # type: ignore[misc]

    def _leave(self, how: str, said: bytes, n_read: int) -> None:
        """Say something, read a little, and go, half of the time with a reset."""
        try:
            with socket.create_connection(address(self._url), TIMEOUT_S) as connection:
                connection.sendall(said)
                if n_read:
                    connection.recv(n_read)
                if random.random() < 0.5:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        except OSError:
            how = "because the service hung up"
        self.left[how] += 1

    def _stalls(self) -> Iterator[Callable[[], None]]:
        body = _announcing(self._limits.body_bytes // 2) + self._events * 100
        limits = self._limits
        heads: Sequence[tuple[str, bytes, bytes, float]] = (
            ("a head that drips", b"POST /score HTTP/1.1\r\n", b"X: x\r\n", limits.header_s),
            ("a body that stops", body, b"", limits.stall_s),
        )
        for name, said, drip, limit_s in cycle(heads):
            yield lambda name=name, said=said, drip=drip, limit_s=limit_s: self._stall(name, said, drip, limit_s)  # type: ignore[misc]
            yield self._take_nothing

    def _stall(self, name: str, said: bytes, drip: bytes, limit_s: float) -> None:
        """Say something, then next to nothing, and wait for a 408 or the connection's end."""
        began = self._tally.begin()
        deadline, got = time.monotonic() + limit_s + PATIENCE_S, b""
        outcome, detail = Outcome.ERROR, f"the connection is open after {limit_s + PATIENCE_S} s"
        try:
            with socket.create_connection(address(self._url), TIMEOUT_S) as connection:
                connection.sendall(said)
                connection.settimeout(0.5)
                while time.monotonic() < deadline and not self._stopping.is_set():
                    if drip:
                        connection.sendall(drip)
                    try:
                        got = connection.recv(10_000)
                    except TimeoutError:
                        continue
                    right = not got or b" 408 " in got[:20] or b" 503 " in got[:20]
                    outcome, detail = Outcome.ANSWERED if right else Outcome.ERROR, repr(got[:200])
                    break
        except ConnectionRefusedError as error:
            outcome, detail = Outcome.UNSENT, repr(error)
        except OSError:  # hung up on
            outcome = Outcome.ANSWERED
        if self._stopping.is_set() and outcome is Outcome.ERROR and not got:
            outcome = Outcome.UNSENT  # it ended with the soak, before its deadline
        self._ended.add(name)
        self._tally.end(name, began, outcome, detail, None, None)

    def _take_nothing(self) -> None:
        """Ask for a reply that no buffer holds, take nothing of it, and look whether the service has given up."""
        n_events, limit_s = 600_000, self._limits.stall_s + PATIENCE_S
        asked = _announcing(n_events * len(self._events)).replace(b"Host: x", b"Host: x\r\nAccept: application/json")
        began = self._tally.begin()
        outcome, detail = Outcome.ERROR, f"the reply was still to be had after {limit_s} s"
        try:
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.settimeout(TIMEOUT_S)
                connection.connect(address(self._url))
                connection.sendall(asked)
                for _ in range(n_events // 10_000):
                    connection.sendall(self._events * 10_000)
                poll = select.poll()
                poll.register(connection, select.POLLERR | select.POLLHUP)
                stopped = self._stopping.wait(limit_s) if not poll.poll(0) else False
                taken = bytearray()
                while piece := connection.recv(1 << 20):
                    taken += piece
                    if _is_whole(taken):
                        break
                if stopped or not _is_whole(taken) or not taken.startswith(b"HTTP/1.1 200 "):
                    outcome = Outcome.ANSWERED
        except OSError:  # hung up on
            outcome = Outcome.ANSWERED
        self._tally.end("a reply that nobody takes", began, outcome, detail, None, None)


PATIENCE_S = 15
"""How much later than its deadline a busy service may hang up."""


def judge_refusal(reply: Reply, statuses: tuple[int, ...]) -> tuple[Outcome, str]:
    """Tell whether a refusal has a right status, and a body that says it and why."""
    said = f"{reply.status}: {reply.body[:200]!r}, expected {' or '.join(map(str, statuses))}"
    if reply.status == 503 and "retry-after" in reply.headers:
        return Outcome.REFUSED, said
    try:
        body = json.loads(reply.body)
        right = reply.status in statuses and body["status_code"] == reply.status and bool(body["detail"])
    except (ValueError, KeyError, TypeError):
        right = False
    return (Outcome.ANSWERED, "") if right else (Outcome.ERROR, said)


def _is_whole(received: bytearray) -> bool:
    """Tell whether a reply has all the bytes that it announces."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = Reply(0, bytes(received[: end + 4]), b"").headers.get("content-length", "")
    return length.isdigit() and len(received) >= end + 4 + int(length)

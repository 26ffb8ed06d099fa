"""Open-loop load: requests at a given rate, whether or not the server keeps up, each timed from when it was due.

A request that finds every connection busy waits here, and its wait counts: a slow reply delays what comes after it as
it would delay other clients (no coordinated omission). It does not know what is posted, or what a reply means.
"""

import asyncio
import gc
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import msgspec
import numpy as np
import uvloop

from benchmarks import client
from benchmarks.client import Reply

SPIN_S = 0.002
"""The loop's timers are good to a millisecond: shortly before a request is due, the clock is watched instead."""
PATIENCE_S = 20


class Latency(msgspec.Struct, frozen=True):
    """Latencies in ms, from when a request was due to its last byte; `late_p99_ms` is how late the generator was."""

    offered_per_s: float
    answered_per_s: float
    requests: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_p99_ms: float


def offer(
    url: str, request: bytes, reply: Reply, *, connections: int, requests_per_s: float, seconds: float
) -> Latency:
    """Send `request` at even intervals for some seconds, and wait for all replies.

    Raises RuntimeError for a reply that has not the status, the length and the body of `reply`, and for none.
    """
    with undisturbed(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = Load(request, reply, requests_per_s, max(1, round(requests_per_s * seconds)))
        return runner.run(load.run(url, connections))


class Load:
    """Requests due at even intervals, and the connections that carry them."""

    def __init__(self, request: bytes, reply: Reply, requests_per_s: float, n_requests: int) -> None:
        self.request = request
        self._reply_size = reply.size
        self._status_line = reply.head.partition(b"\r\n")[0]
        self._reply_body = reply.body
        self._requests_per_s = requests_per_s
        self._n_requests = n_requests
        self._n_due = 0
        self._started = 0.0
        self._idle: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._latencies = array("d")
        self._lateness = array("d")

    async def run(self, url: str, connections: int) -> Latency:
        """Connect, send everything, and sum up."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        host, port = client.address(url)
        opened = [await self._loop.create_connection(lambda: Connection(self), host, port) for _ in range(connections)]
        self._idle.extend(connection for _, connection in opened)
        self._started = perf_counter()
        self._send_due()
        try:
            await asyncio.wait_for(self._ended, self._n_requests / self._requests_per_s + PATIENCE_S)
            return self._sum_up(perf_counter() - self._started)
        except TimeoutError:
            missing = self._n_requests - len(self._latencies)
            raise RuntimeError(f"{missing} of {self._n_requests} replies did not come") from None
        finally:
            for transport, _ in opened:
                transport.close()

    def answered(self, connection: "Connection", reply: bytes) -> None:
        """Time a reply, and send what waits for a connection."""
        self._latencies.append(perf_counter() - connection.due)
        right = len(reply) == self._reply_size and reply.startswith(self._status_line)
        if not (right and reply.endswith(self._reply_body)):
            self.fail(f"the reply is {reply[:300]!r}, expected {self._status_line!r} ... {self._reply_body[:100]!r}")
        elif len(self._latencies) == self._n_requests:
            self._end()
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def is_short(self, reply: bytes) -> bool:
        """Tell whether more of this reply is to come."""
        return len(reply) < self._reply_size

    def fail(self, fault: str) -> None:
        """End the run with a fault."""
        if not self._ended.done():
            self._ended.set_exception(RuntimeError(fault))

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _send_due(self) -> None:
        """Send, or have wait, what is due, and come back for the next."""
        now = perf_counter()
        due = self._due()
        while due <= now and self._n_due < self._n_requests:
            self._lateness.append(now - due)
            if self._idle:
                self._idle.popleft().send(due)
            else:
                self._waiting.append(due)
            self._n_due += 1
            due = self._due()
        if self._n_due == self._n_requests or self._ended.done():
            return
        if due - now > SPIN_S:
            self._loop.call_later(due - now - SPIN_S, self._send_due)
        else:
            self._loop.call_soon(self._send_due)

    def _sum_up(self, seconds: float) -> Latency:
        p50, p99, p999, longest = np.percentile(self._latencies, [50, 99, 99.9, 100]) * 1e3
        return Latency(
            offered_per_s=self._requests_per_s,
            answered_per_s=self._n_requests / seconds,
            requests=self._n_requests,
            p50_ms=float(p50),
            p99_ms=float(p99),
            p999_ms=float(p999),
            max_ms=float(longest),
            late_p99_ms=float(np.percentile(self._lateness, 99)) * 1e3,
        )

    def _due(self) -> float:
        return self._started + self._n_due / self._requests_per_s


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time; `due` is when that should have been sent."""

    transport: asyncio.Transport

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._busy = False
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to write to."""
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no subclass of asyncio's

    def send(self, due: float) -> None:
        """Send the request that was due then."""
        self.due = due
        self._busy = True
        self.transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        """Take a piece of a reply."""
        reply = self._received + data if self._received else data
        if self._load.is_short(reply):
            self._received = reply
            return
        self._received = b""
        self._busy = False
        self._load.answered(self, reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the run where a reply is still to come."""
        if self._busy:
            self._load.fail(f"the server closed a connection: {exc or 'no reason given'}")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Python's cyclic collector from running, for its pauses here would look like the server's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

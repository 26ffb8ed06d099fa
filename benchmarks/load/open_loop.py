"""Open-loop load: requests at a fixed rate, independent of the server, each timed from when it was due.

A request waits here if all connections are busy, and the wait counts as latency, because a slow response would also
delay other clients (no coordinated omission).
"""

import gc
import select
from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.connection import Connection, Request, Response
from benchmarks.report.measurements import Latency

SPIN_S: Final = 0.002
"""Shortly before a request is due the clock is polled, because waking up takes time."""
TIMEOUT_S: Final = 20
"""Maximum time from the due time of the last request until all responses are received."""


class Arrivals(NamedTuple):
    """The due times of requests, in seconds from the start, and their rate."""

    per_s: float
    due_s: NDArray[np.float64]

    @classmethod
    def evenly(cls, per_s: float, seconds: float) -> "Arrivals":
        """Return arrivals at even intervals for some seconds, at least one."""
        return cls(per_s, np.arange(max(1, round(per_s * seconds))) / per_s)

    @classmethod
    def at_random(cls, per_s: float, seconds: float, rng: np.random.Generator) -> "Arrivals":
        """Return arrivals of a Poisson process, which models many clients, with the mean number, at least one."""
        return cls(per_s, np.cumsum(rng.exponential(1 / per_s, max(1, round(per_s * seconds)))))


def offer(
    urls: Sequence[str], request: Request, arrivals: Arrivals, *, connections: int, spin_s: float = SPIN_S
) -> Latency:
    """Send `request` at each due time, and wait for all responses.

    Connections are distributed over the servers in turn; a request uses the connection that has been idle longest.
    Raises RuntimeError for a wrong or missing response, and LostError for a lost connection.
    """
    latencies, lateness = array("d"), array("d")
    with undisturbed(), ExitStack() as stack, select.epoll() as poll:
        opened = [stack.enter_context(Connection(urls[place % len(urls)])) for place in range(connections)]
        for connection in opened:
            _require_right(request, connection.ask(request.data))
            poll.register(connection.fileno(), select.EPOLLIN)
        by_descriptor = {connection.fileno(): connection for connection in opened}
        idle, waiting, was_due = deque(opened), deque[float](), dict.fromkeys(opened, 0.0)
        started = perf_counter()
        upcoming = deque((started + arrivals.due_s).tolist())
        n_requests, end_s = len(upcoming), upcoming[-1] + TIMEOUT_S
        while len(latencies) < n_requests:
            now = perf_counter()
            while upcoming and upcoming[0] <= now:
                lateness.append(now - upcoming[0])
                waiting.append(upcoming.popleft())
            while idle and waiting:
                connection = idle.popleft()
                was_due[connection] = waiting.popleft()
                connection.begin(request.data)
                _watch(poll, connection)
            for descriptor in _ready(poll, (upcoming[0] - spin_s if upcoming else end_s) - perf_counter()):
                connection = by_descriptor[descriptor]
                unsent = connection.unsent
                response = connection.proceed()
                if unsent:
                    _watch(poll, connection)
                if response is not None:
                    latencies.append(perf_counter() - was_due[connection])
                    _require_right(request, response)
                    idle.append(connection)
            if now > end_s:
                raise RuntimeError(f"{n_requests - len(latencies)} of {n_requests} responses did not come")
        took_s = perf_counter() - started
    return _summary(arrivals.per_s, n_requests / took_s, np.array(latencies), np.array(lateness))


def _watch(poll: select.epoll, connection: Connection) -> None:
    """Poll a connection for the response, and for writing while a part of the request is unsent."""
    poll.modify(connection.fileno(), select.EPOLLIN | (select.EPOLLOUT if connection.unsent else 0))


def _ready(poll: select.epoll, wait_s: float) -> list[int]:
    """Wait for at most `wait_s`, and return the descriptors that are ready."""
    if wait_s > 0:
        select.select([poll], [], [], wait_s)  # epoll itself waits for whole milliseconds
    return [descriptor for descriptor, _ in poll.poll(0)]


def _summary(
    offered_per_s: float, answered_per_s: float, latencies_s: NDArray[np.float64], lateness_s: NDArray[np.float64]
) -> Latency:
    p50, p99, p999, longest = np.percentile(latencies_s, [50, 99, 99.9, 100]) * 1e3
    return Latency(
        offered_per_s=offered_per_s,
        answered_per_s=answered_per_s,
        requests=len(latencies_s),
        p50_ms=float(p50),
        p99_ms=float(p99),
        p999_ms=float(p999),
        max_ms=float(longest),
        late_p99_ms=float(np.percentile(lateness_s, 99)) * 1e3,
    )


def _require_right(request: Request, response: Response) -> None:
    fault = request.fault(response) if response.status == 200 else f"status {response.status}: {response.body[:200]!r}"
    if fault:
        raise RuntimeError(f"{request.name}: {fault}")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Disable Python's cyclic garbage collector, whose pauses would be attributed to the server."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

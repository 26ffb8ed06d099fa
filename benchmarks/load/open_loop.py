"""Open-loop load: requests at a given rate, whether or not the server keeps up, each timed from when it was due.

A request that finds every connection busy waits here, and its wait counts: a slow response delays what comes after it
as it would delay other clients (no coordinated omission).
"""

import gc
import select
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Final

import numpy as np

from benchmarks.load.connection import Connection, Request, Response
from benchmarks.report.measurements import Latency

SPIN_S: Final = 0.002
"""epoll waits for whole milliseconds: shortly before a request is due, the clock is watched instead."""
TIMEOUT_S: Final = 20
"""How long after the last request was due all responses must have come."""


def offer(url: str, request: Request, *, connections: int, requests_per_s: float, seconds: float) -> Latency:
    """Send `request` at even intervals for some seconds, and wait for all responses.

    Raises RuntimeError for a response that is wrong or missing, and LostError for a connection that is lost.
    """
    n_requests = max(1, round(requests_per_s * seconds))
    latencies, lateness = array("d"), array("d")
    with undisturbed(), ExitStack() as stack, select.epoll() as poll:
        opened = [stack.enter_context(Connection(url)) for _ in range(connections)]
        for connection in opened:
            _require_right(request, connection.ask(request.data))
        by_descriptor = {connection.fileno(): connection for connection in opened}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.EPOLLIN)
        idle, waiting, due_s = deque(opened), deque[float](), dict.fromkeys(opened, 0.0)
        started = perf_counter()
        n_due, end_s = 0, started + n_requests / requests_per_s + TIMEOUT_S
        while len(latencies) < n_requests:
            now, due = perf_counter(), started + n_due / requests_per_s
            while due <= now and n_due < n_requests:
                lateness.append(now - due)
                waiting.append(due)
                n_due += 1
                due = started + n_due / requests_per_s
            while idle and waiting:
                connection = idle.popleft()
                due_s[connection] = waiting.popleft()
                connection.begin(request.data)
                if connection.unsent:  # more than the system takes at once
                    poll.modify(connection, select.EPOLLIN | select.EPOLLOUT)
            wait_s = max(0.0, due - now - SPIN_S) if n_due < n_requests else end_s - now
            for descriptor, _ in poll.poll(wait_s):
                connection = by_descriptor[descriptor]
                sending, response = connection.unsent, connection.proceed()
                if sending and not connection.unsent:
                    poll.modify(connection, select.EPOLLIN)
                if response is None:
                    continue
                latencies.append(perf_counter() - due_s[connection])
                _require_right(request, response)
                idle.append(connection)
            if now > end_s:
                raise RuntimeError(f"{n_requests - len(latencies)} of {n_requests} responses did not come")
        took_s = perf_counter() - started
    p50, p99, p999, longest = np.percentile(latencies, [50, 99, 99.9, 100]) * 1e3
    return Latency(
        offered_per_s=requests_per_s,
        answered_per_s=n_requests / took_s,
        requests=n_requests,
        p50_ms=float(p50),
        p99_ms=float(p99),
        p999_ms=float(p999),
        max_ms=float(longest),
        late_p99_ms=float(np.percentile(lateness, 99)) * 1e3,
    )


def _require_right(request: Request, response: Response) -> None:
    fault = request.fault(response) if response.status == 200 else f"status {response.status}: {response.body[:200]!r}"
    if fault:
        raise RuntimeError(f"{request.name}: {fault}")


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Python's cyclic collector from running, for its pauses here would look like the server's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

"""A simulation of requests that queue for workers; each worker serves one request at a time, in order of arrival.

It is independent of this service: arrivals, service times and the balancer are its inputs.
"""

import random
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]


class Balancer(Protocol):
    """Chooses the worker of each request, and is notified when a worker has finished a request."""

    def choose(self) -> int:
        """Return the number of a worker."""

    def answered(self, worker: int, /) -> None:
        """Note that the worker has answered a request."""


class RoundRobin:
    """Chooses the workers in turn, independent of their load."""

    def __init__(self, n_workers: int) -> None:
        self._order = deque(range(n_workers))

    def choose(self) -> int:
        """Return the worker that was chosen longest ago."""
        self._order.rotate(-1)
        return self._order[-1]

    def answered(self, worker: int, /) -> None:
        """Do nothing."""


class IdleConnections:
    """Sends each request over the connection that has been idle longest; each worker has several connections.

    There must be more connections than requests in flight.
    """

    def __init__(self, n_workers: int, connections: int) -> None:
        self._idle = deque(connection % n_workers for connection in range(connections))

    def choose(self) -> int:
        """Return the worker of that connection."""
        return self._idle.popleft()

    def answered(self, worker: int, /) -> None:
        """Note that a connection to the worker is idle."""
        self._idle.append(worker)


class FewestRequests:
    """Chooses the worker with the fewest requests in flight, of all or of a random sample; ties are broken in turn.

    HAProxy's `leastconn` compares all workers, Envoy's LEAST_REQUEST two random ones.
    """

    def __init__(self, n_workers: int, drawn: int | None = None) -> None:
        self._in_flight = [0] * n_workers
        self._order = deque(range(n_workers))
        self._drawn = drawn
        self._random = random.Random(0)

    def choose(self) -> int:
        """Return the number of the chosen worker."""
        self._order.rotate(-1)
        among = self._random.sample(self._order, self._drawn) if self._drawn else self._order
        worker = min(among, key=self._in_flight.__getitem__)
        self._in_flight[worker] += 1
        return worker

    def answered(self, worker: int, /) -> None:
        """Decrement the worker's requests in flight."""
        self._in_flight[worker] -= 1


class Worker(NamedTuple):
    """The service times (n,) of a worker for the requests: directly after another request, and after an idle time."""

    busy_s: Seconds
    idle_s: Seconds

    @classmethod
    def steady(cls, service_s: Seconds) -> "Worker":
        """Return a worker with the same service times in both cases."""
        return cls(service_s, service_s)


def latencies(due_s: Seconds, workers: Sequence[Worker], balancer: Balancer) -> Seconds:
    """Return the time (n,) from the arrival of each request to its response; `due_s` (n,) are the ordered arrivals."""
    free_s = [0.0] * len(workers)
    times_s = [(worker.busy_s.tolist(), worker.idle_s.tolist()) for worker in workers]
    answers: list[tuple[float, int]] = []
    found = np.empty(len(due_s))
    for request, due in enumerate(due_s.tolist()):
        while answers and answers[0][0] <= due:
            balancer.answered(heappop(answers)[1])
        worker = balancer.choose()
        was_idle = free_s[worker] <= due
        free_s[worker] = max(due, free_s[worker]) + times_s[worker][was_idle][request]
        heappush(answers, (free_s[worker], worker))
        found[request] = free_s[worker] - due
    return found

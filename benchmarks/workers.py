"""How evenly several workers share the requests: what each answered, by its own count in /metrics.

It does not know how the load is made.
"""

import re

import msgspec

from benchmarks.client import Client

LINE = re.compile(r'^anomaly_worker_requests(?:_total)?\{pid="(\d+)"\} (\S+)$', re.MULTILINE)


class Shares(msgspec.Struct, frozen=True):
    """The requests that each worker answered, the busiest first, of a load on some connections."""

    connections: int
    requests: list[int]
    requests_per_s: float

    @property
    def busiest(self) -> float:
        """Give the busiest worker's part of all."""
        return max(self.requests) / sum(self.requests)


def requests_of_workers(url: str) -> dict[int, int]:
    """Ask a service for the requests that each worker has answered so far.

    Raises SystemExit if its /metrics does not say, as with one worker.
    """
    with Client(url) as client:
        return read_requests(client.get("/metrics").body.decode())


def read_requests(metrics: str) -> dict[int, int]:
    """Find the requests of each worker, by process number, in Prometheus' text format; raises SystemExit for none."""
    found = {int(pid): int(float(count)) for pid, count in LINE.findall(metrics)}
    if not found:
        raise SystemExit('/metrics has no lines anomaly_worker_requests{pid="..."}, expected one for each worker')
    return found


def shares(before: dict[int, int], after: dict[int, int], connections: int, seconds: float) -> Shares:
    """Give what each worker answered in between."""
    answered = sorted((after[pid] - before.get(pid, 0) for pid in after), reverse=True)
    return Shares(connections, answered, sum(answered) / seconds)

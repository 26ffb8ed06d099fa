"""The service as a target: how it is started, and what each of its workers has answered."""

import re
import time
from pathlib import Path

from benchmarks.load.connection import get
from benchmarks.report.measurements import Shares

LINE = re.compile(r'^anomaly_worker_requests(?:_total)?\{pid="(\d+)"\} (\S+)$', re.MULTILINE)
PATIENCE_S = 60


def service_flags(model: str, workers: int = 1) -> list[str]:
    """Give the flags with which users start so many workers, on a free port."""
    return ["--workers", str(workers), "--model", model, "--port", "0"]


def requests_of_workers(url: str) -> dict[int, int]:
    """Ask a service with several workers for the requests that each has answered, by process number.

    Raises RuntimeError if it cannot be asked, or /metrics does not say, as with one worker.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return read_requests(get(url, "/metrics").body.decode())
        except OSError as error:  # the worker that was asked has just been killed
            if time.monotonic() > deadline:
                raise RuntimeError(f"{url}/metrics: {error}") from error
            time.sleep(0.05)


def workers(url: str) -> list[int]:
    """Ask a service for the process numbers of its workers; raises RuntimeError where it cannot be asked."""
    return [pid for pid in requests_of_workers(url) if Path(f"/proc/{pid}").exists()]


def read_requests(metrics: str) -> dict[int, int]:
    """Find the requests of each worker in Prometheus' text format; raises RuntimeError for none."""
    found = {int(pid): int(float(count)) for pid, count in LINE.findall(metrics)}
    if not found:
        raise RuntimeError('/metrics has no lines anomaly_worker_requests{pid="..."}, expected one for each worker')
    return found


def shares(before: dict[int, int], after: dict[int, int], connections: int, seconds: float) -> Shares:
    """Give what each worker answered in between."""
    answered = sorted((after[pid] - before.get(pid, 0) for pid in after), reverse=True)
    return Shares(connections, answered, sum(answered) / seconds)

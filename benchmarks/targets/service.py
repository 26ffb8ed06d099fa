"""The service as a target: starting it, and the requests of each worker."""

import re
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from benchmarks.load.connection import get
from benchmarks.report.measurements import Shares
from benchmarks.targets.launcher import Server, serving
from service.settings import Settings

LINE = re.compile(r'^anomaly_worker_requests(?:_total)?\{pid="(\d+)"\} (\S+)$', re.MULTILINE)
TIMEOUT_S = 60
ONE_WORKER = Settings(workers=1)


def service(
    model: str | Path,
    *,
    cores: Collection[int],
    settings: Settings = ONE_WORKER,
    module: str = "service",
    under: Sequence[str] = (),
) -> AbstractContextManager[Server]:
    """Serve a model on a free port until the end of the block, started as by a user. Raises as `serving` does."""
    values, defaults = msgspec.structs.asdict(settings), msgspec.structs.asdict(Settings())
    changed = {name: value for name, value in values.items() if value != defaults[name]}
    flags = [text for name, value in changed.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    return serving(module, "--model", str(model), "--port", "0", *flags, cores=cores, under=under)


def requests_of_workers(url: str) -> dict[int, int]:
    """Return the number of requests of each worker of a service, by process ID.

    Raises RuntimeError if the service is not available, or if /metrics lacks the numbers, as with one worker.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return read_requests(get(url, "/metrics").body.decode())
        except OSError as error:  # the worker of this connection has just been killed
            if time.monotonic() > deadline:
                raise RuntimeError(f"{url}/metrics: {error}") from error
            time.sleep(0.05)


def workers(url: str) -> list[int]:
    """Return the process IDs of a service's workers. Raises RuntimeError if the service is not available."""
    return [pid for pid in requests_of_workers(url) if Path(f"/proc/{pid}").exists()]


def read_requests(metrics: str) -> dict[int, int]:
    """Parse the requests of each worker from Prometheus' text format. Raises RuntimeError if there are none."""
    found = {int(pid): int(float(count)) for pid, count in LINE.findall(metrics)}
    if not found:
        raise RuntimeError('/metrics has no lines anomaly_worker_requests{pid="..."}, expected one for each worker')
    return found


def shares(before: dict[int, int], after: dict[int, int], connections: int, requests_per_s: float) -> Shares:
    """Return the share of each worker of the requests between two samples."""
    answered = sorted((after[pid] - before.get(pid, 0) for pid in after), reverse=True)
    return Shares(connections, answered, requests_per_s)

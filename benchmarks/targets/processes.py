"""Running processes: processor time, memory, descriptors and threads, from Linux's /proc."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

import numpy as np

from benchmarks.report.measurements import Growth, ProcessSample

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
INTERVAL_S = 1.0
SHORTEST_S = 240
"""Minimum lifetime for which the growth of a process is judged; before it, the process is warming up."""


def family(pid: int) -> list[int]:
    """Return the process and all its descendants, the process first."""
    found = [pid]
    for one in found:  # grows during the iteration
        with suppress(OSError):  # the process has ended
            for children in Path(f"/proc/{one}/task").glob("*/children"):
                with suppress(OSError):  # the thread has ended
                    found += map(int, children.read_text().split())
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the sum of the user and system time that processes have used so far."""
    return _sum(pids, lambda pid: sum(map(int, _stat(pid)[11:13]))) / TICKS_PER_S


def resident_mb(pids: Iterable[int]) -> float:
    """Return the sum of the resident memory of processes in MB (10^6 bytes)."""
    return _sum(pids, lambda pid: _megabytes(pid, "VmRSS"))


def peak_mb(pids: Iterable[int]) -> float:
    """Return the sum of the peak memory of processes in MB since their start, or since `forget_peak`."""
    return _sum(pids, lambda pid: _megabytes(pid, "VmHWM"))


def forget_peak(pids: Iterable[int]) -> None:
    """Reset the peak memory of running processes to the current value."""
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def started(pid: int) -> int:
    """Return the start time of a process in clock ticks since boot. Raises OSError if it has ended."""
    return int(_stat(pid)[19])


def sockets(pid: int) -> int:
    """Return the number of open sockets of a process; 0 once it has ended."""
    count = 0
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                count += link.readlink().name.startswith("socket:")
    return count


def sample(pid: int, second: float) -> ProcessSample:
    """Return a sample of one process. Raises OSError if it has ended."""
    n_descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return ProcessSample(second, _megabytes(pid, "VmRSS"), n_descriptors)


class Watch:
    """Samples the processes that `named` returns, as name -> process ID, every second during a `with` block."""

    def __init__(self, named: Callable[[], dict[str, int]]) -> None:
        self._named = named
        self._started = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: dict[str, list[ProcessSample]] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_S):
            named: dict[str, int] = {}
            with suppress(RuntimeError):  # the service is not available now; try again in the next second
                named = self._named()
            for name, pid in named.items():
                with suppress(OSError):  # the process has ended
                    self.samples.setdefault(name, []).append(sample(pid, time.monotonic() - self._started))


def growths(samples: dict[str, list[ProcessSample]]) -> list[Growth]:
    """Compare the second with the last quarter of the lifetime of each process, if it is long enough."""
    found = []
    for name, seen in samples.items():
        seconds, quarter = seen[-1].second - seen[0].second, len(seen) // 4
        if seconds >= SHORTEST_S:
            parts = (seen[quarter : 2 * quarter], seen[-quarter:])
            memory = [float(np.median([one.resident_mb for one in part])) for part in parts]
            descriptors = [float(np.median([one.descriptors for one in part])) for part in parts]
            found.append(Growth(name, seconds, *memory, *descriptors))
    return found


def _sum(pids: Iterable[int], value: Callable[[int], float]) -> float:
    """Return the sum of a value over processes, without those that have ended."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += value(pid)
    return total


def _stat(pid: int) -> list[str]:
    # The second field is the program's name in parentheses, which may itself have spaces and parentheses.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _megabytes(pid: int, field: str) -> float:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    if field not in status:  # a zombie, for which its parent has not waited yet
        raise ProcessLookupError(pid)
    return int(status[field].split()[0]) * 1024 / 1e6

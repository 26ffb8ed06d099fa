"""Memory, descriptors and threads of processes over time, as Linux counts them.

It does not know what the processes do.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

INTERVAL_S = 1.0
SLACK, SLACK_MB = 0.05, 10.0
"""Memory is flat if the median of a process's last quarter is no more than so much above that of its second."""
SHORTEST_S = 240
"""A process that lived for less is not judged: it was warming up for much of the time."""


class Vital(msgspec.Struct, frozen=True):
    """A process at one time, in seconds since the watch began; MB are 10^6 bytes."""

    second: float
    resident_mb: float
    descriptors: int
    threads: int


class Growth(msgspec.Struct, frozen=True):
    """The medians of a process's second and last quarter."""

    process: str
    seconds: float
    second_quarter_mb: float
    last_quarter_mb: float
    second_quarter_descriptors: float
    last_quarter_descriptors: float

    @property
    def flat(self) -> bool:
        """Tell whether the memory has stayed."""
        return self.last_quarter_mb <= self.second_quarter_mb * (1 + SLACK) + SLACK_MB


class Watch:
    """Looks every second during a `with` block at the processes that `named` gives, as name -> number."""

    def __init__(self, named: Callable[[], dict[str, int]]) -> None:
        self._named = named
        self._started = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: dict[str, list[Vital]] = {}

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_S):
            named: dict[str, int] = {}
            with suppress(RuntimeError, SystemExit):  # it cannot be asked now: the next time then
                named = self._named()
            for name, pid in named.items():
                with suppress(OSError):  # it has ended
                    self.seen.setdefault(name, []).append(look(pid, time.monotonic() - self._started))


def look(pid: int, second: float) -> Vital:
    """Look at one process; raises OSError if it has ended."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    if "VmRSS" not in status:  # it has ended, and its parent has yet to notice
        raise ProcessLookupError(pid)
    resident = int(status["VmRSS"].split()[0]) * 1024 / 1e6
    return Vital(second, resident, len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["Threads"]))


def sockets(pid: int) -> int:
    """Count the sockets that a process holds; 0 once it has ended."""
    count = 0
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                count += link.readlink().name.startswith("socket:")
    return count


def started(pid: int) -> int:
    """Tell when a process was started, in ticks since the machine was; raises OSError if it has ended."""
    # The second field is the program's name in brackets, which may itself hold spaces and brackets.
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def growths(seen: dict[str, list[Vital]]) -> list[Growth]:
    """Compare the second with the last quarter of each process that lived for long enough."""
    found = []
    for name, vitals in seen.items():
        seconds = vitals[-1].second - vitals[0].second
        if seconds < SHORTEST_S:
            continue
        quarter = len(vitals) // 4
        medians = [
            float(np.median([getattr(vital, field) for vital in part]))
            for field in ("resident_mb", "descriptors")
            for part in (vitals[quarter : 2 * quarter], vitals[-quarter:])
        ]
        found.append(Growth(name, seconds, *medians))
    return found

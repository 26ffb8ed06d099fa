"""The CPU time, memory and start time of a worker process, as Linux reports them."""

import os
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

# Fields of /proc/PID/stat after the name, which may contain spaces and brackets: the numbers of proc(5) less three.
USER_TICKS, SYSTEM_TICKS, STARTED_TICKS, RESIDENT_PAGES = 11, 12, 19, 21


class Usage(NamedTuple):
    """The resources that a process uses."""

    cpu_s: float
    resident_bytes: int
    started_at_s: float
    """When it started, in seconds since 1970."""


def usage(pid: int) -> Usage | None:
    """Return the resources that a process uses; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    ticks = int(fields[USER_TICKS]) + int(fields[SYSTEM_TICKS])
    started_at_s = _booted_at_s() + int(fields[STARTED_TICKS]) / TICKS_PER_S
    return Usage(ticks / TICKS_PER_S, int(fields[RESIDENT_PAGES]) * PAGE_BYTES, started_at_s)


@cache
def _booted_at_s() -> int:
    lines = dict(line.split(maxsplit=1) for line in Path("/proc/stat").read_text().splitlines())
    return int(lines["btime"])

"""The number of cores that this process may use, by its CPU affinity and the CPU limits of its control groups."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

MEMBERSHIP: Final = Path("/proc/self/cgroup")
HIERARCHIES: Final = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Count the cores that this process may use."""
    quotas = [quota for group in _groups() if (quota := _quota(group)) is not None]
    return min(len(os.sched_getaffinity(0)), *map(math.ceil, quotas)) if quotas else len(os.sched_getaffinity(0))


def _groups() -> Iterator[Path]:
    """Yield the directories of this process' control groups and of their parents, which limit it as well.

    In a container, the path of a group may be that on the host, while the container sees the group as the root.
    """
    with suppress(OSError):
        for line in MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:  # version 2
                tops = [HIERARCHIES, HIERARCHIES / "unified"]
            elif "cpu" in controllers.split(","):
                tops = [HIERARCHIES / controllers, HIERARCHIES / "cpu"]
            else:
                continue
            inside = Path(path.lstrip("/"))
            yield from (top / group for top in tops for group in (inside, *inside.parents))


def _quota(group: Path) -> float | None:
    """Read the CPU limit of a control group in cores; None without a limit."""
    with suppress(OSError, ValueError):  # "max" is no number
        quota_us, period_us = map(int, (group / "cpu.max").read_text().split())
        return quota_us / period_us
    with suppress(OSError, ValueError):
        quota_us, period_us = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota_us / period_us if quota_us > 0 else None
    return None

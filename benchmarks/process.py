"""A running process and its descendants: processor time and memory, as Linux counts them.

It does not know what the processes do.
"""

import os
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Give the process and all its descendants, the process first."""
    found = [pid]
    for one in found:  # grows as it is read
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Add up the processor time, of user and system, that the family has used so far."""
    # The second field is the program's name in brackets, which may itself hold spaces and brackets.
    fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in family(pid)]
    return sum(int(own[11]) + int(own[12]) for own in fields) / TICKS_PER_S


def resident_mb(pid: int) -> float:
    """Add up the memory in MB (10^6 bytes) that the family holds now."""
    return sum(_kilobytes(one, "VmRSS") for one in family(pid)) * 1024 / 1e6


def peak_mb(pid: int) -> float:
    """Add up the most memory in MB that each of the family has held since its start, or since `forget_peak`."""
    return sum(_kilobytes(one, "VmHWM") for one in family(pid)) * 1024 / 1e6


def forget_peak(pid: int) -> None:
    """Have the peaks start again from what is held now."""
    for one in family(pid):
        Path(f"/proc/{one}/clear_refs").write_text("5")


def _kilobytes(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(f"{field}:"))

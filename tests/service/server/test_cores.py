"""The default number of workers follows the limits of a container or a unit of systemd."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.server import cores
from service.server.cores import usable_cores

VERSION_1 = Path("/sys/fs/cgroup/cpu")

PRINT = "from service.server.cores import usable_cores; print(usable_cores())"


@pytest.fixture
def group() -> Iterator[Path]:
    """Make a control group that is given the time of one core, with another in it that has no limit of its own."""
    above = VERSION_1 / f"test-cores-{os.getpid()}"
    inside = above / "inside"
    try:
        inside.mkdir(parents=True)
    except OSError:
        pytest.skip("this machine lets us make no control group of version 1")
    (above / "cpu.cfs_period_us").write_text("50000")
    (above / "cpu.cfs_quota_us").write_text("50000")
    yield inside
    inside.rmdir()
    above.rmdir()


@pytest.mark.process
def test_the_quota_of_a_group_around_the_own_one_counts(group: Path) -> None:
    """A process in a nested control group of version 1 counts the cores that the group above is given."""
    shell = f'echo $$ > "{group}/cgroup.procs" && exec "{sys.executable}" -c "{PRINT}"'
    assert subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout == "1\n"


CASES = {
    "a unit of systemd": (
        "0::/system.slice/anomaly.service",
        {"system.slice/anomaly.service/cpu.max": "150000 100000"},
        2,
    ),
    "the slice around it": (
        "0::/a.slice/b.service",
        {"a.slice/b.service/cpu.max": "max 100000", "a.slice/cpu.max": "50000 100000"},
        1,
    ),
    "the top of a container": ("0::/", {"cpu.max": "100000 100000"}, 1),
    "a path outside": (
        "4:cpu,cpuacct:/docker/abc",
        {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        2,
    ),
    "version 1": (
        "3:cpuset:/x\n4:cpu:/a/b",
        {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"},
        3,
    ),
    "both versions": (
        "1:cpu:/\n0::/x",
        {"cpu/cpu.cfs_quota_us": "-1", "unified/x/cpu.max": "100000 100000"},
        1,
    ),
    "no limit": ("0::/x", {"x/cpu.max": "max 100000"}, 8),
    "other controllers": ("4:cpuacct:/x", {"cpuacct/x/cpu.max": "1 1"}, 8),
    "nothing": ("", {}, 8),
}
"""What a process on eight cores reads of its groups, the limits there, and how many cores it may use."""


@pytest.mark.parametrize(("membership", "files", "expected"), CASES.values(), ids=CASES)
def test_limits_are_found_where_the_kernel_has_them(
    membership: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits of both versions of control groups are read, of the own group and of those around it."""
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "top" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    monkeypatch.setattr(cores, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(cores, "HIERARCHIES", tmp_path / "top")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert usable_cores() == expected

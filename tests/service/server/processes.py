"""Processes of a live service, as /proc shows them."""

import resource
from collections.abc import Callable
from pathlib import Path

from tests.live import LiveService, wait_until


def children(pid: int) -> set[int]:
    """Find the processes that any thread of a process has started."""
    return {int(child) for listed in Path(f"/proc/{pid}/task").glob("*/children") for child in _read(listed).split()}


def wait_until_importing(pids: Callable[[], set[int]], count: int) -> None:
    """Wait until so many of the processes are in the middle of their imports."""
    wait_until(lambda: sum("_multiarray_umath" in _read(Path(f"/proc/{pid}/maps")) for pid in pids()) >= count)


def wait_until_gone(pid: int) -> None:
    """Wait until the process has ended."""
    wait_until(lambda: (_read(Path(f"/proc/{pid}/stat")) or ") Z").rpartition(") ")[2][0] == "Z")


def limit_descriptors(pid: int, soft: int) -> int:
    """Limit the file descriptors of a process, and return the former limit."""
    before, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    return before


def n_descriptors(pid: int) -> int:
    """Count the open file descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def snapshots(service: LiveService) -> list[Path]:
    """Find the copies of files that the service has in memory, by paths that lead to them."""
    open_files = Path(f"/proc/{service.process.pid}/fd").iterdir()
    return [path for path in open_files if str(path.readlink()).startswith("/memfd:anomaly-snapshot")]


def running(pid: int, command: bytes) -> set[int]:
    """Find the children of a process whose command line has these bytes."""
    return {child for child in children(pid) if command in _read(Path(f"/proc/{child}/cmdline")).encode()}


def _read(path: Path) -> str:
    """Read a file of a process, which is empty once the process has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""

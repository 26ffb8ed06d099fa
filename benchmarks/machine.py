"""What a result was measured on: processor, memory, system, versions, commit, and the two cores in use.

It does not know what is measured.
"""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import msgspec

SERVER_CORE, LOAD_CORE = 0, 1
PACKAGES = (
    "lhc-anomaly",
    "litestar",
    "uvicorn",
    "uvloop",
    "httptools",
    "msgspec",
    "orjson",
    "numpy",
    "onnxruntime",
)


class Machine(msgspec.Struct, frozen=True):
    """The hardware and its system."""

    processor: str
    cores: int
    memory_gb: float
    system: str


def describe() -> Machine:
    """Read the machine's description from the system."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        processor=models[0].partition(":")[2].strip() if models else platform.processor(),
        cores=os.cpu_count() or 1,
        memory_gb=round(memory / 1e9, 1),
        system=platform.platform(),
    )


def versions() -> dict[str, str]:
    """Give the versions of Python and of what serves."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def commit() -> str:
    """Name the commit of the working tree, and say where files differ from it; "unknown" outside a repository."""
    try:
        head = _git("rev-parse", "HEAD").strip()
        return f"{head}, with changes" if _git("status", "--porcelain") else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cores() -> tuple[int, int]:
    """Give the core of the server and that of the load; raises SystemExit on a machine with one core alone."""
    allowed = sorted(os.sched_getaffinity(0))
    if {SERVER_CORE, LOAD_CORE} <= set(allowed):
        return SERVER_CORE, LOAD_CORE
    if len(allowed) < 2:
        raise SystemExit("benchmarks need two cores, one for the server and one for its load; this process may use one")
    return allowed[0], allowed[1]


def _git(*arguments: str) -> str:
    # Without locks: a benchmark must not disturb what its user does in the repository.
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout

"""What a result was measured on: processor, memory, system, versions, commit, and the two cores in use."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

PACKAGES = ("lhc-anomaly", "litestar", "uvicorn", "uvloop", "httptools", "msgspec", "orjson", "numpy", "onnxruntime")


class Machine(msgspec.Struct, frozen=True):
    """The hardware and its system."""

    processor: str
    cores: int
    memory_gb: float
    system: str


def provenance(command: str) -> dict[str, Any]:
    """Give the fields of `results.Run` for a run that starts now."""
    return {
        "commit": commit(),
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


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


def commit() -> str:
    """Name the commit of the working tree, and say where files differ from it; "unknown" outside a repository."""
    try:
        head = _git("rev-parse", "HEAD").strip()
        return f"{head}, with changes" if _git("status", "--porcelain") else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cores() -> tuple[int, int]:
    """Give the core of the server and that of the load; raises RuntimeError where this process may use one alone."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise RuntimeError("benchmarks need two cores, one for the server and one for its load; this process has one")
    return allowed[0], allowed[1]


def _git(*arguments: str) -> str:
    # Without locks: a benchmark must not disturb what its user does in the repository.
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout

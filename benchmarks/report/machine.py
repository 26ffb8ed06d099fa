"""The environment of a measurement: processor, memory, system, versions, commit, and the two cores in use."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

PACKAGES = ("lhc-anomaly", "litestar", "uvicorn", "uvloop", "httptools", "msgspec", "orjson", "numpy", "onnxruntime")


VECTOR_INSTRUCTIONS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "asimd": "NEON"}
"""The processor's flags for vector instructions, the widest first, and their names."""


class Machine(msgspec.Struct, frozen=True, omit_defaults=True):
    """The hardware and its system; `vector_instructions` are empty in older results."""

    processor: str
    cores: int
    memory_gb: float
    system: str
    vector_instructions: str = ""


def provenance() -> dict[str, Any]:
    """Return the fields of `results.Result`, except the model, for a measurement that starts now."""
    model = _of_processor("model name")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "commit": commit(),
        "command": f"python -m benchmarks {shlex.join(sys.argv[1:])}",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": Machine(
            processor=model or platform.processor(),
            cores=os.cpu_count() or 1,
            memory_gb=round(memory / 1e9, 1),
            system=platform.platform(),
            vector_instructions=vector_instructions(),
        ),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def vector_instructions() -> str:
    """Return the name of the processor's widest known vector instructions, or "none"."""
    flags = (_of_processor("flags") or _of_processor("Features")).split()
    return next((name for flag, name in VECTOR_INSTRUCTIONS.items() if flag in flags), "none")


def commit() -> str:
    """Return the commit of the working tree and whether files differ from it; "unknown" outside a repository."""
    try:
        head = _git("rev-parse", "HEAD").strip()
        return f"{head}, with changes" if _git("status", "--porcelain") else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def split_cores() -> tuple[int, int]:
    """Return the core of the servers and that of the load, and move this process, which is the load, to the latter.

    Raises RuntimeError where this process may use one core alone.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise RuntimeError("benchmarks need two cores, one for the server and one for its load; this process has one")
    os.sched_setaffinity(0, {allowed[1]})
    return allowed[0], allowed[1]


def _of_processor(name: str) -> str:
    """Return the system's value of this name for the first core, or an empty string."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def _git(*arguments: str) -> str:
    # Without locks, so that a benchmark does not interfere with other git commands in the repository.
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout

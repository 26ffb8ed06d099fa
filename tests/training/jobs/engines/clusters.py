"""Clusters of Dask and Ray on this machine, of the packages in build/engines, and commands that use them."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
PYTHON = ROOT / "build" / "engines" / "bin" / "python"
TIMEOUT_S = 120.0


def require_engines() -> None:
    """Skip the test where Dask and Ray are not installed."""
    if not PYTHON.exists():
        pytest.skip("Dask and Ray are not installed: make build/engines/ready")


def start(module: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start a module in the environment of the engines."""
    command = [str(PYTHON), "-m", module, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(command, env=environment, cwd=ROOT, text=True, **options)


class Cluster:
    """A cluster in a process of its own, which prints its address and obeys lines of text."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.address = self._line()

    def order(self, text: str) -> str:
        """Write a line and return the line that comes back."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        return self._line()

    def kill(self) -> None:
        """Kill the scheduler of Dask, or the head of Ray."""
        os.kill(int(self.order("head")), signal.SIGKILL)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def cluster(kind: str, workers: int) -> Iterator[Cluster]:
    """Have a cluster of Dask or Ray with so many workers of one core each; it ends with the context."""
    module = f"tests.training.jobs.engines.{kind}_cluster"
    with start(module, workers, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Cluster(process)
        finally:
            process.communicate(timeout=TIMEOUT_S)  # the end of its input ends it

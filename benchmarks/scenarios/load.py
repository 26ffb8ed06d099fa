"""Locust's clients against a service that is started for them."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.targets.service import service

LOCUSTFILE = Path(__file__).parents[1] / "locustfile.py"


def run(model: str, users: int, seconds: int) -> int:
    """Run the clients without Locust's web page, and give its exit status: 1 after any failure."""
    with service(model, cores=os.sched_getaffinity(0)) as server:
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
        command += ["--host", server.base_url, "--users", str(users), "--spawn-rate", str(users)]
        command += ["--run-time", f"{seconds}s"]
        return subprocess.run(command, env={**os.environ, "BENCHMARK_MODEL": model}, check=False).returncode

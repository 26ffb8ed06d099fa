"""Load test: starts a service on a free port, runs Locust's clients against it, and stops it.

    python -m benchmarks.load --users 8 --seconds 30 --model exported/autoencoder.onnx

It does not know what the clients send: see locustfile.py.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.servers import service_flags, serving

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the load test; gives Locust's exit status, which is 1 after any failure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description="Load-test the service.")
    parser.add_argument("--users", type=int, default=8, help="clients at once (default: 8)")
    parser.add_argument("--seconds", type=int, default=30, help="how long (default: 30)")
    parser.add_argument("--model", default="exported/autoencoder.onnx", help="artefact (default: %(default)s)")
    flags = parser.parse_args(argv)
    with serving("service", *service_flags(flags.model), cores=os.sched_getaffinity(0)) as server:
        return run_locust(server.url, flags.model, flags.users, flags.seconds)


def run_locust(url: str, model: str, users: int, seconds: int) -> int:
    """Run the clients without Locust's web page, and give its exit status."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    command += ["--host", url, "--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s"]
    return subprocess.run(command, env={**os.environ, "BENCHMARK_MODEL": model}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

"""Load test: starts a service on a free port, runs Locust's clients against it, and stops it.

    python -m benchmarks.load --users 8 --seconds 30 --model exported/autoencoder.onnx

It does not know what the clients send: see locustfile.py.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the load test; gives Locust's exit status, which is 1 after any failure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description="Load-test the service.")
    parser.add_argument("--users", type=int, default=8, help="clients at once (default: 8)")
    parser.add_argument("--seconds", type=int, default=30, help="how long (default: 30)")
    parser.add_argument("--model", default="exported/autoencoder.onnx", help="artefact (default: %(default)s)")
    flags = parser.parse_args(argv)
    with running_service(flags.model) as (url, _):
        return run_locust(url, flags.model, flags.users, flags.seconds)


@contextmanager
def running_service(model: str) -> Iterator[tuple[str, int]]:
    """Serve `model` on a free port until the end of the block, which gets the URL and the process's number.

    Raises SystemExit if the service does not start, or stops with another status than 0.
    """
    command = [sys.executable, "-m", "service", "--model", model, "--port", "0", "--log-level", "info"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
        assert service.stderr is not None
        try:
            url = wait_until_ready(service.stderr)
            # Somebody has to read on, or the service stands still once the pipe is full.
            threading.Thread(target=sys.stderr.writelines, args=(service.stderr,), daemon=True).start()
            yield url, service.pid
        finally:
            service.send_signal(signal.SIGTERM)
            status = service.wait(60)
    if status != 0:
        raise SystemExit(f"the service stopped with status {status}, expected 0")


def wait_until_ready(log: Iterable[str]) -> str:
    """Read the service's log until it says where it listens; raises SystemExit with its last words if it ends."""
    line = ""
    for line in log:
        event = json.loads(line)
        if event["event"] == "ready":
            url: str = event["url"]
            return url
    raise SystemExit(f"the service did not start: {line}")


def run_locust(url: str, model: str, users: int, seconds: int) -> int:
    """Run the clients without Locust's web page, and give its exit status."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    command += ["--host", url, "--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s"]
    return subprocess.run(command, env={**os.environ, "BENCHMARK_MODEL": model}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

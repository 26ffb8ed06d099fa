"""The service as the first process of a container."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.targets.launcher import starting
from tests.live import TIMEOUT_S, wait_until
from tests.service.server.processes import children

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_first_process_reaps_what_it_inherits(model_path: Path, workers: str) -> None:
    """Orphans of others are gone when they have ended, and a signal drains and stops the service with its status."""
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets us make no namespace of processes")
    command = [sys.executable, "-m", "service", "--model", str(model_path), "--port", "0", "--workers", workers]
    with starting([*NAMESPACE, *command]) as server:
        server.wait_for("ready")
        [first] = children(server.pid)
        [serving] = children(first)
        orphan = "import os; os.fork() and os._exit(0)"
        for _ in range(5):
            inside = ["nsenter", "--target", str(first), "--pid", "--mount", sys.executable, "-c", orphan]
            subprocess.run(inside, check=True, timeout=TIMEOUT_S)
        wait_until(lambda: children(first) == {serving})
        os.kill(first, signal.SIGHUP)
        server.wait_for("model unchanged")
        os.kill(first, signal.SIGTERM)
        assert server.process.wait(TIMEOUT_S) == 0
        assert server.events("stopped")

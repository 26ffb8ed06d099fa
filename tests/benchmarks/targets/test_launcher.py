"""Servers are started, and known by what they log."""

import os
import sys

import pytest

from benchmarks.targets.launcher import serving, starting

pytestmark = pytest.mark.process

SAYS = """
import sys, time
for line in '{"event": "starting"}', 'Traceback', '{"event": "ready", "url": "http://127.0.0.1:1"}':
    print(line, file=sys.stderr)
time.sleep(60)
"""


def test_a_server_logs_where_it_listens() -> None:
    """The line is found among others, of which one that is not JSON is an error."""
    with starting([sys.executable, "-c", SAYS]) as server:
        assert server.wait_for("ready")["url"] == "http://127.0.0.1:1"
        assert server.log_lines[1] == {"event": "Traceback", "level": "ERROR"}
        assert server.stop() != 0


def test_a_service_without_model_does_not_start() -> None:
    """The error shows what it has logged."""
    with (
        pytest.raises(RuntimeError, match=r"did not log 'ready' 1 times:\n.*missing\.onnx"),
        serving("service", "--model", "missing.onnx", "--port", "0", cores=os.sched_getaffinity(0)),
    ):
        pass

"""What the service says at its start."""

import shutil
import sys
from pathlib import Path

import pytest

import service
from benchmarks.targets.launcher import starting
from service.formats.json import READS_IN_C
from tests.artefacts import write_artefact
from tests.live import LiveService, live_service

pytestmark = pytest.mark.process
SLOW = "JSON is read slowly"


def test_a_warning_says_that_json_is_read_slowly(tmp_path: Path) -> None:
    """Without its C function a service says so once, however many workers it has, with cost and remedy; it scores."""
    of_package = Path(service.__file__).parent
    shutil.copytree(of_package, tmp_path / "service", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    model = write_artefact(tmp_path / "model.onnx")
    command = [sys.executable, "-P", "-m", "service", "--model", str(model), "--port", "0", "--workers", "2"]
    with starting(command, env={"PYTHONPATH": str(tmp_path)}) as server:
        slow = LiveService(server.process, server.log)
        slow.base_url = slow.wait_for("ready")["url"]
        response = slow.post("/score/batch", b'{"events": [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]}', "application/json")
        (warning,) = slow.events(SLOW)
    assert (response.status_code, len(response.json()["anomaly_scores"])) == (200, 2)
    assert warning["level"] == "WARNING"
    assert all(said in warning["detail"] for said in ("ten times as long", "install a C compiler"))


@pytest.mark.skipif(not READS_IN_C, reason="_json_rows.c was not built: it needs a C compiler and Python.h")
def test_nothing_is_said_where_json_is_read_in_c(tmp_path: Path) -> None:
    """A service with its C function does not warn."""
    with live_service(write_artefact(tmp_path / "model.onnx")) as fast:
        assert fast.events(SLOW) == []

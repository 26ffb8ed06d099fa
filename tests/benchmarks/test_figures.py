"""Figures of the benchmarks are drawn whatever the environment and the user's matplotlibrc say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPORT = """
from benchmarks.report import results
from benchmarks.report.figures import draw
found = results.read(results.Memory)
results.FOLDER = Path()
draw(found)
"""
DETECTORS = """
import msgspec
from benchmarks.detectors.figures import plot_aucs
from benchmarks.detectors.results import Comparison
found = msgspec.json.decode(Path(ROOT, "exported/comparison/comparison.json").read_bytes(), type=Comparison)
Path("auc.png").write_bytes(plot_aucs(found.results, found.signals))
"""
ROOT = Path(__file__).parents[2]


@pytest.mark.process
@pytest.mark.parametrize(
    ("code", "name"),
    [
        pytest.param(REPORT, "memory.png", id="report"),
        pytest.param(DETECTORS, "auc.png", id="detectors", marks=pytest.mark.slow),
    ],
)
def test_the_environment_does_not_matter(code: str, name: str, tmp_path: Path) -> None:
    """A notebook's MPLBACKEND without its package and a matplotlibrc that asks for LaTeX change nothing."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: no_such_backend\n", encoding="utf-8")
    strange = {"MPLBACKEND": "module://no_such_package.backend_inline", "MATPLOTLIBRC": str(tmp_path)}
    drawn = []
    for variables in (strange, {}):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        script = f"from pathlib import Path\nROOT = {str(ROOT)!r}\n{code}"
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, timeout=120)
        drawn.append((tmp_path / name).read_bytes())
        (tmp_path / "matplotlibrc").unlink(missing_ok=True)
    assert drawn[0] == drawn[1]

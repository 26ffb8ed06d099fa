"""The study of weak supervision trains on what its files say, and scores events that no training saw."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.detectors import weak
from benchmarks.detectors.weak import FLOORS, REFERENCE, TEST, WINDOW, Training, main, measure, sic


def written(path: Path, background: int, signal: int, seed: int) -> None:
    """Write events of the window as published: masses in TeV, tau21 of both jets, label."""
    rng, labels = np.random.default_rng(seed), np.repeat([0, 1], [background, signal])
    masses = rng.exponential(0.1, (len(labels), 2)) + 0.3 * labels[:, None] * rng.random((len(labels), 2))
    tau21 = rng.uniform(0, 1, (len(labels), 2)) * (1 - 0.6 * labels[:, None])
    mjj = rng.uniform(3.3, 3.7, len(labels))
    np.save(path, np.column_stack([mjj, masses, tau21, labels]))


def test_figures_have_their_floors() -> None:
    """The improvement is the largest with so many background events left, here known in advance."""
    background, signal = np.arange(10_000.0), np.full(50, 9_974.5)  # 25 background events score higher
    result = measure([np.concatenate([background, signal])], 10_000, 50, 10_000)
    assert result.figures[sic(25)] == [pytest.approx(1 / np.sqrt(25 / 10_000))]
    assert result.figures[sic(100)][0] <= 1 / np.sqrt(100 / 10_000)
    assert FLOORS == (25, 100)


@pytest.mark.slow
@pytest.mark.process
def test_the_study_writes_table_and_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small window has a line a fraction of signal; repeated, nothing is trained again, and no byte differs."""
    monkeypatch.setattr(weak, "SIGNAL_EVENTS", (300, 20))
    for name, sizes in ((WINDOW, (2000, 300)), (REFERENCE, (2000, 10)), (TEST, (1500, 400))):
        written(tmp_path / name, *sizes, seed=len(name))
    out = tmp_path / "out"
    arguments = [str(tmp_path), "--out", str(out), "--seeds", "1", "--processes", "1"]
    assert main(arguments) == 0
    page = (out / "weak.md").read_text()
    assert "| 13.04% (300) |" in page
    assert "2,000 background events" in page
    assert "](weak.png)" in page
    assert (out / "weak.png").read_bytes().startswith(b"\x89PNG")
    files = {path: path.stat().st_mtime_ns for path in (out / "parts" / "weak").glob("*.npy")}
    assert len(files) == 2
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files
    scores = Training(tmp_path, 1900, 300, 1)
    learned = np.load(out / "parts" / "weak" / scores.name)
    assert learned.shape == (1900,)
    assert learned[1500:].mean() > learned[:1500].mean()

"""The comparison of simulated events with the published sample."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.training import samples
from training.__main__ import main
from training.evaluation.validation import PUBLISHED_MOMENTS, quantiles_table
from training.events.events import FEATURE_NAMES, read_events
from training.events.kinematics import quantities

SAMPLE = Path(__file__).parents[3] / "exported" / "sample.h5"


def test_what_an_event_lacks_does_not_count() -> None:
    """A quantile is one of the events that have the quantity, and there is none where no event does."""
    events = samples.background(3)
    events[1:, 7:] = 0.0
    one, none = quantities(events), quantities(events[1:])
    rows = [line.split() for line in quantiles_table({"one": one, "none": none}).splitlines()]
    assert ["ptj2", "/".join(3 * [f"{one['ptj2'][0]:.4g}"]), "-"] in rows


def test_a_figure_that_cannot_be_drawn_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The numbers are printed all the same, and the exit code is 1."""
    events, plot = samples.written(tmp_path / "events.h5", samples.background(100)), tmp_path / "comparison.png"
    plot.write_text("old")
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: 1 // 0)
    assert main(["validate", str(events), "--out", str(plot)]) == 1
    assert "background quantiles" in capsys.readouterr().out
    assert plot.read_text() == "old"


@pytest.mark.slow
def test_both_samples_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints every feature beside its published moments and writes the histograms."""
    plot = tmp_path / "comparison.png"
    assert main(["validate", str(SAMPLE), "--reference", str(SAMPLE), "--out", str(plot)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*FEATURE_NAMES, "published", "simulated", "reference", "mjj"))
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_simulation_reproduces_the_published_moments() -> None:
    """Mean and standard deviation of every simulated feature are the published ones within a few percent and errors."""
    background = read_events(SAMPLE).background.features.astype(np.float64)
    for values, name in zip(background.T, FEATURE_NAMES, strict=True):
        mean, deviation = PUBLISHED_MOMENTS[name]
        statistical = deviation / np.sqrt(len(values))
        assert abs(values.mean() - mean) < 0.03 * abs(mean) + 4 * statistical, name
        assert abs(values.std() - deviation) < 0.05 * deviation + 8 * statistical, name

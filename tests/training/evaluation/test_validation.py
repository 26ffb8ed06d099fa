"""The comparison of simulated events with the published sample."""

from pathlib import Path

import numpy as np
import pytest

from tests.training import samples
from training.__main__ import main
from training.evaluation.validation import PUBLISHED_MOMENTS, RANGES, quantities
from training.events.events import FEATURE_NAMES, Events, read_events

SAMPLE = Path(__file__).parents[3] / "exported" / "sample.h5"


def test_quantities_follow_their_definitions() -> None:
    """pT, ratios and the dijet mass are what four-vector arithmetic gives for one event."""
    jets = [[300.0, 400.0, 100.0, 50.0, 40.0, 20.0, 5.0], [-300.0, -400.0, 200.0, 80.0, 30.0, 10.0, 4.0]]
    found = quantities(Events(np.array([jets[0] + jets[1]], dtype=np.float32)))
    energy = sum(np.sqrt(px**2 + py**2 + pz**2 + m**2) for px, py, pz, m, *_ in jets)
    assert found["pT j1"][0] == pytest.approx(500)
    assert found["m j2"][0] == pytest.approx(80)
    assert found["tau2/tau1 j1"][0] == pytest.approx(0.5, rel=1e-5)
    assert found["tau3/tau2 j2"][0] == pytest.approx(0.4, rel=1e-5)
    assert found["mJJ"][0] == pytest.approx(np.sqrt(energy**2 - 300.0**2))


def test_a_jet_without_substructure_has_finite_ratios() -> None:
    """An event whose jets have tau = 0 yields no NaN and no infinity."""
    event = np.zeros((1, 14), dtype=np.float32)
    event[0, [0, 7]] = 1300, -1300
    assert all(np.isfinite(values).all() for values in quantities(Events(event)).values())


def test_what_an_event_lacks_counts_as_0() -> None:
    """Without a second jet its quantities and the dijet mass are 0, and those of the first jet are as they were."""
    whole = samples.background(1)
    lacking = whole.copy()
    lacking[:, 7:] = 0.0
    found, expected = quantities(Events(lacking)), quantities(Events(whole))
    assert list(found) == list(RANGES)
    for name, values in found.items():
        assert values == (expected[name] if name.endswith("j1") else 0.0), name


def test_both_samples_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints every feature beside its published moments and writes the histograms."""
    plot = tmp_path / "comparison.png"
    assert main(["validate", str(SAMPLE), "--reference", str(SAMPLE), "--out", str(plot)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*FEATURE_NAMES, "published", "simulated", "real", "mJJ"))
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_simulation_reproduces_the_published_moments() -> None:
    """Mean and standard deviation of every simulated feature are the published ones within a few percent and errors."""
    background = read_events(SAMPLE).background.features.astype(np.float64)
    for values, name in zip(background.T, FEATURE_NAMES, strict=True):
        mean, deviation = PUBLISHED_MOMENTS[name]
        statistical = deviation / np.sqrt(len(values))
        assert abs(values.mean() - mean) < 0.03 * abs(mean) + 4 * statistical, name
        assert abs(values.std() - deviation) < 0.05 * deviation + 8 * statistical, name

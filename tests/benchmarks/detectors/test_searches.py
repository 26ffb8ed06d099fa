"""Searches in pseudo-experiments: what they are drawn from, and what the shipped model for signals finds."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.detectors.pseudo_spectra import SIGNAL_REGION_GEV, smoothed
from benchmarks.detectors.searches import EVENTS, HEADLINE, main
from tests.training.search import spectra
from training.events.kinematics import quantities
from training.search.samples import Sample
from training.search.spectrum import histogram


def simulated(background: int, signal: int) -> Sample:
    """Return events of both kinds of which a fraction passes that grows with the mass, and most of the signal."""
    features = np.concatenate([spectra.background(background), spectra.resonance(signal)])
    mjj, rng = quantities(features)["mjj"], np.random.default_rng(1)
    is_signal = np.arange(len(mjj)) >= background
    passed = rng.uniform(size=len(mjj)) < np.where(is_signal, 0.8, 0.1 * mjj / 3500)
    return Sample("simulated", "0" * 64, mjj, passed, is_signal, trained_on=False)


def test_pseudo_experiments_are_drawn_from_smooth_spectra_of_the_events() -> None:
    """Their sums are those of the events, scaled; S is S/sqrt(B) times the root of B before the selection."""
    sample = simulated(20_000, 2000)
    parent = smoothed([sample], spectra.EDGES, EVENTS)
    assert sample.is_signal is not None
    kept = histogram(sample.mjj[sample.passed & ~sample.is_signal], spectra.EDGES)
    assert parent.background.sum() == pytest.approx(kept.sum() * EVENTS / 20_000, rel=1e-3)
    many = kept >= 20
    pulls = (kept - parent.background * 20_000 / EVENTS)[many] / np.sqrt(kept[many])
    assert 0.5 < pulls.std() < 1.4
    assert (np.diff(parent.background / np.diff(spectra.EDGES))[:25] < 0).all()
    inside = (SIGNAL_REGION_GEV[0] < sample.mjj) & (sample.mjj < SIGNAL_REGION_GEV[1])
    b = (inside & ~sample.is_signal).sum() * EVENTS / 20_000
    assert parent.background_in_region == pytest.approx(b)
    fraction = (inside & sample.is_signal).sum() / 2000
    accepted = 2.2 * b**0.5 / fraction * (sample.passed & sample.is_signal).sum() / 2000
    assert parent.injected(2.2).sum() == pytest.approx(accepted, rel=0.01)


@pytest.mark.slow
def test_p_values_without_signal_are_uniform_and_the_headline_signal_is_found(tmp_path: Path) -> None:
    """Twenty whole searches without signal; and 5 sigma at the literature's S/sqrt(B) with the exposed model."""
    files = ["exported/sample.h5", "--models", "exported/exposed/autoencoder.onnx", "--out", str(tmp_path)]
    assert main([*files, "--spectra", "20", "--toys", "100"]) == 0
    curves = {one["working_point"]: one for one in json.loads((tmp_path / "searches.json").read_text())["curves"]}
    assert curves["loose"]["uniform"] > 0.05
    assert len(curves["loose"]["p_values"]) == 20
    assert curves["medium"]["found"][f"{HEADLINE:g}"][1] > 5
    for one in curves.values():
        medians = [middle for _, middle, _ in one["found"].values()]
        assert abs(medians[0]) < 1
        # Beyond 5 sigma it depends on the extrapolation of the toys.
        assert max(medians) in medians[len(medians) // 2 :]
    assert (tmp_path / "searches.png").read_bytes().startswith(b"\x89PNG")
    assert "Pseudo-experiments, not simulated events" in (tmp_path / "searches.md").read_text()

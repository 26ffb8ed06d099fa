"""The detector's score is that of plain loops, finite for any event and independent of all other events."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training import samples
from tests.training.detectors.oracle import CONFIGS, DENSITY, EVENTS, RTOL, layers, scores, slow_score, untrained
from training.detectors.autoencoders import Autoencoder
from training.detectors.feature_maps import RawFeatures
from training.detectors.presets import PRESETS
from training.detectors.scorer import MAX_DEVIATIONS, AnomalyScorer, Scaler


@pytest.mark.parametrize("name", CONFIGS)
def test_the_score_is_the_slow_one(name: str) -> None:
    """Of background, signal and degenerate events, torch gives the score that plain loops give, each time."""
    scorer = untrained(CONFIGS[name])
    expected = [slow_score(scorer, CONFIGS[name], event) for event in EVENTS.astype(np.float64).tolist()]
    found = scores(scorer, EVENTS)
    np.testing.assert_allclose(found, expected, rtol=RTOL)
    np.testing.assert_array_equal(scores(scorer, EVENTS), found)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_event_has_a_finite_score_of_its_own(name: str) -> None:
    """Extreme events score finitely and not below 0; alone, an event has its score of a batch, within rounding."""
    largest = np.finfo(np.float32).max
    extreme = np.concatenate([EVENTS, np.full((1, 14), largest), np.full((1, 14), -largest)]).astype(np.float32)
    scorer = untrained(CONFIGS[name])
    found = scores(scorer, extreme)
    assert np.all(np.isfinite(found))
    assert np.all(found >= 0.0)
    alone = np.concatenate([scores(scorer, extreme[row : row + 1]) for row in range(len(extreme))])
    np.testing.assert_allclose(found, alone, rtol=1e-5)


def rotated(events: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return events (n, 14) rotated about the beam and reflected across it."""
    jets = events.copy().reshape(-1, 2, 7)
    cos, sin = math.cos(1.234), math.sin(1.234)
    px, py = jets[..., 0].copy(), jets[..., 1].copy()
    jets[..., 0], jets[..., 1], jets[..., 2] = cos * px - sin * py, sin * px + cos * py, -jets[..., 2]
    return jets.reshape(-1, 14)


@pytest.mark.parametrize("feature_map", ["substructure", "jets"])
def test_azimuth_does_not_change_the_score(
    feature_map: Literal["substructure", "jets"], subtests: pytest.Subtests
) -> None:
    """An event rotated about the beam, or reflected, keeps its score whatever the architecture."""
    events = samples.background(50)
    for name in ("classic", "variational", "density", "classifier"):
        with subtests.test(msg=name):
            scorer = untrained(replace(CONFIGS[name], feature_map=feature_map))
            found, expected = scores(scorer, rotated(events)), scores(scorer, events)
            np.testing.assert_allclose(found, expected, rtol=RTOL, atol=1e-5)
            if feature_map == "substructure":  # which takes no momentum
                np.testing.assert_array_equal(found, expected)


def test_classic_has_the_published_widths() -> None:
    """The reference model is 14-64-32-16-32-64-14 on raw features, and nothing else has weights."""
    scorer = AnomalyScorer(PRESETS["classic"])
    network = [*layers(scorer, "encoder"), *layers(scorer, "decoder")]
    widths = [14, 64, 32, 16, 32, 64, 14]
    assert [len(weights[0]) for weights, _ in network] + [len(network[-1][0])] == widths
    parameters = sum(out * (into + 1) for into, out in pairwise(widths))
    assert sum(values.numel() for values in scorer.parameters()) == parameters
    assert isinstance(scorer.feature_map, RawFeatures)
    assert isinstance(scorer.network, Autoencoder)


def test_a_checkpoint_holds_what_is_fitted() -> None:
    """The state is weights, the constants of scaler, density and range: the matrices of a feature map are code."""
    assert {name.partition(".")[0] for name in AnomalyScorer(DENSITY).state_dict()} == {"network", "scaler", "range"}


def test_the_scaler_takes_mean_and_standard_deviation() -> None:
    """Constants are those of the values that it was fitted to; a constant quantity is divided by 1, never by 0."""
    values = samples.background(1000, seed=5)
    values[:, 5] = 7.0
    scaler = Scaler(14)
    scaler.fit(torch.from_numpy(values))
    wide = values.astype(np.float64)
    np.testing.assert_allclose(scaler.mean, wide.mean(axis=0), rtol=1e-6)
    expected = np.where(np.arange(14) == 5, 1.0, wide.std(axis=0))
    np.testing.assert_allclose(scaler.scale, expected, rtol=1e-6)
    standardised = scaler(torch.from_numpy(values) - scaler.mean)
    np.testing.assert_allclose(standardised, (wide - wide.mean(axis=0)) / expected, rtol=1e-4, atol=1e-5)
    assert torch.all(standardised[:, 5] == 0.0)


def test_an_event_far_out_is_bounded() -> None:
    """A quantity counts as at most MAX_DEVIATIONS standard deviations from the mean, either way."""
    scaler = Scaler(2)
    scaler.fit(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
    found = scaler(torch.tensor([[1e38, -1e38], [1.0 + 5e3, 20.0]]) - scaler.mean)
    np.testing.assert_array_equal(found, [[MAX_DEVIATIONS, -MAX_DEVIATIONS], [5e3, 0.0]])

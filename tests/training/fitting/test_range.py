"""What lies outside the range of the training events scores as high as the most anomalous of them, in every model."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training import samples
from tests.training.fitting.runs import CONFIGS, FEATURES
from training.detectors.feature_maps import FEATURE_MAPS, Jets
from training.detectors.range import (
    COMBINATIONS,
    LEAST_MARGIN,
    PROBABILITY_BEYOND,
    SIGN_MARGIN_GEV,
    TAIL_EVENTS,
    FeatureRange,
    Range,
)
from training.detectors.scorer import AnomalyScorer
from training.events.events import FEATURE_NAMES
from training.fitting.run import Run, split

Floats = NDArray[np.float64]
Finished = Callable[[str], tuple[Run, Path]]

MOMENTA = (0, 1, 2, 7, 8, 9)
ORDINARY = np.array([[1300, 0, 200, 150, 90, 50, 30, -1200, 0, 300, 140, 80, 45, 25]], np.float32)


def model(finished: Finished, name: str) -> tuple[AnomalyScorer, NDArray[np.float32]]:
    """Return a trained detector and its training part."""
    run, _ = finished(name)
    return run.best_scorer(), FEATURES[split(len(FEATURES), run.config)[0]]


def scored(scorer: torch.nn.Module, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a module gives for features (n, 14): (n,)."""
    with torch.no_grad():
        found: NDArray[np.float32] = scorer(torch.from_numpy(features)).numpy()
    return found


def far_values(column: int, features: NDArray[np.float32]) -> list[float]:
    """Return values of a feature that lie far outside its range in the training part (n, 14)."""
    large = [sign * 10.0**power for power in range(-3, 36) for sign in (1, -1)]
    largest = float(np.abs(features[:, column]).max())
    if column in MOMENTA:
        return [value for value in large if abs(value) > 10 * largest]
    least = float(features[:, column].min())
    return [0.0, *(value for value in large if value > 10 * largest or value < least / 1000)]


@pytest.mark.parametrize("name", CONFIGS)
def test_garbage_is_not_ordinary(finished: Finished, name: str, subtests: pytest.Subtests) -> None:
    """A feature far outside, or a pair of them, and whole events of random numbers are the most anomalous, finitely."""
    scorer, training = model(finished, name)
    highest = scored(scorer, training).max()
    values = [far_values(column, training) for column in range(14)]
    one = np.array([(column, value) for column in range(14) for value in values[column]])
    single = np.repeat(ORDINARY, len(one), axis=0)
    single[np.arange(len(one)), one[:, 0].astype(int)] = one[:, 1]
    two = [(a, b, x, y) for a, b in combinations(range(14), 2) for x in values[a][::9] for y in values[b][::9]]
    both = np.array(two)
    pairs = np.repeat(ORDINARY, len(both), axis=0)
    for column in (0, 1):
        pairs[np.arange(len(both)), both[:, column].astype(int)] = both[:, column + 2]
    rng = np.random.default_rng(3)
    away = rng.standard_normal((5000, 14))
    away *= 10 ** rng.uniform(2, 8, (5000, 1)) / np.linalg.norm(away, axis=1, keepdims=True)
    random = (training.mean(axis=0) + training.std(axis=0) * away).astype(np.float32)
    other_units = np.concatenate([training / 1000, training * 1000])
    largest = np.full((2, 14), np.finfo(np.float32).max)
    largest[1] *= -1
    kinds = {"one": single, "two": pairs, "100 deviations": random, "units": other_units, "largest": largest}
    for kind, events in kinds.items():
        with subtests.test(kind):
            found = scored(scorer, events)
            assert np.isfinite(found).all()
            below = events[found < highest]
            assert len(below) == 0, below[0].tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_inside_the_range_the_network_decides(finished: Finished, name: str) -> None:
    """The training events have the network's scores, to the bit, and nothing ordinary reaches the highest of them."""
    scorer, training = model(finished, name)
    with torch.no_grad():
        expected = scorer.network.score(scorer.standardise(torch.from_numpy(training))).numpy()
    found = scored(scorer, training)
    np.testing.assert_array_equal(found, expected)
    ordinary = scored(scorer.range, samples.background(100_000, seed=77))
    assert np.mean(ordinary >= found.max()) < 1e-4


def slow_quantities(features: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Return the quantities of features (n, 14) with an edge above, or for their sign: (n, 42) and (n, 8)."""
    columns, signs = [], []
    ln_pt = []
    for px, py, pz, *others in features.astype(np.float64).reshape(-1, 2, 7).transpose(1, 2, 0):
        mass, *taus = others
        logs = [0.5 * np.log(np.maximum(px**2 + py**2, 1)), np.log(np.maximum(mass, 1))]
        logs += [np.log(np.maximum(tau, 0.1)) for tau in taus]
        pt, m, tau1, tau2, tau3 = logs
        columns += [pz, *logs, m - pt, tau1 - m, tau2 - tau1, tau3 - tau2]
        signs += [-value for value in others]
        ln_pt.append(pt)
    columns.append(ln_pt[1] - ln_pt[0])
    return np.stack([value for column in columns for value in (column, -column)], axis=1), np.stack(signs, axis=1)


def test_the_range_is_the_slow_one() -> None:
    """Margins are those of an exponential tail beyond each edge; over the outer half the score rises."""
    features, (least, most) = samples.background(4000, seed=4), (0.5, 12.0)
    fitted = Range(Jets())
    assert not fitted.fitted
    np.testing.assert_array_equal(scored(fitted, ORDINARY), [0.0])
    fitted.fit(torch.from_numpy(features), torch.tensor([least, 1.0, most]))
    assert fitted.fitted
    ordered = np.sort(slow_quantities(features)[0], axis=0)[::-1]
    edges = ordered[0]
    excess = (ordered[: TAIL_EVENTS + 1] - ordered[TAIL_EVENTS]).mean(axis=0)
    margins = np.maximum(excess * np.log(1 / (len(features) * PROBABILITY_BEYOND)), LEAST_MARGIN)
    outward = (samples.signal(200) * np.random.default_rng(0).uniform(-0.5, 5.0, (200, 14))).astype(np.float32)
    for events in (features[:200], samples.degenerate(), outward):
        values, signs = slow_quantities(events)
        distance = np.maximum(((values - edges) / margins).max(axis=1), (signs / SIGN_MARGIN_GEV).max(axis=1))
        expected = least + (most - least) * (2 * distance - 1)
        np.testing.assert_allclose(scored(fitted, events), expected, rtol=1e-3, atol=1e-3)


def test_farther_outside_never_scores_lower() -> None:
    """Along each feature, beyond the range the score does not fall."""
    fitted = Range(Jets())
    features = samples.background(2000)
    fitted.fit(torch.from_numpy(features), torch.tensor([0.0, 10.0]))
    for column in range(14):
        for values in (np.geomspace(1e4, 1e35, 50), -np.geomspace(1e4, 1e35, 50)):
            events = np.repeat(ORDINARY, len(values), axis=0)
            events[:, column] = values
            found = scored(fitted, events)
            assert np.all(np.diff(found) >= -1e-5 * np.abs(found[1:]))


def test_every_quantity_of_a_feature_map_has_edges() -> None:
    """What a network sees are features, or combinations that the range knows."""
    known = {*FEATURE_NAMES, *(f"{name}j{jet}" for name in COMBINATIONS for jet in (1, 2))}
    for name, feature_map in FEATURE_MAPS.items():
        assert set(feature_map().names) <= known, name


@pytest.mark.parametrize("events", [1, 2, 50])
def test_few_or_equal_events_have_a_range(events: int) -> None:
    """Of a few events, or of equal ones with equal scores, the range is narrow, and what lies outside scores higher."""
    fitted = Range(Jets())
    features = np.repeat(ORDINARY, events, axis=0)
    fitted.fit(torch.from_numpy(features), torch.full((events,), 3.0))
    assert scored(fitted, ORDINARY) <= 3.0
    assert scored(fitted, ORDINARY / np.float32(1000)) > 4.0


def test_features_of_any_meaning_have_a_range() -> None:
    """Each feature has two edges, far from 0 or without any spread too: inside them the network decides."""
    features = torch.from_numpy(np.random.default_rng(1).normal([100, -3, 0.5], [1, 0.01, 0], (5000, 3))).float()
    scores = torch.linspace(1, 2, len(features))
    fitted = FeatureRange(3)
    assert not fitted.fitted
    fitted.fit(features, scores)
    assert fitted.fitted
    assert fitted.floor == 2
    assert (fitted(features) < 1).all()
    far = torch.tensor([[10.0], [0.1], [10.0]]).flatten().diag()
    assert (fitted(torch.cat([features[0] + far, features[0] - far])) > 2).all()

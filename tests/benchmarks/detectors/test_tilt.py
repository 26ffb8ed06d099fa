"""The tilt is its formula, and is added to a score in the units of -ln density."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.detectors.samples import ComparisonEvents
from benchmarks.detectors.tilt import GAUSSIAN_SPREAD, WEIGHT, Unit, of_taus_alone, tilt, with_tilt
from tests.training import samples

Floats = NDArray[np.float64]


def test_the_tilt_is_its_formula() -> None:
    """A sum of six or four logarithms in standard deviations of the training background, taus of 0.1 GeV at least."""
    background, scored = samples.background(500, seed=1), np.concatenate([samples.signal(50), samples.degenerate()])
    events = ComparisonEvents(background, None, scored, ())
    expected = np.zeros(len(scored))
    for column in (4, 5, 11, 12):  # tau1 and tau2 of both jets, and after each what is above it in the ratio
        ordinary, ratio = (
            np.log(np.maximum(one[:, column + 1], 0.1) / np.maximum(one[:, column], 0.1))
            for one in (background, scored)
        )
        expected -= (ratio - ordinary.mean()) / ordinary.std()
    np.testing.assert_allclose(of_taus_alone(events), expected, rtol=1e-3, atol=1e-3)
    for mass, tau in ((3, 4), (10, 11)):
        ordinary, ratio = (
            np.log(np.maximum(one[:, tau], 0.1) / np.maximum(one[:, mass], 1.0)) for one in (background, scored)
        )
        expected += (ratio - ordinary.mean()) / ordinary.std()
    np.testing.assert_allclose(tilt(events), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (Unit.LOG_DENSITY, lambda scores: scores),
        (Unit.SQUARED_DISTANCE, lambda scores: scores / 2),
        (Unit.DISTANCE, lambda scores: np.log(scores) * GAUSSIAN_SPREAD / np.log(scores[:300]).std()),
        (Unit.OTHER, lambda scores: scores * GAUSSIAN_SPREAD / scores[:300].std()),
    ],
)
def test_scores_are_brought_to_the_units_of_a_density(unit: Unit, expected: Callable[[Floats], Floats]) -> None:
    """What is a density stays as it is; of anything else the spread over background is that of a Gaussian's."""
    rng = np.random.default_rng(1)
    scores, tilts = rng.gamma(5.0, 1.0, 400), rng.standard_normal(400)
    found = with_tilt(scores, unit, tilts, np.arange(300))
    np.testing.assert_allclose(found, expected(scores) + WEIGHT * tilts, rtol=1e-12)
    assert WEIGHT == 1.5
    assert pytest.approx(np.sqrt(5.0)) == GAUSSIAN_SPREAD


def test_a_score_that_tells_nothing_apart_leaves_the_tilt() -> None:
    """Equal scores have no spread to be brought to another."""
    tilts = np.arange(4.0)
    np.testing.assert_array_equal(with_tilt(np.ones(4), Unit.OTHER, tilts, np.arange(4)), WEIGHT * tilts)

"""The efficiency of a bin has the interval of the textbook, and the divergence its value and its floor."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import binomtest

from training.evaluation.sculpting import (
    CONFIDENCE,
    DIJET_MASS_EDGES_GEV,
    binomial_interval,
    divergence,
    efficiency_by_bin,
    histogram,
    sculpting,
)


def masses(events: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Draw dijet masses that fall like background: (events,) in GeV."""
    return 2400.0 + np.random.default_rng(seed).exponential(600.0, events)


def test_divergence() -> None:
    """It is 0 for one shape in any number, 1 without overlap, and in between what the formula gives by hand.

    SciPy gives the distance, which is the root of the divergence, for many histograms at once too.
    """
    assert divergence(np.array([1, 2, 3]), np.array([10, 20, 30])) == pytest.approx(0.0)
    assert divergence(np.array([5, 0]), np.array([0, 7])) == pytest.approx(1.0)
    # Average (3/4, 1/4): half of log2(4/3), and half of 1/2 log2(2/3) + 1/2 log2(2).
    by_hand = 0.5 * np.log2(4 / 3) + 0.5 * (0.5 * np.log2(2 / 3) + 0.5)
    assert divergence(np.array([1, 0]), np.array([1, 1])) == pytest.approx(by_hand)
    rng = np.random.default_rng(1)
    many, one = rng.integers(0, 50, (20, 12)), rng.integers(1, 50, 12)
    assert divergence(many, one) == pytest.approx([jensenshannon(each, one, base=2) ** 2 for each in many])


def test_interval_is_that_of_clopper_and_pearson() -> None:
    """Both ends are SciPy's, for none, some and all events passing."""
    for events in (1, 7, 400):
        for passed in {0, 1, events // 2, events}:
            exact = binomtest(passed, events).proportion_ci(CONFIDENCE, method="exact")
            low, high = binomial_interval(np.array([passed]), np.array([events]))
            assert (low[0], high[0]) == pytest.approx((exact.low, exact.high)), (passed, events)


def test_bins_without_events_and_values_beyond_all_bins() -> None:
    """The interval of an empty bin is all efficiencies; every value is counted once, wherever it lies, NaN never."""
    found = efficiency_by_bin(np.array([1.5, 1.5, np.nan]), np.array([True, False, True]), np.array([0.0, 1.0, 2.0]))
    assert (found.events, found.passed) == ([0, 2], [0, 1])
    assert (found.low[0], found.high[0]) == (0.0, 1.0)

    assert histogram(np.array([-9.0, 0.5, 1.0, 99.0, np.nan]), np.array([0.0, 1.0, 2.0])).tolist() == [2, 2]


def test_a_random_selection_is_at_its_floor_and_a_selection_by_mass_is_not() -> None:
    """Half of random tenths are above the floor and one in twenty above its 95 %; a tenth chosen by mass is far above.

    A hundredth of the events, as random as can be, has a floor about ten times that of a tenth.
    """
    dijet_mass = masses(20_000)
    rng = np.random.default_rng(5)
    drawn = [sculpting(dijet_mass, rng.random(len(dijet_mass)) < 0.1) for _ in range(60)]
    assert 0.3 < np.mean([(one.divergence or 0) > (one.floor or 0) for one in drawn]) < 0.7
    assert np.mean([(one.divergence or 0) > (one.floor_95 or 0) for one in drawn]) < 0.2
    heavy = sculpting(dijet_mass, dijet_mass > np.quantile(dijet_mass, 0.9))
    assert (heavy.divergence or 0) > 100 * (drawn[0].floor_95 or 1)
    tenth, hundredth = (sculpting(dijet_mass, np.arange(20_000) % every == 0).floor or 0 for every in (10, 100))
    assert 5 < hundredth / tenth < 20


def test_events_without_dijet_mass_do_not_count() -> None:
    """They are neither before nor after, and a selection of nothing has no divergence."""
    dijet_mass = np.concatenate([masses(100), np.full(50, np.nan)])
    found = sculpting(dijet_mass, np.isnan(dijet_mass))
    assert (found.events, found.selected) == (100, 0)
    assert found.divergence is found.floor is found.floor_95 is None
    assert len(found.before) == len(found.after) == len(DIJET_MASS_EDGES_GEV) - 1
    assert sum(sculpting(dijet_mass, dijet_mass > 0).after) == 100

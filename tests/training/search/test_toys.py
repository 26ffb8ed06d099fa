"""The global p-value: counted, and extrapolated."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from tests.training.search.spectra import EDGES, falling
from training.search.scan import scan
from training.search.toys import LEAST_BEYOND, global_p, throw


def test_p_values_are_counted_and_beyond_that_extrapolated() -> None:
    """Toys whose statistic is that of 40 independent p-values have its probability, far out within the error."""
    trials = 40
    toys = -np.log(np.random.default_rng(0).uniform(size=(4000, trials)).min(axis=1))
    inside = global_p(5.0, toys)
    assert not inside.extrapolated
    assert inside.toys_beyond >= LEAST_BEYOND
    assert inside.p == pytest.approx(1 - (1 - np.exp(-5)) ** trials, abs=4 * inside.error)
    for statistic in (12.0, 20.0, 40.0):
        far = global_p(statistic, toys)
        assert far.extrapolated
        assert far.p == pytest.approx(trials * np.exp(-statistic), abs=4 * far.error)
        assert far.p >= np.exp(-statistic)
    values = [global_p(statistic, toys).p for statistic in np.linspace(0, 30, 200)]
    assert (np.diff(values) <= 1e-3).all()
    assert values[0] == 1
    assert global_p(690.0, toys).significance > 30


def test_toys_are_those_of_the_seed() -> None:
    """The same seed gives the same toys, another one others."""
    one, same, other = (throw(falling(3000), EDGES, 3, 60, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.statistic, same.statistic)
    np.testing.assert_array_equal(one.deviance, same.deviance)
    assert not np.array_equal(one.statistic, other.statistic)


def test_background_is_as_its_toys() -> None:
    """Spectra of background have the test statistics of toys of almost the same background: p-values are uniform."""
    expected = falling(30_000)
    toys = throw(expected * 1.02, EDGES, 4, 400, seed=3).statistic
    spectra = np.random.default_rng(4).poisson(expected, (200, len(expected))).astype(float)
    assert ks_2samp(scan(spectra, EDGES, 4).statistic, toys).pvalue > 0.05

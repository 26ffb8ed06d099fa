"""The fit of the dijet function: its maximum, its error, many spectra at once."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln

from tests.training.search.spectra import EDGES, falling
from training.search.fit import basis, deviance, fit
from training.search.spectrum import COLLISION_ENERGY_GEV

WIDTHS = np.diff(EDGES)
EVERY = np.ones(len(WIDTHS), bool)


@pytest.mark.parametrize("parameters", [3, 4, 5])
def test_a_dijet_function_is_found_where_its_bins_are_hidden(parameters: int) -> None:
    """A fit to the mean spectrum gives it back, also in a window that is not part of the fit."""
    expected, used = falling(20_000, parameters), EVERY.copy()
    used[8:14] = False
    counts = expected.copy()
    counts[8:14] *= 3
    fitted = fit(counts[None], WIDTHS, basis(EDGES, parameters), used)
    np.testing.assert_allclose(fitted.expected[0], expected, rtol=1e-4)


def test_the_maximum_is_that_of_the_likelihood_in_the_formula() -> None:
    """A general minimiser of the Poisson likelihood, in the parameters p0 to p3 as published, ends at the same fit."""
    counts = np.random.default_rng(1).poisson(falling(3000)).astype(float)
    x = np.sqrt(EDGES[1:] * EDGES[:-1]) / COLLISION_ENERGY_GEV

    def loss(p: NDArray[np.float64]) -> float:
        f = np.exp(p[0]) * (1 - x) ** p[1] / x ** (p[2] + p[3] * np.log(x))
        mean = np.maximum(f * WIDTHS, 1e-300)
        return float((mean - counts * np.log(mean) + gammaln(counts + 1)).sum())

    found = minimize(loss, [-10.0, 5.0, 5.0, 0.5], method="Nelder-Mead", options={"maxiter": 20_000, "maxfev": 20_000})
    fitted = fit(counts[None], WIDTHS, basis(EDGES, 4), EVERY).expected[0]
    ours = float((fitted - counts * np.log(fitted) + gammaln(counts + 1)).sum())
    assert ours <= found.fun + 1e-3
    assert ours == pytest.approx(found.fun, abs=0.05)


def test_errors_and_deviances_are_those_of_many_spectra() -> None:
    """The expectation of a hidden window scatters by its error; the deviance is chi-squared."""
    mean, used, window = falling(50_000), EVERY.copy(), slice(6, 11)
    used[window] = False
    counts = np.random.default_rng(2).poisson(mean, (1000, len(mean))).astype(float)
    terms = basis(EDGES, 4)
    fitted = fit(counts, WIDTHS, terms, used)
    found, error = fitted.expected[:, window].sum(axis=1), fitted.error(terms, window)
    assert found.mean() == pytest.approx(mean[window].sum(), rel=0.005)
    assert found.std() == pytest.approx(error.mean(), rel=0.08)
    dense = mean > 5
    dense[window] = False
    values = deviance(counts, fit(counts, WIDTHS, terms, dense).expected, dense)
    assert values.mean() == pytest.approx(dense.sum() - 4, rel=0.05)


def test_a_spectrum_is_fitted_alike_alone_and_among_others() -> None:
    """Sparse, dense and lopsided spectra do not disturb each other."""
    rng = np.random.default_rng(3)
    counts = np.stack([rng.poisson(falling(events)).astype(float) for events in (60, 3000, 200_000)])
    terms = basis(EDGES, 4)
    together = fit(counts, WIDTHS, terms, EVERY).expected
    for spectrum, expected in zip(counts, together, strict=True):
        alone = fit(spectrum[None], WIDTHS, terms, EVERY).expected[0]
        np.testing.assert_allclose(expected, alone, atol=0.02 * np.sqrt(expected.sum()))
        assert expected.sum() == pytest.approx(spectrum.sum(), rel=1e-3)  # as at any maximum

"""Windows and their p-values."""

import numpy as np
import pytest
from scipy.stats import binom, poisson

from tests.training.search.spectra import EDGES, falling
from training.search.scan import LEAST_BESIDE, SMALLEST_P, WIDTHS, local_p, scan, significance, windows


def test_local_p_values_are_those_of_counting() -> None:
    """Without an error Poisson's; with one, of a count whose background another Poisson count measures."""
    n, b = np.array([0.0, 1.0, 7.0, 40.0, 160.0]), np.array([0.5, 0.3, 5.0, 40.0, 100.0])
    np.testing.assert_allclose(local_p(n, b, np.zeros(5)), poisson.sf(n - 1, b), rtol=1e-9)
    beside, tau = np.array([2.0, 3.0, 20.0, 80.0, 50.0]), 4.0
    b, error = beside / tau, np.sqrt(beside) / tau
    np.testing.assert_allclose(local_p(n, b, error), binom.sf(n - 1, n + beside, 1 / (1 + tau)), rtol=1e-9)
    tiny = local_p(n[3:], np.array([40.0, 100.0]), np.full(2, 1e-3))
    np.testing.assert_allclose(tiny, poisson.sf(n[3:] - 1, [40, 100]), rtol=1e-4)


def test_significances_are_finite() -> None:
    """From a p-value of 1 to the smallest that a float64 holds."""
    assert significance(np.array([1.0, 0.5, 2.866516e-7])) == pytest.approx([-8.2, 0, 5], abs=0.1)
    p = local_p(np.array([1e5]), np.array([10.0]), np.array([1.0]))
    assert p == SMALLEST_P
    assert 37 < float(significance(p[0])) < 38


def test_windows_have_every_width_and_place() -> None:
    """All are inside, each once."""
    every = windows(20)
    assert {(one.start, one.stop) for one in every} == {
        (first, first + width) for width in WIDTHS for first in range(1, 20) if first + width <= 19
    }


def test_a_bump_is_found_where_it_is() -> None:
    """A narrow excess is the most significant window, whose background is that of the spectrum without it."""
    counts = falling(30_000)
    counts[9:13] += [300, 400, 400, 300]
    found = scan(counts[None], EDGES, 4)
    best = found.windows[found.best[0]]
    assert best == slice(9, 13)
    place = found.windows.index(best)
    assert found.expected[0, place] == pytest.approx(falling(30_000)[best].sum(), rel=1e-3)
    assert found.observed[0, place] == pytest.approx(counts[best].sum())
    assert found.statistic[0] == pytest.approx(-np.log(found.p[0, place]))


def test_windows_with_too_little_beside_are_not_searched() -> None:
    """An excess beyond the last events, to which a fit can only extrapolate, is none."""
    counts = np.round(falling(200))
    counts[30:] = 0
    counts[32:34] = LEAST_BESIDE - 1
    found = scan(np.stack([counts, falling(1e6)]), EDGES, 3)
    last = np.array([counts[window.stop :].sum() < LEAST_BESIDE for window in found.windows])
    assert last.any()
    assert (found.p[0, last] == 1).all()
    assert np.isnan(found.expected[0, last]).all()
    assert np.isfinite(found.expected[1]).all()

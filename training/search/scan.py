"""Scan of the windows of a spectrum for an excess over a fit to the bins outside each window."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammainc
from scipy.stats import norm

from training.search.fit import Mask, basis, fit

Floats = NDArray[np.float64]

WIDTHS = range(2, 9)  # bins: 5 to 20 % of the mass
LEAST_BESIDE = 10  # events on either side, because a fit interpolates well but extrapolates badly
SMALLEST_P = 1e-300  # below it a float64 is 0


@dataclass(frozen=True)
class Scan:
    """All windows of n spectra: events observed and expected from the fit outside, its error, and p: (n, windows).

    With too few events beside a window, the expectation is NaN and p is 1.
    """

    windows: list[slice]
    observed: Floats
    expected: Floats
    error: Floats
    p: Floats

    @property
    def best(self) -> NDArray[np.intp]:
        """The window of each spectrum with the smallest p, (n,)."""
        places: NDArray[np.intp] = self.p.argmin(axis=1)
        return places

    @property
    def statistic(self) -> Floats:
        """BumpHunter's test statistic (n,): minus the logarithm of the smallest p."""
        values: Floats = -np.log(self.p.min(axis=1))
        return values


def windows(bins: int) -> list[slice]:
    """Return all windows of a spectrum, as slices of its bins, without the first and the last bin."""
    return [slice(first, first + width) for width in WIDTHS for first in range(1, bins - width)]


def outside(window: slice, bins: int) -> Mask:
    """Return a mask (bins,) of the bins outside a window."""
    mask = np.ones(bins, bool)
    mask[window] = False
    return mask


def scan(counts: Floats, edges: Floats, parameters: int) -> Scan:
    """Scan spectra, counts (n, bins) between edges (bins + 1,) in GeV, for an excess in any window.

    The background of a window comes from a fit with `parameters` parameters to all bins outside it. Windows with fewer
    than LEAST_BESIDE events on either side are not searched. After Choudalakis, arXiv:1101.0390, with the error of the
    background in the local p-value.
    """
    bins, widths, terms = counts.shape[1], np.diff(edges), basis(edges, parameters)
    start = fit(counts, widths, terms, np.ones(bins, bool)).parameters
    every = windows(bins)
    observed, below, above = (
        np.stack([counts[:, part].sum(axis=1) for part in parts], axis=1)
        for parts in (
            every,
            [slice(window.start) for window in every],
            [slice(window.stop, bins) for window in every],
        )
    )
    expected, error, p = np.full_like(observed, np.nan), np.full_like(observed, np.nan), np.ones_like(observed)
    searched = (below >= LEAST_BESIDE) & (above >= LEAST_BESIDE)
    for place, window in enumerate(every):
        rows = searched[:, place]
        if rows.any():
            fitted = fit(counts[rows], widths, terms, outside(window, bins), start[rows])
            expected[rows, place] = fitted.expected[:, window].sum(axis=1)
            error[rows, place] = fitted.error(terms, window)
    p[searched] = local_p(observed[searched], expected[searched], error[searched])
    return Scan(every, observed, expected, error, p)


def local_p(observed: Floats, expected: Floats, error: Floats) -> Floats:
    """Return the probability to observe at least `observed` events when `expected` are expected, with an error.

    The expectation is treated as measured by a Poisson count of the same relative error: Cousins, Linnemann and Tucker,
    NIM A 595 (2008) 480, eq. 14. Without an error it is the Poisson probability. All arrays have the same shape.
    """
    some = observed > 0
    n, b = np.where(some, observed, 1.0), expected
    with np.errstate(divide="ignore", invalid="ignore"):
        tau = b / error**2
        p = np.where(error > 0, betainc(n, 1 + b * tau, 1 / (1 + tau)), gammainc(n, b))
    return np.where(some, np.maximum(p, SMALLEST_P), 1.0)


def significance(p: Floats | float) -> Floats:
    """Return the one-sided significance of a p-value, in standard deviations of a Gaussian: -8 for a p-value of 1."""
    z: Floats = norm.isf(np.minimum(p, 1 - 1e-16))
    return z

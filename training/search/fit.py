"""The smooth background spectrum: a falling function of the dijet mass, fitted to many spectra at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from training.search.spectrum import COLLISION_ENERGY_GEV

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# ln f of the mass x, in units of the collision energy, is linear in the parameters; each multiplies one of these terms.
TERMS = ("1", "ln(1 - x)", "ln x", "ln² x", "ln³ x")

TOLERANCE = 1e-3  # square of the last step, in standard deviations of the parameters; the next step is far smaller
MOST_STEPS = 12
LARGEST_STEP = 2.0  # of ln f; beyond it, the quadratic approximation of a step is invalid
RIDGE = 1e-7  # on the diagonal of the Hessian, so that a parameter without data is not changed


@dataclass(frozen=True)
class Fitted:
    """Fits of n spectra: parameters (n, k), expected events in each bin (n, bins), and the Hessian."""

    parameters: Floats
    expected: Floats
    hessian: Floats  # (n, k, k) of minus the log-likelihood

    def error(self, basis: Floats, bins: slice) -> Floats:
        """Return the standard deviation (n,) of the sum of expected events in `bins`, by error propagation."""
        gradient = self.expected[:, bins] @ basis[bins]
        moved = np.linalg.solve(self.hessian, gradient[..., None])[..., 0]
        error: Floats = np.sqrt((gradient * moved).sum(axis=1))
        return error


def basis(edges: Floats, parameters: int) -> Floats:
    """Return the first TERMS in bins between edges (bins + 1,) in GeV, as orthonormal columns (bins, parameters).

    f is the dijet function p0 (1 - x)^p1 / x^(p2 + p3 ln x + p4 ln^2 x) of ATLAS and CMS, arXiv:1910.08447 and
    1911.03947, taken at the geometric centre of each bin. The first k columns span the same functions as the first k
    terms.
    """
    x = np.sqrt(edges[1:] * edges[:-1]) / COLLISION_ENERGY_GEV
    log = np.log(x)
    terms = np.stack([np.ones_like(x), np.log1p(-x), log, log**2, log**3][:parameters], axis=1)
    return np.linalg.qr(terms)[0]


def fit(counts: Floats, widths: Floats, basis: Floats, used: Mask, start: Floats | None = None) -> Fitted:
    """Fit spectra, counts (n, bins), by the binned Poisson likelihood of the bins that are `used` (bins,).

    ln f is linear in the parameters, so that the likelihood has one maximum. Newton's method finds it from `start`,
    parameters (n, k), by default those of a line through the logarithm of the spectrum. A bin is expected to hold f
    times its entry of widths (bins,).
    """
    if start is None:
        start = np.log((counts + 0.5) / widths) @ basis
    offset, x, n = np.log(widths), basis[used], counts[:, used]
    size = basis.shape[1]
    parameters, products = start, (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    for _ in range(MOST_STEPS):
        expected = np.exp(parameters @ x.T + offset[used])
        hessian = (expected @ products).reshape(-1, size, size) + RIDGE * np.eye(size)
        gradient = (n - expected) @ x
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        largest = np.abs(step @ x.T).max(axis=1, keepdims=True)
        parameters = parameters + step * np.minimum(1, LARGEST_STEP / np.maximum(largest, LARGEST_STEP))
        if (gradient * step).sum(axis=1).max() < TOLERANCE:
            break
    return Fitted(parameters, np.exp(parameters @ basis.T + offset), hessian)


def deviance(counts: Floats, expected: Floats, used: Mask | None = None) -> Floats:
    """Return twice the log-likelihood ratio (n,) of spectra (n, bins) to their fits, over the bins that are `used`."""
    parts = expected - counts + xlogy(counts, counts / expected)
    values: Floats = 2 * (parts if used is None else parts[:, used]).sum(axis=1)
    return values

"""The global p-value: the probability of an excess at least as significant, in any window, in background only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.progress import Progress
from training.search.fit import basis, deviance, fit
from training.search.scan import scan, significance

Floats = NDArray[np.float64]

PER_STEP = 500  # toys scanned at once, so that their arrays fit in the cache
# With fewer toys beyond an excess, its p-value is extrapolated from this fraction of the toys.
LEAST_BEYOND = 10
TAIL = 0.05


@dataclass(frozen=True, eq=False)
class Toys:
    """Background-only spectra, fitted and scanned like the data: test statistic and deviance of each, (n,)."""

    statistic: Floats
    deviance: Floats  # of the fit to all bins


@dataclass(frozen=True)
class GlobalP:
    """A global p-value, its statistical error from the number of toys, and its significance."""

    p: float
    error: float
    significance: float
    toys_beyond: int
    extrapolated: bool


def throw(expected: Floats, edges: Floats, parameters: int, toys: int, seed: int, progress: bool = True) -> Toys:
    """Return toys, with a `progress` bar: Poisson spectra with the events expected in each bin (bins,)."""
    rng, widths, terms = np.random.default_rng(seed), np.diff(edges), basis(edges, parameters)
    statistics, deviances, every = [], [], np.ones(len(expected), bool)
    with Progress(total=toys, unit=" toys", disable=not progress) as bar:
        for start in range(0, toys, PER_STEP):
            counts = rng.poisson(expected, (min(PER_STEP, toys - start), len(expected))).astype(float)
            statistics.append(scan(counts, edges, parameters).statistic)
            deviances.append(deviance(counts, fit(counts, widths, terms, every).expected))
            bar.update(len(counts))
    return Toys(np.concatenate(statistics), np.concatenate(deviances))


def global_p(statistic: float, toys: Floats) -> GlobalP:
    """Return the probability that background only reaches a test statistic, from those of toys (n,).

    Beyond all but a few toys the p-value is extrapolated with an exponential fitted to the highest toys. It never falls
    faster than the local p-value, because far out the ratio of both, the number of trials, grows slowly (Gross and
    Vitells, arXiv:1005.1891). The error is then that of the fit.
    """
    n = len(toys)
    beyond = int((toys >= statistic).sum())
    if beyond >= LEAST_BEYOND:
        p = (beyond + 1) / (n + 1)  # the data count as a toy, so that p is not too small on average
        error = np.sqrt(p * (1 - p) / n)
    else:
        tail = max(LEAST_BEYOND, round(TAIL * n))
        highest = np.sort(toys)[-tail:]
        further = max(statistic - highest[0], 0.0)
        rate = min(1.0, 1 / (highest - highest[0]).mean())
        p = tail / n * np.exp(-rate * further)
        error = p * np.sqrt((1 + (rate * further) ** 2) / tail)
    return GlobalP(float(p), float(error), float(significance(p)), beyond, beyond < LEAST_BEYOND)

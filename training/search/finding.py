"""The result of a search in a spectrum: the most significant window, its background, and the quality of the fit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from training.search.fit import TERMS, basis, deviance, fit
from training.search.scan import outside, scan, significance
from training.search.toys import GlobalP, Toys, global_p

Floats = NDArray[np.float64]

FEWEST_PARAMETERS, MOST_PARAMETERS = 3, len(TERMS)
ENOUGH = 0.05  # a parameter is added if the p-value of its improvement of the fit is below this
LEAST_IN_PULL = 5.0  # expected events; with fewer, a pull is far from Gaussian


@dataclass(frozen=True)
class Choice:
    """A number of parameters, the deviance of its fit, and the p-value of its gain over one parameter fewer."""

    parameters: int
    deviance: float
    bins: int
    p: float | None


@dataclass(frozen=True)
class Window:
    """A window of the spectrum: events observed, expected from the fit beside it, and the local p-value."""

    low_gev: float
    high_gev: float
    observed: float
    expected: float
    error: float
    p: float
    significance: float

    @property
    def excess(self) -> float:
        """Observed minus expected events."""
        return self.observed - self.expected

    @property
    def excess_error(self) -> float:
        """Standard deviation of the excess: Poisson and uncertainty of the expectation."""
        return float(np.hypot(np.sqrt(self.observed), self.error))


@dataclass(frozen=True)
class Finding:
    """The result of a search: all bins, all windows, the most significant window, and the quality of the fit."""

    observed: list[float]  # by bin
    expected: list[float]  # by bin, from the fit outside the best window
    pulls: list[float]  # by bin: (observed - expected) / sqrt(expected)
    windows: list[Window]
    best: Window
    global_p: GlobalP
    pull_mean: float  # of the bins outside the best window that expect LEAST_IN_PULL events
    pull_deviation: float
    fit_p: float  # fraction of toys whose fit to all bins is at least as bad


def largest_excesses(counts: Floats, edges: Floats) -> list[slice]:
    """Return the most significant window of each spectrum, counts (n, bins), for fits with all parameters."""
    scanned = scan(counts, edges, MOST_PARAMETERS)
    return [scanned.windows[best] for best in scanned.best]


def choose(counts: Floats, edges: Floats, excess: slice) -> list[Choice]:
    """Return the fits of each number of parameters to a spectrum (bins,), without the window of its largest excess.

    The gain of a parameter is twice the difference of the log-likelihoods, chi-squared with one degree of freedom where
    the parameter is not needed (Wilks). The window is left out of all fits, so that no parameter follows a signal.
    """
    used = outside(excess, len(counts))
    choices: list[Choice] = []
    for parameters in range(FEWEST_PARAMETERS, MOST_PARAMETERS + 1):
        fitted = fit(counts[None], np.diff(edges), basis(edges, parameters), used)
        value = float(deviance(counts[None], fitted.expected, used)[0])
        gain = choices[-1].deviance - value if choices else None
        choices.append(
            Choice(parameters, value, int(used.sum()), None if gain is None else float(chi2.sf(max(gain, 0), 1)))
        )
    return choices


def chosen(choices: list[Choice]) -> int:
    """Return the largest number of parameters whose last parameter is needed."""
    needed = [one.parameters for one in choices if one.p is not None and one.p < ENOUGH]
    return max(needed, default=FEWEST_PARAMETERS)


def background_of(counts: Floats, edges: Floats, parameters: int) -> Floats:
    """Return the background expected in each bin (bins,): a fit outside the window of the largest excess."""
    scanned = scan(counts[None], edges, parameters)
    used = outside(scanned.windows[scanned.best[0]], len(counts))
    expected: Floats = fit(counts[None], np.diff(edges), basis(edges, parameters), used).expected[0]
    return expected


def examine(counts: Floats, edges: Floats, parameters: int, toys: Toys) -> Finding:
    """Return the result for a spectrum (bins,), with toys of its background."""
    scanned, bins = scan(counts[None], edges, parameters), len(counts)
    columns = (scanned.observed, scanned.expected, scanned.error, scanned.p, significance(scanned.p))
    rows = np.concatenate(columns).T.tolist()  # (windows, columns)
    every = [
        Window(float(edges[window.start]), float(edges[window.stop]), *row)
        for window, row in zip(scanned.windows, rows, strict=True)
    ]
    best = int(scanned.best[0])
    expected = background_of(counts, edges, parameters)
    pulls = (counts - expected) / np.sqrt(expected)
    judged = pulls[outside(scanned.windows[best], bins) & (expected >= LEAST_IN_PULL)]
    whole = fit(counts[None], np.diff(edges), basis(edges, parameters), np.ones(bins, bool)).expected
    return Finding(
        observed=counts.tolist(),
        expected=expected.tolist(),
        pulls=pulls.tolist(),
        windows=[one for one in every if np.isfinite(one.expected)],
        best=every[best],
        global_p=global_p(float(scanned.statistic[0]), toys.statistic),
        pull_mean=float(judged.mean()),
        pull_deviation=float(judged.std(ddof=1)),
        fit_p=float((toys.deviance >= deviance(counts[None], whole)[0]).mean()),
    )

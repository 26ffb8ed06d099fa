"""Mass sculpting by a selection: efficiency by bin, and the change of the shape."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr
from scipy.stats import beta

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]

# The same for all models, so that their divergences can be compared.
DIJET_MASS_EDGES_GEV = np.arange(1500.0, 6501.0, 100.0)

RANDOM_SELECTIONS = 200

# The probability within one standard deviation of a Gaussian.
CONFIDENCE = 0.6827


@dataclass(frozen=True)
class Efficiency:
    """The number of events that pass a threshold, by bin; each list has one entry per bin."""

    events: list[int]
    passed: list[int]
    low: list[float]  # limits of the interval of each bin's efficiency
    high: list[float]


@dataclass(frozen=True)
class Sculpting:
    """The change of the dijet mass shape by a selection, compared with random selections of as many events."""

    events: int
    selected: int
    divergence: float | None  # Jensen-Shannon, base 2; None when nothing was selected
    floor: float | None  # median of the random selections' divergences
    floor_95: float | None  # 95 % quantile of the same
    before: list[int]  # events by bin of DIJET_MASS_EDGES_GEV
    after: list[int]


def histogram(values: Floats, edges: Floats) -> Counts:
    """Return the counts (k,) of values (n,) in bins between edges (k + 1,); outer bins include all values beyond.

    NaN is not counted.
    """
    counts: Counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return counts


def common_edges(samples: Iterable[Floats], bins: int, include: Sequence[float] = ()) -> Floats:
    """Return edges (bins + 1,) of equal bins over the bulk of every sample's values (n,) and the values in `include`.

    The bulk is the range between the 0.1 % and 99.9 % quantiles; NaN is ignored.
    """
    ends = [float(value) for value in include]
    for values in samples:
        known = values[~np.isnan(values)]
        if len(known):
            ends += np.quantile(known, [0.001, 0.999]).tolist()
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = 0.03 * (high - low) or 0.5  # keeps thresholds off the frame, and gives a single value a bin
    return np.linspace(low - margin, high + margin, bins + 1)


def efficiency_by_bin(values: Floats, passed: Mask, edges: Floats) -> Efficiency:
    """Return the fraction of events with values (n,) that passed (n,), in each of the bins between edges (k + 1,)."""
    all_counts, passed_counts = histogram(values, edges), histogram(values[passed], edges)
    low, high = binomial_interval(passed_counts, all_counts)
    return Efficiency(all_counts.tolist(), passed_counts.tolist(), low.tolist(), high.tolist())


def binomial_interval(passed: Counts, events: Counts) -> tuple[Floats, Floats]:
    """Return the limits of the central 68.27 % interval of efficiencies, each (k,); 0 and 1 for bins without events.

    After Clopper and Pearson, Biometrika 26 (1934) 404.
    """
    tail, failed = (1 - CONFIDENCE) / 2, events - passed
    # The beta distribution needs positive parameters; where one would be 0, the limit is 0 or 1.
    low = np.where(passed > 0, beta.ppf(tail, np.maximum(passed, 1), failed + 1), 0.0)
    high = np.where(failed > 0, beta.ppf(1 - tail, passed + 1, np.maximum(failed, 1)), 1.0)
    return low, high


def divergence(one: NDArray[np.number], other: NDArray[np.number]) -> Floats:
    """Return the Jensen-Shannon divergence, base 2, of histograms (..., k): 0 for equal shapes, 1 without overlap.

    It is the mean of both shapes' Kullback-Leibler divergences from their average, and the square of the Jensen-Shannon
    distance. After Lin, IEEE Trans. Inf. Theory 37 (1991) 145. Each histogram must have at least one event.
    """
    p, q = (counts / counts.sum(axis=-1, keepdims=True) for counts in (one, other))
    average = (p + q) / 2
    both: Floats = (rel_entr(p, average) + rel_entr(q, average)).sum(axis=-1) / (2 * np.log(2))
    return both


def sculpting(dijet_mass: Floats, passed: Mask, seed: int = 0) -> Sculpting:
    """Return the change of the shape of the dijet mass (n,) in GeV by selecting the events that passed (n,).

    Events without a dijet mass (NaN) are ignored. The divergence of a small sample from its parent is never 0; its
    floor is the median over RANDOM_SELECTIONS random selections of as many events.
    """
    before = histogram(dijet_mass, DIJET_MASS_EDGES_GEV)
    after = histogram(dijet_mass[passed], DIJET_MASS_EDGES_GEV)
    events, selected = int(before.sum()), int(after.sum())
    if not selected:
        return Sculpting(events, selected, None, None, None, before.tolist(), after.tolist())
    rng = np.random.default_rng(seed)
    drawn = rng.multivariate_hypergeometric(before, selected, RANDOM_SELECTIONS, method="marginals")
    floor, floor_95 = np.quantile(divergence(drawn, before), [0.5, 0.95])
    moved = float(divergence(after, before))
    return Sculpting(events, selected, moved, float(floor), float(floor_95), before.tolist(), after.tolist())

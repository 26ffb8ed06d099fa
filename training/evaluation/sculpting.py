"""What a selection does to a distribution of masses: efficiency bin by bin, and how far its shape moves."""

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
    """How many events of each bin pass a threshold: each list has one entry a bin."""

    events: list[int]
    passed: list[int]
    low: list[float]  # ends of the interval of each bin's efficiency
    high: list[float]


@dataclass(frozen=True)
class Sculpting:
    """How far a selection moves the shape of the dijet mass, beside what a random selection of as many events does."""

    events: int
    selected: int
    divergence: float | None  # Jensen-Shannon, base 2; None when nothing was selected
    floor: float | None  # median of the random selections' divergences
    floor_95: float | None  # 95 % of them are below
    before: list[int]  # events by bin of DIJET_MASS_EDGES_GEV
    after: list[int]


def histogram(values: Floats, edges: Floats) -> Counts:
    """Return how many values (n,) each of the bins between edges (k + 1,) holds, (k,): the outer bins all beyond them.

    NaN is in no bin.
    """
    counts: Counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    return counts


def common_edges(samples: Iterable[Floats], bins: int, include: Sequence[float] = ()) -> Floats:
    """Return edges (bins + 1,) of equal bins over the bulk of every sample's values (n,), and over what is included.

    The bulk is what lies between the 0.1 % and 99.9 % quantiles; NaN does not count.
    """
    ends = [float(value) for value in include]
    for values in samples:
        known = values[~np.isnan(values)]
        if len(known):
            ends += np.quantile(known, [0.001, 0.999]).tolist()
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = 0.03 * (high - low) or 0.5  # a threshold does not lie on the frame; one value alone still has a bin
    return np.linspace(low - margin, high + margin, bins + 1)


def efficiency_by_bin(values: Floats, passed: Mask, edges: Floats) -> Efficiency:
    """Return the fraction of events with values (n,) that passed (n,), in each of the bins between edges (k + 1,)."""
    all_counts, passed_counts = histogram(values, edges), histogram(values[passed], edges)
    low, high = binomial_interval(passed_counts, all_counts)
    return Efficiency(all_counts.tolist(), passed_counts.tolist(), low.tolist(), high.tolist())


def binomial_interval(passed: Counts, events: Counts) -> tuple[Floats, Floats]:
    """Return the ends of the central 68.27 % interval of efficiencies, each (k,); without any event it is 0 to 1.

    After Clopper and Pearson, Biometrika 26 (1934) 404.
    """
    tail, failed = (1 - CONFIDENCE) / 2, events - passed
    # The beta distribution needs positive parameters; where one would be 0, the end is 0 or 1.
    low = np.where(passed > 0, beta.ppf(tail, np.maximum(passed, 1), failed + 1), 0.0)
    high = np.where(failed > 0, beta.ppf(1 - tail, passed + 1, np.maximum(failed, 1)), 1.0)
    return low, high


def divergence(one: NDArray[np.number], other: NDArray[np.number]) -> Floats:
    """Return the Jensen-Shannon divergence, base 2, of histograms (..., k): 0 for one shape, 1 without overlap.

    It is the mean of both shapes' Kullback-Leibler divergences from their average, and the square of the Jensen-Shannon
    distance. After Lin, IEEE Trans. Inf. Theory 37 (1991) 145. Each histogram must hold an event.
    """
    p, q = (counts / counts.sum(axis=-1, keepdims=True) for counts in (one, other))
    average = (p + q) / 2
    both: Floats = (rel_entr(p, average) + rel_entr(q, average)).sum(axis=-1) / (2 * np.log(2))
    return both


def sculpting(dijet_mass: Floats, passed: Mask, seed: int = 0) -> Sculpting:
    """Return what selecting the events that passed (n,) does to their dijet mass (n,) in GeV.

    An event without a dijet mass (NaN) counts neither before nor after. The divergence of a small sample from its
    parent is never 0: its floor is what RANDOM_SELECTIONS random selections of as many events give.
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

"""Distances of histograms of events from those of background: population stability index and Kolmogorov's D."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.model.reference import Reference

Counts = NDArray[np.int64]

GROUPS: Final = 10
"""Groups of bins for the PSI, with about equal background each: more groups would only add noise."""

MIN_EVENTS: Final = 1000
"""Minimum number of events for a verdict on drift."""

SLIGHT_PSI, STRONG_PSI = 0.02, 0.1
"""PSI from which drift is slight, and strong. A shift of all jet energies by 5 % gives 0.05."""

CHANCE_SIGMA: Final = 4.75
"""Standard deviations of chance, exceeded once in a million comparisons, that do not count as drift."""


class Drift(IntEnum):
    """The verdict on a quantity, or the worst of several."""

    NONE = 0
    SLIGHT = 1
    STRONG = 2


class Distances(NamedTuple):
    """Distances of all quantities (n_features + 1,), the score last, from their reference, and their verdicts."""

    psi: NDArray[np.float64]
    ks: NDArray[np.float64]
    drift: list[Drift]


class Comparison:
    """Counts events in the bins of a reference, and compares them with it.

    The bins of all quantities follow each other in one array of counts (n_bins,), those of the score last.
    """

    def __init__(self, reference: Reference) -> None:
        histograms = [*reference.features, reference.anomaly_score]
        sizes = [len(histogram.counts) for histogram in histograms]
        self.n_bins = sum(sizes)
        self.score_edges = reference.anomaly_score.edges
        self._edges = [histogram.edges for histogram in histograms]
        self._starts = np.cumsum([0, *sizes[:-1]])
        self._counts = np.concatenate([histogram.counts for histogram in histograms])
        self._quantities = np.repeat(np.arange(len(sizes)), sizes)
        """The quantity of each bin."""
        groups = [_groups(histogram.counts) for histogram in histograms]
        n_groups = [groups_of_one[-1] + 1 for groups_of_one in groups]
        self._group_starts = np.cumsum([0, *n_groups[:-1]])
        self._groups = np.concatenate(groups) + np.repeat(self._group_starts, sizes)
        """The group of each bin."""
        self._n_groups = np.array(n_groups)
        self._n_reference = reference.events

    def count(self, features: NDArray[np.float32], scores: NDArray[np.float32]) -> Counts:
        """Count events (n, n_features) with scores (n,), all finite, in the bins as (n_bins,)."""
        values = np.concatenate([features, scores[:, None]], axis=1, dtype=np.float64).T
        places = [
            start + edges.searchsorted(of_one, side="right")
            for start, edges, of_one in zip(self._starts, self._edges, values, strict=True)
        ]
        return np.bincount(np.concatenate(places), minlength=self.n_bins)

    def score_counts(self, counts: Counts) -> Counts:
        """Return the part of `counts` (n_bins,) for the score, including the counts below and above its bins."""
        return counts[self._starts[-1] :]

    @property
    def reference_score_counts(self) -> Counts:
        """The reference counts of the score."""
        return self.score_counts(self._counts)

    def distances(self, counts: Counts, n_events: int) -> Distances:
        """Compare `counts` (n_bins,) of `n_events` with the reference."""
        psi = self._psi(counts, n_events)
        beyond_chance = psi - self._chance(n_events)
        levels = (beyond_chance >= SLIGHT_PSI).astype(int) + (beyond_chance >= STRONG_PSI)
        return Distances(psi, self._ks(counts, n_events), list(map(Drift, levels.tolist())))

    def _psi(self, counts: Counts, n_events: int) -> NDArray[np.float64]:
        """Return the population stability index, sum of (p - q) ln(p / q) over groups of fractions p and q.

        Half an event is added to each group, which keeps it finite.
        """
        of_bins = self._quantities_of_groups
        p = (np.bincount(self._groups, counts) + 0.5) / (n_events + self._n_groups / 2)[of_bins]
        q = (np.bincount(self._groups, self._counts) + 0.5) / (self._n_reference + self._n_groups / 2)[of_bins]
        psi: NDArray[np.float64] = np.add.reduceat((p - q) * np.log(p / q), self._group_starts)
        return psi

    @property
    def _quantities_of_groups(self) -> NDArray[np.intp]:
        return np.repeat(np.arange(len(self._n_groups)), self._n_groups)

    def _chance(self, n_events: int) -> NDArray[np.float64]:
        """Return the PSI of two samples of one distribution that chance exceeds at CHANCE_SIGMA.

        It is distributed as (1 / n + 1 / m) chi^2 with one degree of freedom less than groups (B. Yurdakul, Statistical
        Properties of Population Stability Index, 2018); the quantile is that of Wilson and Hilferty (1931).
        """
        freedom = np.maximum(self._n_groups - 1, 1)
        spread = 2 / (9 * freedom)
        quantile: NDArray[np.float64] = freedom * (1 - spread + CHANCE_SIGMA * np.sqrt(spread)) ** 3
        return quantile * (1 / n_events + 1 / self._n_reference)

    def _ks(self, counts: Counts, n_events: int) -> NDArray[np.float64]:
        """Return the largest distance of the distribution functions, at the edges of the bins."""
        difference = np.cumsum(counts / n_events - self._counts / self._n_reference)
        # Each quantity begins at 0, since the counts of those before it add up to the same number in both.
        ks: NDArray[np.float64] = np.maximum.reduceat(np.abs(difference), self._starts)
        return ks


def _groups(counts: Sequence[int]) -> NDArray[np.intp]:
    """Return the group of each bin: neighbouring bins that hold about 1 / GROUPS of the reference."""
    below = np.cumsum(counts) - np.array(counts) / 2
    tenths = np.minimum(below * GROUPS / sum(counts), GROUPS - 1).astype(int)
    return np.unique(tenths, return_inverse=True)[1]

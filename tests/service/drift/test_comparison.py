"""Distances from the reference: beside plain sums, on events like background, and on others."""

from collections.abc import Iterable
from math import log

import numpy as np
import pytest
from numpy.typing import NDArray

from service.drift.comparison import MIN_EVENTS, Comparison, Drift
from service.model.reference import Histogram, Reference
from tests.artefacts import oracle, sample_events
from tests.service.drift.models import drifted_events, reference

REFERENCE = reference()


def levels(comparison: Comparison, events: NDArray[np.float32]) -> list[Drift]:
    """Return the verdict on each feature of events, and on their score."""
    scores = np.minimum(oracle(events), 1e30).astype(np.float32)
    return comparison.distances(comparison.count(events, scores), len(events)).drift


def test_events_are_counted_in_the_bins_of_the_reference() -> None:
    """Values on an edge, beyond the bins and far beyond fall where `Histogram.count` has them."""
    events = sample_events(500)
    for column, histogram in enumerate(REFERENCE.features):
        edges = histogram.edges.astype(np.float32)
        events[: len(edges), column] = edges
        events[len(edges) : len(edges) + 2, column] = -3e38, 3e38
    of_events = np.linspace(-1, 30, 500, dtype=np.float32)
    expected = [h.count(column) for h, column in zip(REFERENCE.features, events.T, strict=True)]
    expected.append(REFERENCE.anomaly_score.count(of_events))
    np.testing.assert_array_equal(Comparison(REFERENCE).count(events, of_events), np.concatenate(expected))


def plain_psi(reference_counts: Iterable[int], counts: Iterable[int]) -> float:
    """Return the PSI of two histograms as its definition has it, with half an event more in each bin."""
    q, p = ([count + 0.5 for count in of_one] for of_one in (reference_counts, counts))
    pairs = [(a / sum(p), b / sum(q)) for a, b in zip(p, q, strict=True)]
    return sum((a - b) * log(a / b) for a, b in pairs)


def test_distances_are_those_of_their_definitions() -> None:
    """With few bins of about a tenth each, the PSI is that of the bins; D is the largest distance of the sums."""
    q, p = [300, 100, 100, 100, 100, 300], [100, 300, 50, 150, 500, 100]
    histogram = Histogram(0.0, 4.0, q)
    compared = Comparison(Reference(1000, "", [histogram], Histogram(0.0, 4.0, q[::-1])))
    found = compared.distances(np.array([*p, *p]), 1200)
    assert found.psi == pytest.approx([plain_psi(q, p), plain_psi(q[::-1], p)])
    for ks, reference_counts in zip(found.ks, (q, q[::-1]), strict=True):
        assert ks == pytest.approx(np.abs(np.cumsum(reference_counts) / 1000 - np.cumsum(p) / 1200).max())


def test_events_like_background_have_no_drift() -> None:
    """An hour of windows of the fewest events, and of many, has no verdict but none: chance raises no alarm."""
    compared = Comparison(REFERENCE)
    for n_events, n_windows in ((MIN_EVENTS, 120), (20_000, 2)):
        for seed in range(n_windows):
            assert set(levels(compared, sample_events(n_events, seed=seed))) == {Drift.NONE}


def test_drift_is_named_by_size_and_place() -> None:
    """A feature that is off by half of its spread is strong drift, by a fifth slight, and of no other feature."""
    compared = Comparison(REFERENCE)
    assert levels(compared, drifted_events(3000))[:-1] == [Drift.NONE] * 4 + [Drift.STRONG]
    events = sample_events(20_000, seed=3)
    events[:, 1] += 0.22 * events[:, 1].std()
    assert levels(compared, events)[:-1] == [Drift.NONE, Drift.SLIGHT, *[Drift.NONE] * 3]


@pytest.mark.parametrize("dead", [0.0, -7.0, 1e6])
def test_a_feature_that_is_dead_drifts(dead: float) -> None:
    """One that has the same value in all events is strong drift; one that was dead in the reference too is none."""
    events = sample_events(2000)
    events[:, 2] = dead
    assert levels(Comparison(REFERENCE), events)[2] is Drift.STRONG
    always = Histogram(dead - 1, dead + 1, [0] * 52)
    counts = always.count(np.full(20_000, dead, np.float32)).tolist()
    features = [*REFERENCE.features[:2], Histogram(always.low, always.high, counts), *REFERENCE.features[3:]]
    same = Comparison(Reference(20_000, "", features, REFERENCE.anomaly_score))
    assert levels(same, events)[2] is Drift.NONE
    assert levels(same, sample_events(2000))[2] is Drift.STRONG

"""What a worker counts: every event by working point, and a sample that is fair and small."""

import numpy as np
import pytest

from service.drift.comparison import Comparison
from service.drift.counts import MAX_SAMPLED_EVENTS, SAMPLED_EVENTS, ModelCounts
from service.metrics.counters import Metrics
from service.model.artefact import WorkingPoint
from tests.artefacts import oracle, sample_events
from tests.service.drift.models import artefact

MODEL = artefact()


def counting() -> tuple[ModelCounts, Metrics]:
    """Count from 0."""
    assert MODEL.metadata.reference is not None
    metrics = Metrics([])
    return ModelCounts(MODEL, Comparison(MODEL.metadata.reference), metrics.row), metrics


@pytest.mark.parametrize("n_events", [1, 7, 512, 4096])
def test_every_event_is_counted_once(n_events: int) -> None:
    """Whatever the calls, events and accepted events add up to those of the thresholds."""
    counts, metrics = counting()
    events = sample_events(max(4 * n_events, 300))
    scores = oracle(events).astype(np.float32)
    for start in range(0, len(events), n_events):
        counts.note(events[start:], scores[start : start + n_events])
    counts.fold()
    assert metrics.row["model_events"] == len(events)
    expected = [point.accepts(scores).sum() for point in MODEL.metadata.working_points]
    assert metrics.row["accepted"][:2].tolist() == expected
    assert expected[0] > expected[1] > 0


def test_thresholds_are_those_of_the_responses() -> None:
    """A score that is the float32 next to a threshold counts as `accepts` has it."""
    for threshold in (0.1, 1 / 3, 16_777_217.0, 1e39, -1e39):
        model = artefact(working_points=[WorkingPoint("one", 0.1, threshold, 0.0, 1, "")])
        metrics = Metrics([])
        counts = ModelCounts(model, None, metrics.row)
        near = np.float32(threshold) if abs(threshold) < 1e38 else np.float32(np.sign(threshold) * 3e38)
        scores = np.array([np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))])
        counts.note(np.zeros((3, 5), np.float32), scores)
        counts.fold()
        finite = scores[np.isfinite(scores)]
        assert metrics.row["accepted"][0] == model.metadata.working_points[0].accepts(finite).sum()


def test_few_events_are_all_sampled() -> None:
    """At a low rate the histograms have every event, in the bins of the reference."""
    counts, metrics = counting()
    events = sample_events(600)
    scores = oracle(events).astype(np.float32)
    for start in range(0, 600, 20):
        rows = events[start : start + 20].copy()
        counts.note(rows, scores[start : start + 20])
        rows[:] = -1  # as the next micro-batch does
        counts.tick()
    assert counts.comparison is not None
    assert metrics.row["sampled_events"] == 600
    assert metrics.row["sampled_score"] == pytest.approx(scores.sum(dtype=np.float64))
    found = metrics.row["bins"][: counts.comparison.n_bins]
    np.testing.assert_array_equal(found, counts.comparison.count(events, scores))


def test_of_many_events_a_fair_sample_is_counted() -> None:
    """However many come, about SAMPLED_EVENTS are sampled in a tick, of each place in a repeated batch as many."""
    counts, metrics = counting()
    places = np.arange(64)
    events = np.zeros((64, 5), np.float32)
    scores = (places % 2 * 20.0).astype(np.float32)  # above and below all bins of the score
    n_ticks, n_batches = 200, 512
    for _ in range(n_ticks):
        for _ in range(n_batches):
            counts.note(events, scores)
        counts.tick()
    assert metrics.row["model_events"] == 64 * n_ticks * n_batches
    sampled = int(metrics.row["sampled_events"][0])
    assert n_ticks * SAMPLED_EVENTS / 8 < sampled < 4 * n_ticks * SAMPLED_EVENTS
    assert counts.comparison is not None
    by_score = counts.comparison.score_counts(metrics.row["bins"][: counts.comparison.n_bins])
    assert abs(by_score[-1] / sampled - 0.5) < 5 * 0.5 / sampled**0.5


def test_one_batch_alone_gives_no_large_sample() -> None:
    """The first events after a pause may be millions: few are sampled, of all of the first batch alike."""
    counts, metrics = counting()
    events = np.zeros((4096, 5), np.float32)
    scores = np.repeat(np.array([0.0, 20.0], np.float32), 2048)  # above and below all bins of the score
    counts.note(events, scores)
    counts.fold()
    sampled = int(metrics.row["sampled_events"][0])
    assert MAX_SAMPLED_EVENTS / 2 < sampled <= MAX_SAMPLED_EVENTS
    assert counts.comparison is not None
    by_score = counts.comparison.score_counts(metrics.row["bins"][: counts.comparison.n_bins])
    assert abs(by_score[-1] / sampled - 0.5) < 5 * 0.5 / sampled**0.5
    for _ in range(100):
        counts.note(events, scores)
    counts.tick()
    assert metrics.row["sampled_events"] == MAX_SAMPLED_EVENTS
    assert metrics.row["model_events"] == 101 * 4096


@pytest.mark.parametrize("period", [2, 16, 17, 18])
def test_a_batch_with_a_period_is_sampled_fairly(period: int) -> None:
    """Events at regular places are no more often in the sample than others, whatever its stride."""
    n_sampled = n_above = 0
    for _ in range(4):
        counts, metrics = counting()
        scores = np.where(np.arange(4096) % period, 0.0, 20.0).astype(np.float32)
        counts.note(np.zeros((4096, 5), np.float32), scores)
        counts.fold()
        assert counts.comparison is not None
        n_sampled += metrics.row["sampled_events"][0]
        n_above += counts.comparison.score_counts(metrics.row["bins"][: counts.comparison.n_bins])[-1]
    expected = n_sampled / period
    assert abs(n_above - expected) < 5 * expected**0.5


@pytest.mark.parametrize("n_events", [30, 49, 64, 500])
def test_events_late_in_a_tick_are_sampled_as_well(n_events: int) -> None:
    """Where each tick has the same events, those of its second half are sampled as often as those of its first."""
    counts, metrics = counting()
    event = np.zeros((1, 5), np.float32)
    below_all, above_all = np.zeros(1, np.float32), np.full(1, 20.0, np.float32)
    for _ in range(400):
        for call in range(n_events):
            counts.note(event, above_all if 2 * call >= n_events else below_all)
        counts.tick()
    assert counts.comparison is not None
    by_score = counts.comparison.score_counts(metrics.row["bins"][: counts.comparison.n_bins])
    sampled = int(metrics.row["sampled_events"][0])
    assert sampled > 4000
    assert abs(by_score[-1] / sampled - 0.5) < 0.05


def test_events_without_a_finite_score_are_not_counted() -> None:
    """Their requests are refused, and they are in no histogram."""
    counts, metrics = counting()
    scores = np.array([1.0, np.nan, np.inf, 9.0], np.float32)
    counts.note(sample_events(4), scores)
    counts.fold()
    assert (metrics.row["model_events"], metrics.row["sampled_events"]) == (2, 2)
    assert metrics.row["accepted"][:2].tolist() == [1, 1]

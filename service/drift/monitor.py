"""The monitor of the model in use: it counts this worker's events, and compares those of all workers."""

import logging
from time import monotonic
from typing import NamedTuple

from service.drift.comparison import MIN_EVENTS, Comparison, Distances
from service.drift.counts import ModelCounts
from service.drift.observed import Note
from service.drift.window import Totals, Window
from service.metrics.counters import Metrics
from service.metrics.rows import MAX_BINS
from service.model.artefact import Artefact, WorkingPoint

logger = logging.getLogger(__name__)


class Report(NamedTuple):
    """The counts of all workers for the model in use."""

    artefact: Artefact
    points: list[WorkingPoint]
    """The working points with counts."""
    comparison: Comparison | None
    """None if the artefact has no reference histograms."""
    totals: Totals
    recent: Totals
    """The counts within the window."""
    window_s: float
    distances: Distances | None
    """Distances within the window; None without a reference, or with fewer than MIN_EVENTS sampled events."""


class Monitor:
    """Counts the events that this worker scores, and reports those of all workers that use the same model."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._artefact: Artefact | None = None
        self._counts: ModelCounts | None = None
        self._window = Window()

    def use(self, artefact: Artefact) -> Note:
        """Start to count the events of another model, which are passed to the returned function."""
        if self._counts is not None:
            self._counts.fold()  # requests that still score with the old model are not counted
        self._artefact = artefact
        self._counts = ModelCounts(artefact, _comparison(artefact), self._metrics.row)
        self._window = Window()
        self._window.recent(monotonic(), self._totals(self._counts))  # the start of the window
        return self._counts.note

    def tick(self) -> None:
        """Count what was noted, and keep the current totals if due; to be called ten times a second."""
        if self._counts is not None:
            self._counts.tick()
            if self._window.may_be_due(monotonic()):
                self._window.recent(monotonic(), self._totals(self._counts))

    def report(self) -> Report | None:
        """Report the counts so far; None before there is a model."""
        artefact, counts = self._artefact, self._counts
        if artefact is None or counts is None:
            return None
        counts.fold()
        totals = self._totals(counts)
        recent, window_s = self._window.recent(monotonic(), totals)
        distances = None
        if counts.comparison is not None and recent.sampled_events >= MIN_EVENTS:
            distances = counts.comparison.distances(recent.bins, recent.sampled_events)
        return Report(artefact, counts.points, counts.comparison, totals, recent, window_s, distances)

    def _totals(self, counts: ModelCounts) -> Totals:
        rows, identity = self._metrics.rows, self._metrics.row["counted_model"]
        same = (rows["counted_model"] == identity)[:, 0]
        n_points, n_bins = len(counts.points), 0 if counts.comparison is None else counts.comparison.n_bins
        return Totals(
            int(rows["model_events"][same].sum()),
            rows["accepted"][:, :n_points][same].sum(axis=0),
            int(rows["sampled_events"][same].sum()),
            float(rows["sampled_score"][same].sum()),
            rows["bins"][:, :n_bins][same].sum(axis=0),
        )


def _comparison(artefact: Artefact) -> Comparison | None:
    reference = artefact.metadata.reference
    if reference is None:
        return None
    comparison = Comparison(reference)
    if comparison.n_bins > MAX_BINS:
        found = {"model": artefact.identity, "bins": comparison.n_bins, "most": MAX_BINS}
        logger.warning("too many bins in the reference histograms; drift is not measured", extra=found)
        return None
    return comparison

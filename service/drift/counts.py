"""A worker's counts of scored events: all by working point, a sample in the bins of the reference."""

from random import random
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.drift.comparison import Comparison
from service.metrics.rows import MAX_COUNTED_POINTS
from service.model.artefact import Artefact, WorkingPoint

COUNTED_EVENTS: Final = 2**16
"""Number of events that are noted before they are counted together. Counting after each call would take three times as
long, since the runtime evicts the code from the processor's cache."""

SAMPLED_EVENTS: Final = 25
"""Number of events sampled between two ticks: sampling one takes as long as scoring ten."""

MAX_SAMPLED_EVENTS: Final = 10 * SAMPLED_EVENTS
"""Maximum number of events sampled between two ticks, after ticks with few."""

NEVER: Final = 2**62


class ModelCounts:
    """Counts the events that one model scores, in this worker's row of the shared memory.

    On average, one in `stride` events is sampled, at random distances, and every one while there are few. The stride is
    adapted to the rate at each tick; after a sudden rise, sampling stops until the next tick once the room is used up.
    """

    def __init__(self, artefact: Artefact, comparison: Comparison | None, row: Any) -> None:
        """Continue the counts of the row if they are of this model, else start from 0."""
        self.comparison = comparison
        self.points = artefact.metadata.working_points[:MAX_COUNTED_POINTS]
        self._thresholds = [_largest_float32(point) for point in self.points]
        self._row = row
        identity = artefact.identity.encode()
        if row["counted_model"] != identity:
            for field in ("model_events", "accepted", "sampled_events", "sampled_score", "bins"):
                row[field] = 0
            row["counted_model"] = identity
        self._noted = np.empty(COUNTED_EVENTS, np.float32)
        self._n_noted = 0
        """The scores that are not counted yet, and their number."""
        self._n_events, self._n_accepted = 0, [0] * len(self.points)
        """Counted events that are not yet in the row."""
        self._n_since_tick = 0
        """Events added to the row since the last tick."""
        self._features = np.empty((MAX_SAMPLED_EVENTS, artefact.n_features), np.float32)
        self._scores = np.empty(MAX_SAMPLED_EVENTS, np.float32)
        self._n_sampled = 0
        """The sampled events that are not in the row yet, and their number."""
        self._room = MAX_SAMPLED_EVENTS
        """Number of events that may still be sampled before the next tick."""
        self._stride = 1
        self._skipped = 0 if comparison is not None else NEVER
        """Number of events before the next sampled one."""

    def note(self, features: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
        """Note the scores (n,) of the first n events in `features`, n at most COUNTED_EVENTS, until `fold`."""
        n_events = len(scores)
        end = self._n_noted + n_events
        if end > COUNTED_EVENTS:
            self._count()
            end = n_events
        self._noted[self._n_noted : end] = scores
        self._n_noted = end
        if self._skipped < n_events:
            self._take(features, scores)
        else:
            self._skipped -= n_events

    def fold(self) -> None:
        """Add what was noted to the row."""
        self._count()
        n_events, n_accepted, n_sampled = self._n_events, self._n_accepted, self._n_sampled
        self._n_events, self._n_accepted, self._n_sampled = 0, [0] * len(self.points), 0
        self._n_since_tick += n_events
        if n_events:
            self._row["model_events"] += n_events
            self._row["accepted"][: len(self.points)] += n_accepted
        if n_sampled:
            self._count_sample(self._features[:n_sampled], self._scores[:n_sampled])

    def tick(self) -> None:
        """Count what was noted, and adapt the sampling to the rate since the last tick."""
        self.fold()
        was_full, self._room = not self._room, min(self._room + SAMPLED_EVENTS, MAX_SAMPLED_EVENTS)
        self._stride, self._n_since_tick = self._n_since_tick // self._room + 1, 0
        if was_full:
            self._skipped = self._distance() - 1

    def _count(self) -> None:
        """Count the noted scores."""
        if not self._n_noted:
            return
        scores, self._n_noted = self._noted[: self._n_noted], 0
        finite = np.isfinite(scores)
        if not finite.all():
            scores = scores[finite]
        self._n_events += len(scores)
        for place, threshold in enumerate(self._thresholds):
            self._n_accepted[place] += int(np.count_nonzero(scores > threshold))

    def _take(self, features: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
        """Add the sampled ones of these events (n, n_features) to the sample."""
        n_events, place = len(scores), self._skipped
        self._stride = max(self._stride, n_events // self._room + 1)  # spreads the sample over a large batch
        while place < n_events and self._room:
            self._features[self._n_sampled] = features[place]
            self._scores[self._n_sampled] = scores[place]
            self._n_sampled += 1
            self._room -= 1
            place += self._distance()
        self._skipped = place - n_events if self._room else NEVER

    def _distance(self) -> int:
        """Draw the number of events up to the next sampled one, `stride` on average."""
        return 1 + int(random() * (2 * self._stride - 1))

    def _count_sample(self, features: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
        """Add sampled events (n, n_features) to the row."""
        assert self.comparison is not None
        finite = np.isfinite(scores)
        features, scores = features[finite], scores[finite]
        self._row["sampled_events"] += len(scores)
        self._row["sampled_score"] += scores.sum(dtype=np.float64)
        self._row["bins"][: self.comparison.n_bins] += self.comparison.count(features, scores)


def _largest_float32(point: WorkingPoint) -> np.float32:
    """Return the threshold for float32 scores: the largest float32 that is not above the point's."""
    with np.errstate(over="ignore"):
        return np.float32(point.sent_threshold)

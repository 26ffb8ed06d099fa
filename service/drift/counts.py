"""What a worker counts of the events that it scores: all by working point, a sample in the bins of the reference."""

from math import isfinite
from random import random
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.drift.comparison import Comparison
from service.metrics import MAX_COUNTED_POINTS
from service.model.artefact import Artefact, WorkingPoint

AT_ONCE_EVENTS: Final = 512
"""The scores of so many events are counted while they are in the cache, those of fewer together later."""

FOLD_CALLS: Final = 1024
"""How many calls are noted before they are counted."""

SAMPLED_EVENTS: Final = 100
"""About the most events that are sampled between two ticks: counting one takes about as long as scoring it."""


class ModelCounts:
    """Counts the events that one model scores, in the row of this worker in memory that all workers share.

    Of the events one in `stride` is sampled, on average, at random distances: every one while there are few.
    """

    def __init__(self, artefact: Artefact, comparison: Comparison | None, row: Any) -> None:
        """Go on with the counts of the row if they are of this model, else begin at 0."""
        self.comparison = comparison
        self.points = artefact.metadata.working_points[:MAX_COUNTED_POINTS]
        self._thresholds = [_largest_float32(point) for point in self.points]
        self._row: Any | None = row
        """None once it is another model's."""
        identity = artefact.identity.encode()
        if row["counted_model"] != identity:
            for field in ("model_events", "accepted", "sampled_events", "sampled_score", "bins"):
                row[field] = 0
            row["counted_model"] = identity
        self._scores: list[NDArray[np.float32]] = []
        self._n_events, self._n_accepted = 0, [0] * len(self.points)
        """Counted events that are not yet in the row."""
        self._sample: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        self._stride = 1
        self._skipped = 0
        """Events until the next one of the sample."""
        self._n_sampled = 0
        """Events of the sample since the last tick."""

    def note(self, features: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
        """Note the scores (n,) of the first n events in `features`, until `fold` counts them."""
        n_events = len(scores)
        if n_events >= AT_ONCE_EVENTS:
            self._count(scores)
        else:
            self._scores.append(scores)
            if len(self._scores) >= FOLD_CALLS:
                self.fold()
        if self._skipped < n_events:
            self._take(features, scores)
        else:
            self._skipped -= n_events

    def fold(self) -> None:
        """Count at once what was noted."""
        if self._scores:
            scores, self._scores = np.concatenate(self._scores), []
            self._count(scores)
        if self._n_events and self._row is not None:
            self._row["model_events"] += self._n_events
            self._row["accepted"][: len(self.points)] += self._n_accepted
        self._n_events, self._n_accepted = 0, [0] * len(self.points)
        if self._sample:
            sample, self._sample = self._sample, []
            features, scores = (np.concatenate(column) for column in zip(*sample, strict=True))
            self._count_sample(features, scores)

    def tick(self) -> None:
        """Sample fewer events from now on if many came since the last tick, and more if few did."""
        self.fold()
        if self._n_sampled > SAMPLED_EVENTS:
            self._stride *= 2
        elif 4 * self._n_sampled < SAMPLED_EVENTS:
            self._stride = max(self._stride // 2, 1)
        self._n_sampled = 0

    def retire(self) -> None:
        """Leave the row to another model: what requests of this one still score is not counted."""
        self.fold()
        self._row = None

    def _count(self, scores: NDArray[np.float32]) -> None:
        with np.errstate(over="ignore"):
            all_finite = isfinite(scores.dot(scores))  # not so where squares overflow: then each is looked at
        if not all_finite:
            scores = scores[np.isfinite(scores)]
        self._n_events += len(scores)
        for place, threshold in enumerate(self._thresholds):
            self._n_accepted[place] += int(np.count_nonzero(scores > threshold))

    def _count_sample(self, features: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
        if self._row is None or self.comparison is None:
            return
        finite = np.isfinite(scores)
        features, scores = features[finite], scores[finite]
        self._row["sampled_events"] += len(scores)
        self._row["sampled_score"] += scores.sum(dtype=np.float64)
        self._row["bins"][: self.comparison.n_bins] += self.comparison.count(features, scores)

    def _take(self, features: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
        """Add to the sample of these events (n, n_features) those whose turn it is."""
        n_events = len(scores)
        # However many come at once: a piece of a batch is a few milliseconds of scoring.
        while n_events > self._stride * SAMPLED_EVENTS:
            self._stride *= 2
        chosen, place = [], self._skipped
        while place < n_events:
            chosen.append(place)
            place += 1 + int(random() * (2 * self._stride - 1))
        self._skipped = place - n_events
        self._n_sampled += len(chosen)
        if self.comparison is not None:
            self._sample.append((features[chosen], scores[chosen]))
        if self._n_sampled > 2 * SAMPLED_EVENTS:
            self.tick()


def _largest_float32(point: WorkingPoint) -> np.float32:
    """Give the threshold for float32 scores: the largest that is not above the point's."""
    with np.errstate(over="ignore"):
        return np.float32(point.sent_threshold)

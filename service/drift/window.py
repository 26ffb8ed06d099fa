"""The recent window: the difference between the current totals and kept ones of some seconds ago."""

from collections import deque
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from service.drift.comparison import MIN_EVENTS

WINDOW_S: Final = 30
"""Length of the window in seconds; it is longer while it has fewer than MIN_EVENTS sampled events."""

LONGEST_S: Final = 3600
STEP_S: Final = 5
"""Seconds between kept totals."""


class Totals(NamedTuple):
    """The counts of all workers for one model."""

    events: int
    accepted: NDArray[np.int64]
    """Accepted events by working point."""
    sampled_events: int
    sampled_score: float
    """The sum of the scores of the sampled events."""
    bins: NDArray[np.int64]

    def since(self, earlier: Self) -> "Totals":
        """Return the counts since `earlier`."""
        return Totals(
            self.events - earlier.events,
            self.accepted - earlier.accepted,
            self.sampled_events - earlier.sampled_events,
            self.sampled_score - earlier.sampled_score,
            self.bins - earlier.bins,
        )


class Window:
    """Totals kept at some times within the last hour."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, Totals]] = deque()

    def recent(self, now_s: float, totals: Totals) -> tuple[Totals, float]:
        """Return the counts within the window that ends with the current `totals`, and its length in seconds."""
        kept = self._kept
        if kept and totals.events < kept[-1][1].events:  # a worker has changed to another model
            kept.clear()
        if not kept or self._is_due(now_s, totals, *kept[-1]):
            kept.append((now_s, totals))
        while len(kept) > 1 and (self._suffices(now_s, totals, *kept[1]) or now_s - kept[0][0] > LONGEST_S):
            kept.popleft()
        began_s, first = kept[0]
        return totals.since(first), now_s - began_s

    def may_be_due(self, now_s: float) -> bool:
        """Return whether STEP_S have passed since totals were kept, so that `recent` may keep the current ones."""
        return not self._kept or now_s - self._kept[-1][0] >= STEP_S

    @staticmethod
    def _is_due(now_s: float, totals: Totals, last_s: float, last: Totals) -> bool:
        enough = 10 * (totals.sampled_events - last.sampled_events) >= MIN_EVENTS
        return now_s - last_s >= (STEP_S if enough else LONGEST_S / 10)

    @staticmethod
    def _suffices(now_s: float, totals: Totals, began_s: float, first: Totals) -> bool:
        return now_s - began_s >= WINDOW_S and totals.sampled_events - first.sampled_events >= MIN_EVENTS

"""A scorer that passes its events and scores to an observer."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from service.model.scorer import BoundRows, Scorer

Note = Callable[[NDArray[np.float32], NDArray[np.float32]], None]
"""Receives events (n, n_features), in memory that may change afterwards, and their scores (n,)."""


class ObservedScorer:
    """Scores as another scorer does, and notes each call."""

    def __init__(self, scorer: Scorer, note: Note) -> None:
        self.artefact = scorer.artefact
        self._scorer = scorer
        self._note = note

    def score_rows(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score `rows` as `Scorer.score_rows` does."""
        scores = self._scorer.score_rows(rows)
        self._note(rows, scores)
        return scores

    def bind(self, rows: NDArray[np.float32]) -> "ObservedRows":
        """Bind `rows` as `Scorer.bind` does."""
        return ObservedRows(self._scorer.bind(rows), rows, self._note)


class ObservedRows:
    """Scores bound rows as `BoundRows` does, and notes each call."""

    def __init__(self, bound: BoundRows, rows: NDArray[np.float32], note: Note) -> None:
        self._bound = bound
        self._rows = rows
        self._note = note

    def score(self, n_events: int) -> NDArray[np.float32]:
        """Score the first rows as `BoundRows.score` does."""
        scores = self._bound.score(n_events)
        self._note(self._rows, scores)
        return scores


AnyScorer = Scorer | ObservedScorer

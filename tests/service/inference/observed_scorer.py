"""A scorer whose calls of the runtime are observed."""

import numpy as np
from numpy.typing import NDArray

from service.model.artefact import Artefact
from service.model.scorer import BoundRows, Scorer, whole_vectors


class ObservedScorer(Scorer):
    """A scorer that keeps the rows of each call, and fails when it is told to."""

    def __init__(self, artefact: Artefact) -> None:
        self.calls: list[NDArray[np.float32]] = []
        self.failing = False
        super().__init__(artefact)
        self.calls.clear()  # the golden pairs

    @property
    def sizes(self) -> list[int]:
        """How many rows each call had."""
        return [len(rows) for rows in self.calls]

    def score_rows(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Keep, and score."""
        self.observe(rows)
        return super().score_rows(rows)

    def bind(self, rows: NDArray[np.float32]) -> BoundRows:
        """Observe the calls with these rows, too."""
        observe = self.observe

        class ObservedRows(BoundRows):
            def score(self, n_events: int) -> NDArray[np.float32]:
                observe(rows[: whole_vectors(n_events)])
                return super().score(n_events)

        return ObservedRows(self._session, rows)

    def observe(self, rows: NDArray[np.float32]) -> None:
        """Keep the rows of a call, or have it fail."""
        self.calls.append(rows.copy())
        if self.failing:
            raise RuntimeError("the model is gone")

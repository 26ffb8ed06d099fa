"""The scores of one request: a whole array, or a batch whose blocks arrive one after the other."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from service.inference.batching import FairScheduler, MicroBatch, Scores, finite_scores
from service.model.scorer import Scorer

SMALL_BATCH_EVENTS = MicroBatch.CAPACITY_EVENTS // 2
"""A batch of at most so many events is scored in a micro-batch."""


class BatchScores:
    """The scores of one large batch, which shares the worker fairly with single events and other batches."""

    def __init__(self, scorer: Scorer, micro_batch: MicroBatch, scheduler: FairScheduler) -> None:
        self._scorer = scorer
        self._micro_batch = micro_batch
        self._scheduler = scheduler
        self._scores: list[Scores] = []
        self.n_events = 0

    async def add(self, blocks: Iterable[NDArray[np.float32]], *, large: bool, last: bool) -> None:
        """Score blocks of rows (n, n_features), taken from `blocks` one by one: reading them is part of the piece.

        `large` blocks wait for their turn; others are read and scored at once. `last` blocks complete the batch.
        """
        if large:
            await self._scheduler.wait()
        fresh = True
        for block in blocks:
            self.n_events += len(block)
            if last and not self._scores and len(block) <= SMALL_BATCH_EVENTS:
                self._scores.append(await self._micro_batch.score(block))
                return
            for rows in self._scheduler.pieces(block):
                if large and not fresh:
                    await self._scheduler.wait()
                fresh = False
                self._scores.append(self._scorer.score(rows))

    def join(self) -> Scores:
        """Give the scores of all events in their order, as (n_events,); raises NonFiniteScoreError."""
        scores = self._scores[0] if len(self._scores) == 1 else np.concatenate(self._scores)
        checked = finite_scores(scores)
        if isinstance(checked, Exception):
            raise checked
        return checked

"""The model in use, with its queues, and whether requests are taken yet or still."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import NotReadyError, TooManyEventsError, UnknownWorkingPointError
from service.inference.admission import Admission
from service.inference.batching import FairScheduler, MicroBatch, Scores
from service.inference.score import SMALL_BATCH_EVENTS, BatchScores
from service.metrics import Metrics
from service.model.artefact import WorkingPoint
from service.model.scorer import CHUNK_EVENTS, Scorer
from service.settings import Settings

SHOWN_CHARACTERS = 60


class Model:
    """A model in use. A request keeps the model that it began with, whatever is loaded meanwhile."""

    def __init__(self, scorer: Scorer, max_events: int) -> None:
        self.artefact = scorer.artefact
        self.max_events = max_events
        self.micro_batch = MicroBatch(scorer)
        self._scorer = scorer
        self._scheduler = FairScheduler(self.micro_batch)
        self._working_points = {point.name: point for point in self.artefact.metadata.working_points}

    @property
    def event_bytes(self) -> int:
        """The bytes of one event as float32."""
        return self.artefact.n_features * np.dtype(np.float32).itemsize

    def working_point(self, name: str) -> WorkingPoint:
        """Find a working point by its name; raises UnknownWorkingPointError."""
        if name not in self._working_points:
            known = ", ".join(self._working_points) or "none: this model has no working points"
            raise UnknownWorkingPointError(f"working_point is {name[:SHOWN_CHARACTERS]!r}, expected one of {known}")
        return self._working_points[name]

    async def score(self, features: NDArray[np.float32]) -> Scores:
        """Score `features` (n, n_features), finite float32 in the artefact's order, as (n,) finite float32.

        A few events are scored in a micro-batch; more are scored in pieces, fairly scheduled beside others. Raises
        TooManyEventsError and NonFiniteScoreError.
        """
        if len(features) <= SMALL_BATCH_EVENTS:
            return await self.micro_batch.score(features)
        if len(features) > self.max_events:
            raise TooManyEventsError(
                f"the batch has {len(features)} events, expected at most {self.max_events}: send smaller batches"
            )
        batch = self.start_batch()
        await batch.add(_blocks(features), large=True, last=True)
        return batch.join()

    def start_batch(self) -> BatchScores:
        """Start a batch whose rows arrive in blocks."""
        return BatchScores(self._scorer, self.micro_batch, self._scheduler)


class Deployment:
    """What all protocols share: the model in use, the requests in flight and the status."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.admission = Admission(settings.max_inflight_events, settings.max_inflight_bytes)
        self.metrics = metrics
        self.status: Literal["starting", "ok", "draining"] = "starting"
        self._max_events = settings.max_events
        self._model: Model | None = None

    def open(self, scorer: Scorer) -> None:
        """Take requests from now on."""
        self.use(scorer)
        self.status = "ok"

    def use(self, scorer: Scorer) -> None:
        """Score the requests that begin from now on with this model."""
        self._model = Model(scorer, self._max_events)
        self.metrics.use_model(scorer.artefact.identity)

    @property
    def model(self) -> Model:
        """The model in use; raises NotReadyError before there is one."""
        if self._model is None:
            raise NotReadyError(self.status)
        return self._model


def _blocks(features: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(features), CHUNK_EVENTS):
        yield features[start : start + CHUNK_EVENTS]

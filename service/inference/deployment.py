"""The interface for all protocols: the model in use, scores of an array or of a batch in blocks, and the status."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from service.drift.monitor import Monitor
from service.drift.observed import AnyScorer, Note, ObservedScorer
from service.errors import (
    InvalidRequestError,
    NonFiniteScoreError,
    NotReadyError,
    TooManyEventsError,
    UnknownWorkingPointError,
)
from service.inference.admission import Admission
from service.inference.batching import FairScheduler, MicroBatch, Receiver, Scores, finite_scores
from service.metrics.counters import Metrics
from service.model.artefact import WorkingPoint
from service.model.explanation import Explainer, Explanation, ExplanationError
from service.model.scorer import CHUNK_EVENTS, Scorer
from service.settings import Settings

SMALL_BATCH_EVENTS: Final = MicroBatch.CAPACITY_EVENTS // 2
"""Maximum size of a batch that is scored in a micro-batch."""

SHOWN_CHARACTERS: Final = 60


class BatchScores:
    """The scores of one large batch, which shares the worker fairly with single events and other batches."""

    def __init__(self, scorer: AnyScorer, micro_batch: MicroBatch, scheduler: FairScheduler) -> None:
        self._scorer = scorer
        self._micro_batch = micro_batch
        self._scheduler = scheduler
        self._scores: list[Scores] = []
        self.n_events = 0

    async def add(self, blocks: Iterable[NDArray[np.float32]], *, large: bool, last: bool) -> None:
        """Score blocks of rows (n, n_features), read from `blocks` one by one within the scheduled pieces.

        Each piece of `large` blocks waits for its turn; otherwise the first piece does not wait. `last` blocks complete
        the batch.
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
                if not fresh and not self._scheduler.goes_on:
                    await self._scheduler.wait()
                fresh = False
                self._scores.append(self._scorer.score_rows(rows))

    def join(self) -> Scores:
        """Return the scores of all events in their order, as (n_events,); raises NonFiniteScoreError."""
        return joined(self._scores)


class WholeBatch:
    """A large batch that has arrived in whole; its pieces are read and scored in turns of the scheduler."""

    def __init__(
        self, scorer: AnyScorer, scheduler: FairScheduler, blocks: Iterable[NDArray[np.float32]], receiver: Receiver
    ) -> None:
        self._scorer = scorer
        self._scheduler = scheduler
        self._pieces = (piece for block in blocks for piece in scheduler.pieces(block))
        self._receiver = receiver
        self._next: NDArray[np.float32] | None = None
        self._scores: list[Scores] = []

    def done(self) -> bool:
        """Return whether the scores are no longer needed."""
        return self._receiver.done()

    def set_result(self, _: None, /) -> None:
        """Score the next piece, and further ones while the scheduler allows."""
        try:
            self._scores.append(self._scorer.score_rows(next(self._pieces) if self._next is None else self._next))
            # The next piece is read at once, to know whether there is one.
            while (piece := next(self._pieces, None)) is not None and self._scheduler.goes_on:
                self._scores.append(self._scorer.score_rows(piece))
            scores = joined(self._scores) if piece is None else None
        except Exception as error:
            self._receiver.set_exception(error)
            return
        if scores is None:
            self._next = piece
            self._scheduler.submit(self)
        else:
            self._receiver.set_result(scores)


def joined(scores: list[Scores]) -> Scores:
    """Join the scores of pieces as (n,); raises NonFiniteScoreError."""
    return finite_scores(scores[0] if len(scores) == 1 else np.concatenate(scores))


class Model:
    """A model in use. A request keeps the model that it began with, also after a reload."""

    def __init__(self, scorer: Scorer, max_events: int, note: Note) -> None:
        """Score with `scorer`, and pass the scored events of clients to `note`."""
        self.artefact = scorer.artefact
        self.identity = scorer.artefact.identity
        self.max_events = max_events
        self._unobserved, self._scorer, self._note = scorer, ObservedScorer(scorer, note), note
        self.micro_batch = MicroBatch(self._scorer)
        self._scheduler = FairScheduler(self.micro_batch)
        self._working_points = {point.name: point for point in self.artefact.metadata.working_points}

    @property
    def event_bytes(self) -> int:
        """Bytes of one event as float32."""
        return self.artefact.n_features * np.dtype(np.float32).itemsize

    @property
    def known_working_points(self) -> str:
        """The names of the working points, as messages list them."""
        return ", ".join(self._working_points) or "none: this model has no working points"

    def working_point(self, name: str) -> WorkingPoint:
        """Find a working point by its name; raises UnknownWorkingPointError."""
        if name not in self._working_points:
            known, found = self.known_working_points, name[:SHOWN_CHARACTERS]
            raise UnknownWorkingPointError(f"working_point is {found!r}, expected one of {known}")
        return self._working_points[name]

    async def score(self, features: NDArray[np.float32]) -> Scores:
        """Score `features` (n, n_features), finite float32 in the artefact's order, as (n,) finite float32.

        A few events are scored in a micro-batch; more are scored in pieces, fairly scheduled beside others. Raises
        InvalidRequestError for none, TooManyEventsError and NonFiniteScoreError.
        """
        if not len(features):
            raise InvalidRequestError("the batch is empty, expected at least 1 event")
        if len(features) <= SMALL_BATCH_EVENTS:
            return await self.micro_batch.score(features)
        if len(features) > self.max_events:
            raise TooManyEventsError(
                f"the batch has {len(features)} events, expected at most {self.max_events}: send smaller batches"
            )
        batch = self.start_batch()
        await batch.add(_blocks(features), large=True, last=True)
        return batch.join()

    @cached_property
    def explainer(self) -> Explainer:
        """The explainer of this model's scores; raises InvalidRequestError if they cannot be explained."""
        try:
            return Explainer(self._unobserved)
        except ExplanationError as error:
            raise InvalidRequestError(f"no score can be explained: {error}") from error

    @property
    def max_explained_events(self) -> int:
        """Maximum number of explained events in a request: their mixtures count as events; at least one."""
        return max(1, self.max_events // self.explainer.n_mixtures)

    async def explain(self, features: NDArray[np.float32]) -> Explanation:
        """Score and explain `features` (n, n_features), finite float32 in the artefact's order.

        The mixtures of each event are scored as a batch of their own, fairly scheduled beside others. Raises
        InvalidRequestError, and NonFiniteScoreError for an event that has no finite score, or a mixture of it.
        """
        explainer = self.explainer
        scores, contributions = np.empty(len(features), np.float32), np.empty(features.shape, np.float32)
        for place, event in enumerate(features):
            batch = BatchScores(explainer.scorer_of(event), self.micro_batch, self._scheduler)
            await self.wait()
            await batch.add(explainer.mixtures(event), large=False, last=False)  # the last one might be observed
            try:
                of_mixtures = batch.join()
            except NonFiniteScoreError as error:
                shown = f"events[{place}]" if len(features) > 1 else "the event"
                raise NonFiniteScoreError(
                    f"{shown} cannot be explained: the model has no finite score for it, or for a mixture of it and "
                    "background; its features are beyond what the model was made for"
                ) from error
            self._note(event[None], of_mixtures[:1])
            scores[place], contributions[place] = of_mixtures[0], explainer.contributions(of_mixtures)
        return Explanation(scores, explainer.reference_score, contributions)

    async def wait(self) -> None:
        """Wait until the worker is free for work that takes as long as a piece of a batch."""
        await self._scheduler.wait()

    def submit(self, rows: NDArray[np.float32], receiver: Receiver) -> None:
        """Score `rows` (n, n_features), finite float32: a few in a micro-batch, more as `submit_blocks` does."""
        if len(rows) <= SMALL_BATCH_EVENTS:
            self.micro_batch.submit(rows, receiver)
        else:
            self.submit_blocks((rows,), receiver)

    def submit_blocks(self, blocks: Iterable[NDArray[np.float32]], receiver: Receiver) -> None:
        """Score blocks of rows (n, n_features), finite float32, at least one, in pieces that are fairly scheduled.

        Each is read from `blocks` when it is to be scored. The receiver gets what reading raises.
        """
        self._scheduler.submit(WholeBatch(self._scorer, self._scheduler, blocks, receiver))

    def start_batch(self) -> BatchScores:
        """Start a batch whose rows arrive in blocks."""
        return BatchScores(self._scorer, self.micro_batch, self._scheduler)


class Deployment:
    """The state that all protocols share: the model in use, the requests in flight and the status."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.admission = Admission(settings.max_inflight_events, settings.max_inflight_bytes)
        """Admission of batches."""
        self.event_admission = Admission(settings.max_inflight_events, settings.max_inflight_bytes // 8)
        """Admission of single events, which have room of their own."""
        self.metrics = metrics
        self.monitor = Monitor(metrics)
        self.status: Literal["starting", "ok", "draining"] = "starting"
        self.current: Model | None = None
        """The model in use; None before there is one."""
        self._max_events = settings.max_events

    @property
    def inflight(self) -> tuple[int, int, int]:
        """The numbers of requests, events and bytes in flight."""
        batches, events = self.admission, self.event_admission
        return batches.requests + events.requests, batches.events + events.events, batches.bytes + events.bytes

    @property
    def more_than_half_full(self) -> bool:
        """Whether more than half of the room of batches, or of single events, is taken."""
        return self.admission.more_than_half_full or self.event_admission.more_than_half_full

    def open(self, scorer: Scorer) -> None:
        """Start to take requests."""
        self.use(scorer)
        self.status = "ok"

    def use(self, scorer: Scorer) -> None:
        """Score new requests with this model."""
        self.current = Model(scorer, self._max_events, self.monitor.use(scorer.artefact))
        self.metrics.use_model(scorer.artefact.identity)

    @property
    def model(self) -> Model:
        """The model in use; raises NotReadyError before there is one."""
        if self.current is None:
            raise NotReadyError(self.status)
        return self.current


def _blocks(features: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(features), CHUNK_EVENTS):
        yield features[start : start + CHUNK_EVENTS]

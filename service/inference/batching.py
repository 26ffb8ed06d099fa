"""Micro-batches of single events, and fair scheduling of large batches beside them.

Scoring runs on the event loop: a thread of its own would compete with the loop for the worker's core.
"""

import math
from asyncio import Future, get_running_loop
from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter, thread_time
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.drift.observed import AnyScorer
from service.errors import NonFiniteScoreError
from service.model.scorer import CHUNK_EVENTS

Scores = NDArray[np.float32]


ReadEvent = Callable[[bytes, NDArray[np.float32], int], None]
"""Reads the event in a body as finite float32 into a row of an array."""


class Receiver(Protocol):
    """Receives the scores of the events that were submitted with it, as an asyncio Future does.

    It is called once, when the micro-batch is scored, unless it is done before. It must not raise.
    """

    def done(self) -> bool:
        """Return whether the scores are no longer needed."""

    def set_result(self, result: Scores, /) -> None:
        """Receive the scores (n,), all finite."""

    def set_exception(self, exception: Exception, /) -> None:
        """Receive the NonFiniteScoreError, or the error of the runtime."""


class Turn(Protocol):
    """Waits for an iteration of the event loop that is free for a piece of a batch, as an asyncio Future does."""

    def done(self) -> bool:
        """Return whether the iteration is no longer needed."""

    def set_result(self, result: None, /) -> None:
        """Use this iteration. It must not raise."""


class MicroBatch:
    """Scores the events that arrive within one iteration of the event loop in one call of the runtime.

    There is no timer: a lone event does not wait. A call takes about the same time for one event as for thirty.
    """

    CAPACITY_EVENTS = 256
    RECENT_S = 0.1

    def __init__(self, scorer: AnyScorer) -> None:
        self._rows = np.zeros((self.CAPACITY_EVENTS, scorer.artefact.n_features), np.float32)
        self._bound = scorer.bind(self._rows)
        self._filled = self._stale = 0
        self._waiting: list[tuple[Receiver, int, int]] = []
        self._scored_s = -math.inf
        self.n_calls = 0
        """Number of calls of the runtime."""

    @property
    def in_use(self) -> bool:
        """Whether an event waits to be scored, or was scored recently."""
        return bool(self._waiting) or perf_counter() - self._scored_s < self.RECENT_S

    @property
    def waiting(self) -> bool:
        """Whether events wait to be scored."""
        return bool(self._waiting)

    def submit(self, features: NDArray[np.float32], receiver: Receiver) -> None:
        """Score `features` (n, n_features), n at most CAPACITY_EVENTS, in this iteration's micro-batch."""
        if self._filled + len(features) > self.CAPACITY_EVENTS:
            self._flush()
        end = self._filled + len(features)
        self._rows[self._filled : end] = features
        self._add(end, receiver)

    def submit_event(self, read: ReadEvent, body: bytes, receiver: Receiver) -> None:
        """Score the event that `read` reads from `body` as `submit` does; raises the errors of `read`."""
        if self._filled == self.CAPACITY_EVENTS:
            self._flush()
        place = self._filled
        try:
            read(body, self._rows, place)
        except Exception:
            self._stale = max(self._stale, place + 1)  # the row may be partly written
            raise
        self._add(place + 1, receiver)

    def _add(self, end: int, receiver: Receiver) -> None:
        """Schedule the rows up to `end` to be scored."""
        start = self._filled
        if not start:
            get_running_loop().call_soon(self._flush)
        self._waiting.append((receiver, start, end))
        self._filled = end

    def score(self, features: NDArray[np.float32]) -> Future[Scores]:
        """Score `features` as `submit` does; return a future of the scores."""
        scored: Future[Scores] = get_running_loop().create_future()
        self.submit(features, scored)
        return scored

    def _flush(self) -> None:
        waiting, filled = self._waiting, self._filled
        self._waiting, self._filled = [], 0
        if not filled:  # a full micro-batch was scored earlier in the iteration
            return
        self._scored_s = perf_counter()
        self.n_calls += 1
        try:
            if filled < self._stale:  # rows of other clients, from an earlier micro-batch
                self._rows[filled : self._stale] = 0
            self._stale = filled
            scores = self._bound.score(filled)
        except Exception as error:
            for receiver, _, _ in waiting:
                if not receiver.done():
                    receiver.set_exception(error)
            return
        all_finite = math.isfinite(scores.dot(scores))  # False also if squares overflow: then each is checked
        for receiver, start, end in waiting:
            if receiver.done():  # its request was cancelled
                continue
            if all_finite:
                receiver.set_result(scores[start:end])
                continue
            try:
                receiver.set_result(finite_scores(scores[start:end]))
            except NonFiniteScoreError as error:
                receiver.set_exception(error)


class FairScheduler:
    """Gives each iteration of the event loop to a piece of one large batch, in order of arrival.

    Single events have priority: while some wait, large batches pause, for no longer than their last piece took, so that
    each of the two gets at least half of the time. While single events arrive, the pieces are shorter.
    """

    SHORT_PIECE_EVENTS = 1024
    """About a quarter of a millisecond; longer pieces are hardly more efficient."""

    MIN_OWED_S, MAX_OWED_S = 1e-3, 4e-3
    """If other work since the last piece took at least the minimum, a batch gets as much time, up to the maximum."""

    def __init__(self, single_events: MicroBatch) -> None:
        self._single_events = single_events
        self._waiting: deque[Turn] = deque()
        self._taken = False
        self._began_s = self._ended_s = self._ended_thread_s = self._owed_s = 0.0

    @property
    def piece_events(self) -> int:
        """Maximum number of events that are scored in one iteration."""
        return self.SHORT_PIECE_EVENTS if self._single_events.in_use else CHUNK_EVENTS

    def pieces(self, rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Cut `rows` (n, n_features) into the pieces that are scored in one iteration each."""
        n_events = self.piece_events
        for start in range(0, len(rows), n_events):
            yield rows[start : start + n_events]

    @property
    def goes_on(self) -> bool:
        """Whether the batch that has scored a piece in this iteration may score another one.

        This guarantees batches a fraction of the time while other requests take long.
        """
        return not self._single_events.waiting and perf_counter() - self._began_s < self._owed_s

    async def wait(self) -> None:
        """Wait until this iteration of the loop, or a later one, is free for a piece."""
        turn: Future[None] = get_running_loop().create_future()
        self.submit(turn)
        if not turn.done():
            await turn
            self._began_s = perf_counter()

    def submit(self, turn: Turn) -> None:
        """Give `turn` this iteration of the loop if it is free for a piece, else a later one."""
        if not self._taken and not self._single_events.waiting:
            self._take(turn)
            return
        self._waiting.append(turn)
        if not self._taken:
            self._take()

    def _take(self, turn: Turn | None = None, owed_s: float = 0.0) -> None:
        """Give this iteration to `turn`, or to single events if it is None."""
        self._taken = True
        self._began_s = perf_counter()
        self._owed_s = owed_s
        try:
            if turn is not None:
                turn.set_result(None)
        finally:
            get_running_loop().call_soon(self._end)  # after the task that waits for `turn`

    def _end(self) -> None:
        self._ended_s, self._ended_thread_s = perf_counter(), thread_time()
        # One iteration later, once the events that arrived meanwhile have been submitted.
        get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._taken = False
        if self._single_events.waiting and perf_counter() - self._ended_s < self._ended_s - self._began_s:
            self._taken = True
            get_running_loop().call_soon(self._next)
            return
        while self._waiting and not self._taken:
            turn = self._waiting.popleft()
            if not turn.done():  # its request may be cancelled
                other_s = thread_time() - self._ended_thread_s
                self._take(turn, owed_s=min(other_s, self.MAX_OWED_S) if other_s > self.MIN_OWED_S else 0.0)


def finite_scores(scores: Scores) -> Scores:
    """Return `scores` (n,) if all are finite; raises NonFiniteScoreError, which names the first that is not."""
    finite = np.isfinite(scores)
    if finite.all():
        return scores
    place = int(finite.argmin())
    event = f"events[{place}]" if len(scores) > 1 else "the event"
    raise NonFiniteScoreError(
        f"the model gave the score {scores[place]} for {event}, whose features are beyond what it was made for"
    )

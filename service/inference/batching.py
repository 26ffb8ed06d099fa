"""Who is scored when: single events together, long batches in turns.

All of it happens on the event loop: a thread of its own would fight the loop for the worker's core. It does not know
HTTP, formats or thresholds.
"""

from asyncio import Future, get_running_loop
from collections import deque
from collections.abc import Iterator
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from service.model.scorer import Scorer, whole_vectors


class MicroBatch:
    """Scores what has arrived within one turn of the event loop in one call of the runtime.

    There is no timer: whoever is alone waits for nobody. A call costs about the same for one event as for thirty.
    """

    CAPACITY_EVENTS = 256
    LATELY_S = 0.1

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._rows = np.zeros((self.CAPACITY_EVENTS, scorer.artefact.n_features), np.float32)
        self._filled = 0
        self._waiting: list[tuple[Future[NDArray[np.float32]], slice]] = []
        self._asked_s = -self.LATELY_S

    @property
    def in_use(self) -> bool:
        """Whether any event came lately."""
        return perf_counter() - self._asked_s < self.LATELY_S

    @property
    def waiting(self) -> bool:
        """Whether any event waits to be scored."""
        return bool(self._waiting)

    def score(self, features: NDArray[np.float32]) -> Future[NDArray[np.float32]]:
        """Score `features` (n, n_features), n at most CAPACITY_EVENTS, as (n,) in this turn's batch."""
        if self._filled + len(features) > self.CAPACITY_EVENTS:
            self._flush()
        loop = get_running_loop()
        if not self._filled:
            loop.call_soon(self._flush)
        place = slice(self._filled, self._filled + len(features))
        self._rows[place] = features
        self._filled = place.stop
        self._asked_s = perf_counter()
        scored: Future[NDArray[np.float32]] = loop.create_future()
        self._waiting.append((scored, place))
        return scored

    def _flush(self) -> None:
        waiting, filled = self._waiting, self._filled
        self._waiting, self._filled = [], 0
        if not filled:  # it was full before its turn came
            return
        try:
            # Whole vectors of rows, old ones among them, spare the scorer a copy.
            scores = self._scorer.score(self._rows[: whole_vectors(filled)])
        except Exception as error:
            for scored, _ in waiting:
                if not scored.done():
                    scored.set_exception(error)
            return
        for scored, place in waiting:
            if not scored.done():  # its client may have left
                scored.set_result(scores[place])


class Turns:
    """Lets one piece of long work go on in each turn of the event loop, first come, first served.

    Single events go first: while some wait, long work rests, but for no longer than its last piece took, so that each
    of the two gets half of the time at least. And while some come, its pieces are shorter.
    """

    SHORT_EVENTS = 1024
    """A quarter of a millisecond, in which the runtime does nearly as well as in more."""

    def __init__(self, singles: MicroBatch) -> None:
        self._singles = singles
        self._waiting: deque[Future[None]] = deque()
        self._taken = False
        self._began = self._ended = 0.0

    def pieces(self, rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Cut `rows` (n, n_features) into what may be scored in a turn."""
        n_events = self.SHORT_EVENTS if self._singles.in_use else max(len(rows), 1)
        for start in range(0, len(rows), n_events):
            yield rows[start : start + n_events]

    async def wait(self) -> None:
        """Wait until a turn is free; at once, if this one is."""
        if not self._taken and not self._singles.waiting:
            self._take()
            return
        turn: Future[None] = get_running_loop().create_future()
        self._waiting.append(turn)
        if not self._taken:
            self._take()
        await turn

    def _take(self) -> None:
        self._taken = True
        self._began = perf_counter()
        get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self._ended = perf_counter()
        # One turn later, when those who came meanwhile have said what they want.
        get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._taken = False
        if self._singles.waiting and perf_counter() - self._ended < self._ended - self._began:
            self._taken = True
            get_running_loop().call_soon(self._next)
            return
        while self._waiting and not self._taken:
            turn = self._waiting.popleft()
            if not turn.done():  # its client may have left
                turn.set_result(None)
                self._take()

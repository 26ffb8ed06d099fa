"""Who is scored when: single events together, long batches in turns.

All of it happens on the event loop: a thread of its own would fight the loop for the worker's core. It does not know
HTTP, formats or thresholds.
"""

from asyncio import Future, get_running_loop
from collections import deque

import numpy as np
from numpy.typing import NDArray

from service.scorer import Scorer


class MicroBatch:
    """Scores what has arrived within one turn of the event loop in one call of the runtime.

    There is no timer: whoever is alone waits for nobody. A call costs about the same for one event as for thirty.
    """

    CAPACITY_EVENTS = 256

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._rows = np.empty((self.CAPACITY_EVENTS, scorer.artefact.n_features), np.float32)
        self._filled = 0
        self._waiting: list[tuple[Future[NDArray[np.float32]], slice]] = []

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
        scored: Future[NDArray[np.float32]] = loop.create_future()
        self._waiting.append((scored, place))
        return scored

    def _flush(self) -> None:
        waiting, filled = self._waiting, self._filled
        self._waiting, self._filled = [], 0
        if not filled:  # it was full before its turn came
            return
        try:
            scores = self._scorer.score(self._rows[:filled])
        except Exception as error:
            for scored, _ in waiting:
                if not scored.done():
                    scored.set_exception(error)
            return
        for scored, place in waiting:
            if not scored.done():  # its client may have left
                scored.set_result(scores[place])


class Turns:
    """Lets one piece of long work go on in each turn of the event loop, first come, first served."""

    def __init__(self) -> None:
        self._waiting: deque[Future[None]] = deque()
        self._taken = False

    async def wait(self) -> None:
        """Wait until a turn of the loop is free; at once, if this one is."""
        loop = get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._next)
            return
        turn: Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        self._taken = False
        while self._waiting and not self._taken:
            turn = self._waiting.popleft()
            if not turn.done():  # its client may have left
                turn.set_result(None)
                self._taken = True
                get_running_loop().call_soon(self._next)

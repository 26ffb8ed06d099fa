"""A call: sends the parts of its events until each is scored, all by one model."""

import asyncio
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.client.errors import ModelError, RetriableError, UnavailableError
from service.client.fallback import Fallback
from service.client.options import Options
from service.client.parts import ROW, Part, cut, rows_of
from service.client.result import Counts, Reply, Result, WorkingPoint
from service.client.servers import RELOAD_S, Servers, pause_s

RELOADS: Final = 3
"""Maximum number of restarts of a call because the model was replaced."""

STALE_REPLIES: Final = 3
"""Responses by another model to one part after which the servers count as having replaced the model of the call."""


class ReplacedError(Exception):
    """A part was scored by another model than the call."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"its model is {found}, expected {expected}")


class Call:
    """The events of a call, and its progress."""

    def __init__(
        self,
        events: NDArray[Any],
        options: Options,
        servers: Servers,
        fallback: Fallback | None,
        slots: asyncio.Semaphore,
        working_point: str | None,
        model: str | None,
        retries: int,
    ) -> None:
        self._events = events
        self._servers, self._fallback, self._slots = servers, fallback, slots
        self._working_point, self._asked_model = working_point, model
        self._retries = retries
        self._until = asyncio.get_running_loop().time() + options.total_s
        row_bytes = events.shape[1] * ROW.itemsize
        self._parts = list(cut(len(events), row_bytes, options.request_events, options.request_bytes))
        self._scores = np.empty(len(events), np.float32)
        self._scored = 0
        self._threshold: float | None = None
        self._alone = False
        """Whether the fallback scores because no server is available."""
        self.counts = Counts()

    async def score(self) -> Result:
        """Score all parts by one model; if the servers replace it meanwhile, restart with the new one."""
        for _ in range(RELOADS + 1):
            try:
                model = await self._score_all()
            except ReplacedError as error:
                reason = str(error)
                if self._asked_model is not None:
                    break
                self.counts.rescored += self._scored
            else:
                point, threshold = None, self._threshold
                if self._working_point is not None and threshold is not None:
                    # In float64, in which every received score and threshold is exact.
                    accepted = self._scores.astype(np.float64) > threshold
                    point = WorkingPoint(self._working_point, threshold, accepted)
                return Result(self._scores, model, point, self.counts)
        raise ModelError(f"{self._servers.problems or reason}; {self._remedy()}")

    def describe(self) -> str:
        """Describe the progress of the call, and the last problems."""
        problems = self._servers.problems
        return f"{self._scored} of {len(self._events)} events scored{f'; {problems}' if problems else ''}"

    async def _score_all(self) -> str:
        """Score every part by the model that scores the first, and return its identity; raises ReplacedError."""
        settled: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if self._asked_model is not None:
            settled.set_result(self._asked_model)
        self._scored = 0
        try:
            async with asyncio.TaskGroup() as group:
                for part in self._parts:
                    group.create_task(self._score_part(part, settled))
        except ExceptionGroup as errors:  # those of other parts are alike
            raise errors.exceptions[0] from None
        return settled.result()

    async def _score_part(self, part: Part, settled: asyncio.Future[str]) -> None:
        async with self._slots:
            rows = rows_of(self._events, part)
            reply = await self._reply(rows, part, settled)
        self._scores[part.start : part.stop] = reply.scores
        self._scored += len(rows)
        self._threshold = reply.threshold

    async def _reply(self, rows: NDArray[np.float32], part: Part, settled: asyncio.Future[str]) -> Reply:
        """Score a part by the model of the call, which is that of the first part."""
        replaced: list[ReplacedError] = []
        for attempt in range(self._retries + 1):
            if self._alone:
                break
            index = await self._servers.take(part.number, self._until)
            if index is None:
                break
            self.counts.requests += 1
            self.counts.retries += attempt > 0
            try:
                reply = await self._servers[index].score(rows, part, self._working_point)
            except RetriableError as error:
                wait_s = pause_s(attempt) if error.retry_after_s is None else error.retry_after_s
                self._servers.fails(index, str(error), wait_s)
                continue
            if part.number == 0 and not settled.done():
                settled.set_result(reply.model)
            expected = await asyncio.shield(settled)
            if reply.model == expected:
                self._servers.works(index, reply.model)
                return reply
            replaced.append(ReplacedError(reply.model, expected))
            self._servers.fails(index, str(replaced[-1]), RELOAD_S)
            if len(replaced) == STALE_REPLIES:
                break
        asked_of_fallback = self._fallback is not None and self._asked_model is not None
        if replaced and not asked_of_fallback:
            raise replaced[-1]
        return await self._score_here(rows, part, settled)

    async def _score_here(self, rows: NDArray[np.float32], part: Part, settled: asyncio.Future[str]) -> Reply:
        """Score this and all following parts with the fallback; raises UnavailableError without one."""
        if self._fallback is None:
            raise UnavailableError(
                f"{part} not scored, with {self._retries} retries: {self._servers.problems}; "
                "start a server, name another, or give a fallback"
            )
        self._alone = True
        settles = part.number == 0 and not settled.done()
        expected = self._servers.model if settles else await asyncio.shield(settled)
        reply = await self._fallback.score(rows, expected, self._working_point)
        if settles:
            settled.set_result(reply.model)
        self.counts.local += len(rows)
        return reply

    def _remedy(self) -> str:
        if self._asked_model is not None:
            return f"ask for a model that the servers have, or serve {self._asked_model}"
        return f"the model was replaced {RELOADS + 1} times during the call: repeat it"

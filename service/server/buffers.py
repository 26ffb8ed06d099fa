"""What the connections of a worker hold together: bytes that wait to be parsed, and responses that wait to be taken.

Both are bounded, and both cost little in one iteration of the event loop, whatever one client or a thousand send.
"""

import logging
from asyncio import get_running_loop
from collections import deque
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import Any, Final, NamedTuple, Protocol

from uvicorn.protocols.http.flow_control import FlowControl

logger = logging.getLogger(__name__)

SLICE_BYTES: Final = 1024
"""Bytes that a connection has parsed at once, beside the body that it is known to be sending: most requests in whole,
and no more pipelined requests or chunks of a body than take a fraction of a millisecond."""

SHORT_SLICES: Final = 16
"""The longest message, beside an announced body, that is parsed before the next ones of other connections."""

PARSING_S: Final = 1e-3
"""How long slices are parsed in one iteration of the event loop, on all connections together."""

SLOW_S: Final = 0.1
"""How long a client is given to take a response before it counts as slow."""


class Parsing(Protocol):
    """A connection that holds bytes."""

    def parse_held(self) -> None:
        """Parse a slice of them."""


class ReadAhead:
    """The bytes that were received and wait, and the connections that are each to parse a slice of theirs."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._begun: deque[Parsing] = deque()
        self._others: deque[Parsing] = deque()
        self._scheduled = False
        self.n_bytes = 0

    @property
    def exceeded(self) -> bool:
        """Whether more bytes wait than may."""
        return self.n_bytes > self._max_bytes

    def append(self, connection: Parsing, *, begun: bool = False) -> None:
        """Have a connection parse a slice after those that wait already.

        Every second slice is of the connections in the middle of a short message that has `begun`, so that a message of
        a few slices need not wait as often for all who send one request after another.
        """
        (self._begun if begun else self._others).append(connection)
        if not self._scheduled:
            self._scheduled = True
            get_running_loop().call_soon(self._parse)

    def _parse(self) -> None:
        end_s = perf_counter() + PARSING_S
        try:
            while self._begun or self._others:
                for waiting in (self._begun, self._others):
                    if waiting:
                        waiting.popleft().parse_held()
                if perf_counter() > end_s:
                    break
        finally:
            self._scheduled = bool(self._begun or self._others)
            if self._scheduled:
                get_running_loop().call_soon(self._parse)


class PipelinedRequests:
    """Requests that came before the response to the one before them: a few start in one iteration of the event loop."""

    MAX_STARTED = 8

    def __init__(self) -> None:
        self._starts: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def append(self, start: Callable[[], None]) -> None:
        """Have a request start after those that wait already."""
        self._starts.append(start)
        if not self._scheduled:
            self._scheduled = True
            get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        for _ in range(min(len(self._starts), self.MAX_STARTED)):
            self._starts.popleft()()
        self._scheduled = bool(self._starts)
        if self._scheduled:
            get_running_loop().call_soon(self._start)


class Flow(FlowControl):
    """Flow control of a connection that reads nothing while it holds bytes."""

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        self._holds = self._reads_later = False

    def hold(self) -> None:
        """Read nothing until `release`."""
        if not self._holds:
            self._holds, self._reads_later = True, not self.read_paused
            super().pause_reading()

    def release(self) -> None:
        """Read again, unless reading was paused for another reason."""
        self._holds, reads = False, self._reads_later
        self._reads_later = False
        if reads:
            self.resume_reading()

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""
        self._reads_later = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """Read again, or once the bytes that are held have been parsed."""
        if self._holds:
            self._reads_later = True
        elif self.read_paused:
            super().resume_reading()


class _Response(NamedTuple):
    n_bytes: int
    since_s: float


class UnsentResponses:
    """The responses that clients have not taken, as far as they are long; the slowest client loses its own first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._responses: dict[Any, _Response] = {}
        """What each transport had to send when it was first seen to be behind, by which its rate is measured."""

    def add(self, transport: Any) -> None:
        """Count what `transport` has to send, and close the connections that take theirs most slowly if it is much.

        The last one stays, however long its response is.
        """
        self._responses[transport] = _Response(transport.get_write_buffer_size(), monotonic())
        while (
            len(self._responses) > 1 and sum(one.get_write_buffer_size() for one in self._responses) > self._max_bytes
        ):
            now_s = monotonic()
            slow = {
                one: (response.n_bytes - one.get_write_buffer_size()) / (now_s - response.since_s)
                for one, response in self._responses.items()
                if now_s - response.since_s > SLOW_S
            }
            if not slow:
                return
            slowest = min(slow, key=slow.__getitem__)
            self.remove(slowest)
            slowest.abort()
            logger.warning("response given up", extra={"detail": "its client was the slowest to take one"})

    def remove(self, transport: Any) -> None:
        """Count a response no more."""
        self._responses.pop(transport, None)

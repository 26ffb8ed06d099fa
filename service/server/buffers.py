"""Buffers that the connections of a worker share: bytes that wait to be parsed, and responses that wait to be sent.

Both are bounded, and so is the time that they take in one iteration of the event loop, whatever clients send.
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
"""Bytes that a connection parses at once, besides an announced body: enough for most requests, and no more pipelined
requests or chunks of a body than take a fraction of a millisecond."""

SHORT_SLICES: Final = 16
"""Slices of a message, besides an announced body, that are parsed before the next messages of other connections."""

PARSING_S: Final = 1e-3
"""Maximum time for parsing in one iteration of the event loop, on all connections together."""

SLOW_S: Final = 0.1
"""Seconds after which a client that has not read its response counts as slow."""


class Parsing(Protocol):
    """A connection with received bytes that wait to be parsed."""

    def parse_held(self) -> None:
        """Parse a slice of the held bytes."""


class ReadAhead:
    """The received bytes that wait to be parsed, and the queue of connections that parse a slice each."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._begun: deque[Parsing] = deque()
        self._others: deque[Parsing] = deque()
        self._scheduled = False
        self.n_bytes = 0

    @property
    def exceeded(self) -> bool:
        """Whether more bytes wait than the limit."""
        return self.n_bytes > self._max_bytes

    def append(self, connection: Parsing, *, begun: bool = False) -> None:
        """Queue a connection to parse a slice.

        Connections in the middle of a short message (`begun`) get every second slice, so that a message of a few slices
        waits less for connections with many pipelined requests.
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
    """Pipelined requests whose turn has come: a few start in one iteration of the event loop."""

    MAX_STARTED = 8

    def __init__(self) -> None:
        self._starts: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def append(self, start: Callable[[], None]) -> None:
        """Queue a request to be started."""
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
    """Flow control of a connection that pauses reading while it holds bytes."""

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        self._holds = self._reads_later = False

    def hold(self) -> None:
        """Pause reading until `release`."""
        if not self._holds:
            self._holds, self._reads_later = True, not self.read_paused
            super().pause_reading()

    def release(self) -> None:
        """Resume reading, unless it was paused for another reason."""
        self._holds, reads = False, self._reads_later
        self._reads_later = False
        if reads:
            self.resume_reading()

    def pause_reading(self) -> None:
        """Pause reading until `resume_reading`."""
        self._reads_later = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """Resume reading, after the held bytes have been parsed if there are any."""
        if self._holds:
            self._reads_later = True
        elif self.read_paused:
            super().resume_reading()


class _Response(NamedTuple):
    n_bytes: int
    since_s: float


class UnsentResponses:
    """Long responses that clients have not read yet; over the limit, the connection of the slowest client is closed."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._responses: dict[Any, _Response] = {}
        """The unsent bytes of each transport, and when it was first seen to be behind: its rate follows from both."""

    def add(self, transport: Any) -> None:
        """Count the unsent bytes of `transport`, and close the slowest connections while the total exceeds the limit.

        The last connection stays open, however long its response is.
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
            logger.warning("response abandoned", extra={"detail": "its client was the slowest to read"})

    def remove(self, transport: Any) -> None:
        """Stop counting the response of `transport`."""
        self._responses.pop(transport, None)

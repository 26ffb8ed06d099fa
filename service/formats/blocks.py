"""Batches as they arrive: pieces of a request body in any format -> blocks of finite float32 rows.

A body is read piece by piece, so that the memory it takes does not grow with it, and every row's length is checked. It
does not know routes, where the pieces come from, or what happens to the blocks.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidRequestError, TooManyEventsError
from service.formats import faults

Rows = NDArray[np.float32]

LITTLE_FLOAT32: Final = np.dtype("<f4")

BLOCK_EVENTS: Final = 4096
"""What is scored at once: enough for the runtime, little enough for the cache and for others to have their turn."""

AT_LEAST_ONE: Final = "expected at least 1 event"

EVENT_BYTES: Final = 262_144
EVENT_BYTES_PER_FEATURE: Final = 256
"""One event takes no more in any format: what is wrong with it shows within so many bytes."""

FEW_BYTES: Final = 4096
"""A part of an event that is longer already is not read again for fewer bytes than that."""


class RowReader(ABC):
    """Reads one body. Each block is a view of one buffer, overwritten by the next."""

    def __init__(self, feature_names: Sequence[str], max_events: int | None = None) -> None:
        self._names = feature_names
        self._max_events = sys.maxsize if max_events is None else max_events
        self._block = np.empty((BLOCK_EVENTS, len(feature_names)), np.float32)
        self._filled = 0
        self._read = 0
        self._rest = b""
        self._held = b""
        self.n_bytes = 0

    def feed(self, piece: bytes, last: bool) -> Iterator[Rows]:
        """Give each block (BLOCK_EVENTS, n_features) that `piece` completes, and at the end the rest (n, n_features).

        Raises InvalidRequestError at the first fault, and TooManyEventsError once there are, or are said to be, more
        than the most.
        """
        self._count_bytes(piece, last)
        if self._held or len(self._rest) > FEW_BYTES:
            self._held += piece
            if len(self._held) < FEW_BYTES and not last:
                return
            piece, self._held = self._held, b""
        for given in self._rows(piece, last):
            yield from self._gather(given)
        if last and self._filled:
            yield self._block[: self._filled]

    def _count_bytes(self, piece: bytes, last: bool) -> None:
        self.n_bytes += len(piece)
        if last and not self.n_bytes:
            raise InvalidRequestError(f"the body is empty, {AT_LEAST_ONE}")

    def _check_count(self, n_events: int) -> None:
        if n_events > self._max_events:
            most = self._max_events
            raise TooManyEventsError(
                f"the batch has more than {most} events, expected at most {most}: send smaller batches"
            )

    @abstractmethod
    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Give the rows (n, n_features) of real numbers that `piece` completes."""

    def _gather(self, given: NDArray[Any]) -> Iterator[Rows]:
        """Copy rows (n, n_features) into the block, and give it away whenever it is full."""
        self._check_count(self._read + len(given))
        start = 0
        while start < len(given):
            taken = min(len(given) - start, BLOCK_EVENTS - self._filled)
            rows, place = given[start : start + taken], self._block[self._filled : self._filled + taken]
            with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused, as NaN is
                np.copyto(place, rows, casting="unsafe")
            if not np.isfinite(place).all():
                raise InvalidRequestError(faults.array_fault(rows, place, "events", self._names, self._read))
            start += taken
            self._read += taken
            self._filled += taken
            if self._filled == BLOCK_EVENTS:
                yield self._block
                self._filled = 0


class RawReader(RowReader):
    """Reads little-endian float32 rows."""

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        event_bytes = len(self._names) * LITTLE_FLOAT32.itemsize
        data = self._rest + piece if self._rest else piece
        n_whole = len(data) // event_bytes
        self._rest = data[n_whole * event_bytes :]
        if last:
            whole_events(self.n_bytes, len(self._names), "the body is")
        yield np.frombuffer(data, LITTLE_FLOAT32, n_whole * len(self._names)).reshape(n_whole, len(self._names))


def longest_event(n_features: int) -> int:
    """Tell how many bytes one event may take."""
    return max(EVENT_BYTES, EVENT_BYTES_PER_FEATURE * n_features)


def whole_events(n_bytes: int, n_features: int, found: str) -> int:
    """Tell how many raw events `n_bytes` are; raises InvalidRequestError, starting with `found`, for parts or none."""
    event_bytes = n_features * LITTLE_FLOAT32.itemsize
    if n_bytes % event_bytes:
        raise InvalidRequestError(
            f"{found} {n_bytes} bytes, not a whole number of events of {n_features} float32 ({event_bytes} bytes each)"
        )
    if not n_bytes:
        raise InvalidRequestError(f"events is empty, {AT_LEAST_ONE}")
    return n_bytes // event_bytes

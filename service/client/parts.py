"""A large array as parts, each of which fits into a request."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from service.client.errors import EventsError

ROW = np.dtype("<f4")


class Part(NamedTuple):
    """Consecutive events of a call."""

    number: int
    start: int
    stop: int

    def __str__(self) -> str:
        return f"events[{self.start}:{self.stop}]"

    @property
    def as_sent(self) -> str:
        """Describe the part, with the index by which a server counts its first event."""
        return f"{self}, where {self.start} is its events[0]" if self.start else str(self)


def cut(n_events: int, row_bytes: int, max_events: int, max_bytes: int) -> Iterator[Part]:
    """Cut events into parts in their order, each of at least one event and else within both limits."""
    size = max(1, min(max_events, max_bytes // row_bytes))
    for number, start in enumerate(range(0, n_events, size)):
        yield Part(number, start, min(start + size, n_events))


def as_events(events: ArrayLike) -> NDArray[Any]:
    """Return events as an array (n, n_features) of numbers, which may be a memory-mapped file.

    Raises EventsError for another shape, no events, and anything but real numbers.
    """
    try:
        array = np.asanyarray(events)
    except ValueError as error:  # rows of different lengths
        raise EventsError(f"events are not an array: {error}; give every event the same features") from error
    if array.dtype.kind not in "fiu":
        raise EventsError(f"events are {array.dtype}, expected numbers: convert them with .astype('float32')")
    if array.ndim != 2:
        hint = "; a single event is events[numpy.newaxis]" if array.ndim == 1 else ""
        raise EventsError(f"events have shape {array.shape}, expected (n, n_features){hint}")
    if not array.size:
        raise EventsError(f"events have shape {array.shape}, expected at least one event with one feature")
    return array


def rows_of(events: NDArray[Any], part: Part) -> NDArray[np.float32]:
    """Return a part as contiguous little-endian float32 rows (n, n_features).

    Raises EventsError, naming event and feature, for a number that is not finite in float32.
    """
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(events[part.start : part.stop], ROW)
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        value = events[part.start + row, column]
        raise EventsError(
            f"events[{part.start + row}][{column}] is {value}, expected a number that is finite in float32: "
            "correct the event, or leave it out"
        )
    return rows

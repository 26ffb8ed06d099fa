"""Conversion of arrays and data frames of events to the rows that a model scores."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray


@runtime_checkable
class Frame(Protocol):
    """A data frame with columns by name, such as one of pandas."""

    @property
    def columns(self) -> Iterable[Any]:
        """The names of the columns."""

    def __getitem__(self, names: Any, /) -> Any:
        """Take some columns."""


def as_rows(events: ArrayLike | Frame, names: Sequence[str]) -> NDArray[np.float32]:
    """Convert events to (n, n_features) finite float32; of a frame, take the columns of the features' names.

    An array of float32 in C order is not copied. Raises ValueError, which names the place, the value and the
    expectation.
    """
    given = np.asarray(_columns(events, names) if isinstance(events, Frame) else events)
    if given.dtype.kind not in "iuf":
        raise ValueError(f"events are {given.dtype}, expected real numbers: convert or leave out other values")
    if given.ndim != 2 or given.shape[1] != len(names):
        raise ValueError(
            f"events have the shape {given.shape}, expected (n, {len(names)}), one row an event of {', '.join(names)}; "
            "a single event is [event]"
        )
    with np.errstate(over="ignore"):  # numbers that become infinite are refused below
        rows = np.ascontiguousarray(given, np.float32)
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = (int(place) for place in np.argwhere(~finite)[0])
        raise ValueError(
            f"events[{row}], {names[column]} is {given[row, column]}, expected a finite float32 number: leave events "
            "without a value out"
        )
    return rows


def _columns(frame: Frame, names: Sequence[str]) -> Any:
    found = {str(name) for name in frame.columns}
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"the frame has no column {', '.join(map(repr, missing))}, expected one for each feature: rename them"
        )
    return frame[list(names)]

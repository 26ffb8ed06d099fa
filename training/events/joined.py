"""Concatenation of several tables of a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.events.frame import NUMBER, Frame


@dataclass(frozen=True)
class JoinedFrame(Frame):
    """The concatenated rows of tables, with the columns that all of them have; rows are numbered continuously."""

    _frames: Sequence[Frame]

    @property
    def has_default_index(self) -> bool:
        """Whether the row index of each table is 0, 1, ...; raises EventsError when the file is damaged."""
        return all(frame.has_default_index for frame in self._frames)

    def require(self, columns: Sequence[str]) -> None:
        """Raise EventsError when one of `columns` is missing or not numeric in any table."""
        for frame in self._frames:
            frame.require(columns)

    def _fill(self, values: NDArray[Any], columns: Sequence[str], start: int, stop: int) -> None:
        first = 0
        for frame in self._frames:
            low, high = max(start, first), min(stop, first + frame.rows)
            if low < high:
                values[low - start : high - start] = frame.read(columns, low - first, high - first, values.dtype)
            first += frame.rows


def joined(frames: Sequence[Frame]) -> Frame:
    """Return the concatenation of tables of one file; a single table is returned unchanged."""
    if len(frames) == 1:
        return frames[0]
    shared = [name for name in frames[0].dtypes if all(name in frame.dtypes for frame in frames)]
    dtypes = {name: _common([frame.dtypes[name] for frame in frames]) for name in shared}
    keys, rows = (frame.key or "" for frame in frames), sum(frame.rows for frame in frames)
    return JoinedFrame(frames[0].path, ", ".join(keys), rows, dtypes, frames)


def _common(held: Sequence[str]) -> str:
    """Return the common numeric type of these types, or the first type that is not numeric."""
    other = next((one for one in held if not NUMBER.fullmatch(one)), None)
    return str(np.result_type(*held)) if other is None else other

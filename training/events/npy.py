"""Arrays (n, columns) in .npy files. Columns are numbered, or named if the array is structured."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import EventsError
from training.events.frame import Frame


@dataclass(frozen=True)
class ArrayFrame(Frame):
    """An open array; only the requested rows are read."""

    _array: NDArray[Any]  # (n, columns), or (n,) of named fields

    def _fill(self, values: NDArray[Any], columns: Sequence[str], start: int, stop: int) -> None:
        rows = self._array[start:stop]
        for target, name in enumerate(columns):
            values[:, target] = rows[name] if rows.dtype.names else rows[:, int(name)]


@contextmanager
def open_array(path: Path, key: str | None = None) -> Iterator[ArrayFrame]:
    """Open an .npy file. Raises EventsError if the file is invalid or has no rows, or if a key is given."""
    if key is not None:
        raise EventsError(f"{path}: an .npy file is one array, and has no '{key}'. Leave --key out.")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EventsError(
            f"{path}: cannot be read as .npy: {str(error).rstrip('.')}. Copy it again, or write it anew."
        ) from error
    if array.ndim != (1 if array.dtype.names else 2) or not array.size:
        raise EventsError(f"{path} has shape {array.shape}, expected (n, columns) with at least one event")
    fields = array.dtype.fields
    dtypes = (
        {name: array.dtype[name].name for name in fields}
        if fields
        else dict.fromkeys(map(str, range(array.shape[1])), array.dtype.name)
    )
    yield ArrayFrame(path, None, len(array), dtypes, array)

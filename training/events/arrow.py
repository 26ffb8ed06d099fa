"""Tables that pyarrow reads in batches of rows: the common part of CSV and Parquet."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute

from training.errors import EventsError
from training.events.frame import LISTED, Frame, element

Batches = tuple[Iterator[pa.RecordBatch], int]
"""Consecutive batches, and the index of the first row."""


class Window:
    """Sequential access to the rows of batches: the last batches are kept, and an earlier row restarts the reading."""

    def __init__(self, begin: Callable[[int], Batches]) -> None:
        self._begin = begin
        self._batches, self._first = begin(0)
        self._held: list[pa.RecordBatch] = []

    def rows(self, start: int, stop: int) -> pa.Table:
        """Return the rows start to stop."""
        if start < self._first:
            self._batches, self._first = self._begin(start)
            self._held = []
        while self._held and self._first + len(self._held[0]) <= start:
            self._first += len(self._held.pop(0))
        end = self._first + sum(map(len, self._held))
        while end < stop:
            batch = next(self._batches)
            end += len(batch)
            if end > start:
                self._held.append(batch)
            else:
                self._first = end
        return pa.Table.from_batches(self._held).slice(start - self._first, stop - start)


@dataclass(frozen=True)
class ArrowFrame(Frame):
    """An open table of Arrow columns."""

    @abstractmethod
    def _table(self, columns: Sequence[str], start: int, stop: int) -> pa.Table:
        """Return the rows start to stop with at least the named columns."""

    def _fill(self, values: NDArray[Any], columns: Sequence[str], start: int, stop: int) -> None:
        places = [(name, ()) if name in self.dtypes else element(name) for name in columns]
        with explained(self.path, f"rows {start} to {stop - 1}"):
            table = self._table(list(dict.fromkeys(column for column, _ in places)), start, stop)
            for target, (column, indices) in enumerate(places):
                found = table.column(column)
                for index in indices:
                    found = _element(found, index)
                self._require_complete(found, values.dtype, columns[target], start)
                values[:, target] = compute.cast(found, pa.uint8()) if pa.types.is_boolean(found.type) else found

    def _require_complete(self, found: pa.ChunkedArray, dtype: np.dtype[Any], column: str, start: int) -> None:
        """Raise EventsError for a missing value in an integer column, which cannot hold NaN."""
        if found.null_count and dtype.kind != "f":
            row = start + compute.index(compute.is_null(found), True).as_py()
            raise EventsError(
                f"{self.path}: row {row} of {self.place}, column '{column}', has no value, expected a whole number. "
                "Correct or drop the row."
            )


def dtypes_of(schema: pa.Schema) -> dict[str, str]:
    """Return the type of each column; for numbers, the name of the NumPy dtype."""
    return {field.name: _dtype(field.type) for field in schema}


def _dtype(stored: pa.DataType) -> str:
    if pa.types.is_list(stored) or pa.types.is_large_list(stored) or pa.types.is_fixed_size_list(stored):
        return _dtype(stored.value_type) + LISTED
    if pa.types.is_integer(stored) or pa.types.is_floating(stored) or pa.types.is_boolean(stored):
        return str(np.dtype(stored.to_pandas_dtype()))
    return str(stored)


def _element(lists: pa.ChunkedArray, index: int) -> pa.ChunkedArray:
    """Return an element of each list, or 0 (or an empty list) where the list is shorter."""
    if pa.types.is_fixed_size_list(lists.type):
        lists = compute.cast(lists, pa.list_(lists.type.value_type))
    long = compute.fill_null(compute.greater(compute.list_value_length(lists), index), False)
    found = compute.list_element(compute.if_else(long, lists, None), index)
    return found if pa.types.is_nested(found.type) else compute.if_else(long, found, pa.scalar(0, found.type))


@contextmanager
def explained(path: Path, place: str) -> Iterator[None]:
    """Convert errors of pyarrow for damaged or unexpected content to an EventsError that names the place."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, StopIteration) as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise EventsError(
            f"{path}: cannot read {place}: {reason}. It is damaged or of another format: copy it again, or write it "
            "anew."
        ) from error

"""The interface to a table in a file of any format: columns are read by name, rows by range."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from training.errors import EventsError

NUMBER = re.compile(r"(float|int|uint)\d+|bool")
PARTICLE_COLUMNS = 1000  # at least, all with numbers as names: published particle-level files have 2100
LISTED = "[]"  # suffix of the type of a column of lists: float32[], or float32[][] for lists of lists
_ELEMENT = re.compile(r"(.+?)((?:\[\d+\])+)")
_INDEX = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True)
class Frame(ABC):
    """An open table with at least one row. `dtypes` maps the column names, in order, to their types.

    Names are strings: integer names, and columns without a name, become "0", "1", ... An element of a column of lists
    is read by its index, such as `Jet.PT[0]`, and is 0 in rows whose list is shorter, because missing objects are 0
    in the published files.
    """

    path: Path
    key: str | None  # the table in a file that can hold several
    rows: int
    dtypes: dict[str, str]

    @property
    def place(self) -> str:
        """The name of the table in messages."""
        return "the table" if self.key is None else f"'{self.key}'"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(self.dtypes)

    @property
    def has_default_index(self) -> bool:
        """Whether the row index is 0, 1, ...; raises EventsError when the file is damaged."""
        return True

    def is_numeric(self, column: str) -> bool:
        """Return whether a column holds numbers or booleans."""
        return NUMBER.fullmatch(self.dtypes[column]) is not None

    def dtype(self, column: str) -> np.dtype[Any]:
        """Return the stored dtype of a numeric column, or of an element of a column of lists."""
        stored = self.dtypes[column] if column in self.dtypes else self.dtypes[element(column)[0]]
        return np.dtype(stored.replace(LISTED, ""))

    def read(
        self, columns: Sequence[str], start: int = 0, stop: int | None = None, dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """Return the named columns of the rows start to stop, (stop - start, len(columns)) in a numeric `dtype`.

        A value beyond the range of a floating `dtype` becomes infinite, and a missing value NaN. Raises EventsError
        when a column is missing or not numeric, when the file is damaged, and when the rows do not fit in memory.
        """
        self.require(columns)
        start, stop, _ = slice(start, stop).indices(self.rows)
        values = self._allocate((max(0, stop - start), len(columns)), np.dtype(dtype))
        if values.size:
            with np.errstate(over="ignore"):
                self._fill(values, columns, start, stop)
        return values

    @abstractmethod
    def _fill(self, values: NDArray[Any], columns: Sequence[str], start: int, stop: int) -> None:
        """Fill values (stop - start, len(columns)) with the named columns, which exist and are numeric."""

    def require(self, columns: Sequence[str]) -> None:
        """Raise EventsError when one of `columns` is missing or is not numeric."""
        missing = [name for name in columns if name not in self.dtypes and element(name)[0] not in self.dtypes]
        if missing:
            raise EventsError(
                f"{self.path}: {self.place} has no column {listed(missing)}{_hint(missing, self.columns)}. "
                f"It has {listed(self.columns)}: name the right ones with --columns."
            )
        for name in columns:
            column, indices = (name, ()) if name in self.dtypes else element(name)
            held = self.dtypes[column]
            number, depth = held.replace(LISTED, ""), held.count(LISTED)
            if NUMBER.fullmatch(number) and depth == len(indices):
                continue
            remedy = "Convert it to floats or integers and write the file again."
            if NUMBER.fullmatch(number):
                remedy = f"Name '{column}{'[0]' * depth}' with --columns."
            raise EventsError(f"{self.path}: column '{name}' of {self.place} holds {held}, expected numbers. {remedy}")

    def _allocate(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
        try:
            return np.empty(shape, dtype)
        except MemoryError:
            raise EventsError(
                f"{self.path}: {shape[0]:,} rows need {math.prod(shape) * dtype.itemsize / 1e9:.1f} GB, more memory "
                "than there is. Use fewer rows."
            ) from None


def element(name: str) -> tuple[str, tuple[int, ...]]:
    """Return the column and the indices of an element such as `Jet.PT[0]`; a column's name has no indices."""
    found = _ELEMENT.fullmatch(name)
    return (name, ()) if found is None else (found[1], tuple(map(int, _INDEX.findall(found[2]))))


def listed(names: Iterable[str]) -> str:
    """Join names for a message; a long list is shortened in the middle."""
    names = [f"'{name}'" for name in names]
    if len(names) > 40:
        names = [*names[:3], f"... ({len(names) - 4} more)", names[-1]]
    return ", ".join(names)


def _hint(missing: Sequence[str], present: Sequence[str]) -> str:
    """Return a hint: a column whose name differs only in case and punctuation, or the likely kind of the file."""
    by_letters = {_letters(name): name for name in present}
    similar = next((by_letters[_letters(name)] for name in missing if _letters(name) in by_letters), None)
    if not similar and len(present) >= PARTICLE_COLUMNS and all(map(str.isdecimal, present)):
        return " (it looks like a particle-level file: `features` makes an events file of it)"
    return f" (did you mean '{similar}'?)" if similar else ""


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())

"""Tables in HDF5 files that pandas did not write: arrays, records, and groups with a dataset for each column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import h5py
import numpy as np
from numpy.typing import NDArray

from training.events.frame import NUMBER
from training.events.pandas_layouts import Block, Source, Table


@dataclass(frozen=True)
class Column:
    """A dataset (rows,) that holds one column."""

    dataset: h5py.Dataset
    positions: dict[str, int]  # has only the column's name
    rows_axis: ClassVar[int] = 0

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.dataset)

    def read(self, columns: Sequence[str], start: int, stop: int) -> NDArray[Any]:
        """Return the rows start to stop, (stop - start, len(columns))."""
        return np.column_stack([self.dataset[start:stop]] * len(columns))


def _find_numbered(dataset: h5py.Dataset) -> tuple[dict[str, str], list[Source]]:
    """Return the numbered columns of an array (rows, columns)."""
    names = list(map(str, range(dataset.shape[1])))
    return dict.fromkeys(names, dataset.dtype.name), [Block(dataset, {name: int(name) for name in names}, 0)]


def _find_records(dataset: h5py.Dataset) -> tuple[dict[str, str], list[Source]]:
    """Return the fields of records (rows,)."""
    dtypes = {name: dataset.dtype[name].name for name in dataset.dtype.names}
    return dtypes, [Table(dataset, {name: (name, 0) for name in dtypes if NUMBER.fullmatch(dtypes[name])})]


def _find_columns(group: h5py.Group) -> tuple[dict[str, str], list[Source]]:
    """Return the datasets of a group that are columns."""
    columns = _columns(group)
    dtypes = {name: one.dtype.name for name, one in columns.items()}
    return dtypes, [Column(one, {name: 0}) for name, one in columns.items()]


def _columns(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return the columns that a group holds itself, without links, whose targets may be missing."""
    held = [name for name in group if isinstance(group.get(name, getlink=True), h5py.HardLink)]
    return {name: one for name in held if isinstance(one := group[name], h5py.Dataset) and _is_column(one)}


def _is_column(dataset: h5py.Dataset) -> bool:
    return dataset.ndim == 1 and _holds_numbers(dataset)


def _holds_numbers(dataset: h5py.Dataset) -> bool:
    return NUMBER.fullmatch(dataset.dtype.name) is not None


# Layout -> function that returns the columns of a node.
DATASETS: dict[str, Callable[[Any], tuple[dict[str, str], list[Source]]]] = {
    "array": _find_numbered,
    "records": _find_records,
    "columns": _find_columns,
}


def dataset_layout(node: h5py.Group | h5py.Dataset) -> str | None:
    """Return the layout of a node, a key of DATASETS, or None. A group needs at least two columns of equal length."""
    if isinstance(node, h5py.Group):
        columns = _columns(node)
        return "columns" if len(columns) > 1 and len({len(one) for one in columns.values()}) == 1 else None
    if node.ndim == 1 and node.dtype.names:
        return "records"
    return "array" if node.ndim == 2 and _holds_numbers(node) else None

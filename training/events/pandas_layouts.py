"""The two layouts of pandas DataFrames in HDF5, fixed and table.

Column names stored as a pickle are parsed as text: nothing is ever unpickled.
"""

import math
import pickletools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from training.events.frame import NUMBER, listed

# Types that pandas stores as integers, with the type in an attribute.
_DISGUISED = re.compile(r"datetime|timedelta|period|category")
# A list of strings and integers in pickle protocol 0: the format of a table's column names.
_PICKLED_LIST = re.compile(rb"\(lp\d+\n(?:(?:V[^\n]*\np\d+|I-?\d+)\na)*\.")
_PICKLED_NAME = re.compile(rb"[VI]([^\n]*)\n(?:p\d+\n)?a")
# The same in later protocols, in an array of objects: the format of a fixed frame's column names if some are integers.
_NAME_OPCODES = {"SHORT_BINUNICODE", "BINUNICODE", "BININT", "BININT1", "BININT2"}
_LIST_OPCODES = {"MEMOIZE", "BINPUT", "LONG_BINPUT", "MARK", "APPEND", "APPENDS"}


@dataclass(frozen=True)
class Block:
    """Columns of one dtype in a dataset, (rows, columns) or (columns, rows); `positions` maps a column to its index."""

    dataset: h5py.Dataset
    positions: dict[str, int]
    rows_axis: int

    @property
    def rows(self) -> int:
        """Number of rows. pandas stores an empty block as a placeholder, with the true shape in an attribute."""
        return 0 if "shape" in self.dataset.attrs else int(self.dataset.shape[self.rows_axis])

    def read(self, columns: Sequence[str], start: int, stop: int) -> NDArray[Any]:
        """Return the named columns of the rows start to stop, (stop - start, len(columns))."""
        positions = [self.positions[name] for name in columns]
        # One slab, because reading column by column decompresses each chunk again.
        low, high = min(positions), max(positions) + 1
        slab = self.dataset[low:high, start:stop].T if self.rows_axis else self.dataset[start:stop, low:high]
        values: NDArray[Any] = slab[:, span([position - low for position in positions])]
        return values


@dataclass(frozen=True)
class Table:
    """Rows of named fields, each of one or several columns; `positions` maps a column to its field and index there."""

    dataset: h5py.Dataset
    positions: dict[str, tuple[str, int]]
    rows_axis: ClassVar[int] = 0

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.dataset)

    def read(self, columns: Sequence[str], start: int, stop: int) -> NDArray[Any]:
        """Return the named columns of the rows start to stop, (stop - start, len(columns))."""
        records = self.dataset[start:stop]  # whole rows, for the same reason
        fields = [self.positions[name] for name in columns]
        return np.column_stack([records[field].reshape(len(records), -1)[:, position] for field, position in fields])


class Source(Protocol):
    """Columns in a dataset that can be read by ranges of rows."""

    @property
    def dataset(self) -> h5py.Dataset:
        """The dataset that holds the columns."""

    @property
    def positions(self) -> Mapping[str, Any]:
        """The columns and their positions in the dataset."""

    @property
    def rows_axis(self) -> int:
        """Axis of the rows in the dataset."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    def read(self, columns: Sequence[str], start: int, stop: int) -> NDArray[Any]:
        """Return the named columns of the rows start to stop, (stop - start, len(columns))."""


def _find_blocks(group: h5py.Group) -> tuple[dict[str, str], list[Source]]:
    """Return the type of each column of a fixed layout, and the blocks with the numeric columns."""
    dtypes: dict[str, str] = {}
    blocks: list[Source] = []
    for number in range(group.attrs["nblocks"]):
        dataset, names = _dataset(group, f"block{number}_values"), _names(group, f"block{number}_items")
        dtype = _dtype_name(dataset.dtype, dataset.attrs.get("value_type"))
        dtypes |= dict.fromkeys(names, dtype)
        if NUMBER.fullmatch(dtype):
            rows_axis = 0 if dataset.attrs.get("transposed") else 1
            block = Block(dataset, {name: place for place, name in enumerate(names)}, rows_axis)
            blocks.append(block)
            if dataset.ndim != 2 or (block.rows and dataset.shape[1 - rows_axis] != len(names)):
                raise ValueError(f"block{number}_values has the shape {dataset.shape} for the columns {listed(names)}")
    order = _names(group, "axis0")
    if sorted(order) != sorted(dtypes):
        raise ValueError(f"axis0 lists the columns {listed(order)}, but its blocks hold {listed(dtypes)}")
    return {name: dtypes[name] for name in order}, blocks


def _find_fields(group: h5py.Group) -> tuple[dict[str, str], list[Source]]:
    """Return the type of each column of a table layout, and the table as the only source."""
    dataset = _dataset(group, "table")
    dtypes: dict[str, str] = {}
    positions: dict[str, tuple[str, int]] = {}
    for field in dataset.dtype.names:
        if field == "index":
            continue
        stored = dataset.dtype[field]
        names = _pickled_list(dataset.attrs[f"{field}_kind"])
        if math.prod(stored.shape) != len(names):
            raise ValueError(f"the field {field} has the shape {stored.shape} for the columns {listed(names)}")
        if repeated := dtypes.keys() & names:
            raise ValueError(f"it has more than one column {listed(repeated)}")
        said = [dataset.attrs.get(f"{field}_{about}") for about in ("meta", "dtype")]
        dtypes |= dict.fromkeys(names, _dtype_name(stored.base, *said))
        positions |= {name: (field, position) for position, name in enumerate(names)}
    return dtypes, [Table(dataset, positions)]


# pandas_type of a group -> function that returns its columns; raises KeyError, TypeError or ValueError if inconsistent.
LAYOUTS: dict[str, Callable[[h5py.Group], tuple[dict[str, str], list[Source]]]] = {
    "frame": _find_blocks,
    "frame_table": _find_fields,
}


def require_stored(dataset: h5py.Dataset) -> None:
    """Raise ValueError when a dataset claims rows that are not in the file, which HDF5 would read as zeros."""
    if dataset.chunks:
        chunks = math.prod(-(-size // step) for size, step in zip(dataset.shape, dataset.chunks, strict=True))
        if dataset.id.get_num_chunks() < chunks:
            raise ValueError(
                f"{dataset.name} claims {dataset.shape[0]:,} rows, but has {dataset.id.get_num_chunks():,} of their "
                f"{chunks:,} chunks"
            )
    elif dataset.id.get_storage_size() < dataset.nbytes:
        raise ValueError(f"{dataset.name} claims {dataset.nbytes:,} bytes, but has {dataset.id.get_storage_size():,}")


def has_default_index(group: h5py.Group, rows: int) -> bool:
    """Return whether a DataFrame's row index is 0, 1, ..., judged by its first and last entry.

    A table stores the levels of a MultiIndex as columns.
    """
    node = group.get("table", group.get("axis1"))
    if node is None:
        return False
    first, last = ((entry["index"] if node.dtype.names else entry) for entry in (node[0], node[rows - 1]))
    return np.issubdtype(np.result_type(first), np.integer) and (first, last) == (0, rows - 1)


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset):
        raise TypeError(f"{name} is not a dataset")
    return dataset


def _names(group: h5py.Group, key: str) -> list[str]:
    items = _dataset(group, key)
    if h5py.check_string_dtype(items.dtype):
        return [str(name) for name in items.asstr("utf-8")[:]]
    if items.dtype.kind in "iu":
        return [str(name) for name in items[:]]
    if h5py.check_vlen_dtype(items.dtype) == np.uint8 and items.shape == (1,):
        return _pickled_array(bytes(items[0]))
    raise ValueError(f"{key} holds column names as {items.dtype}, expected strings or integers")


def _pickled_list(pickled: object) -> list[str]:
    if not isinstance(pickled, bytes) or not _PICKLED_LIST.fullmatch(pickled):
        raise ValueError("column names are not a list of strings or integers; other pickles are never opened")
    return [name.decode("raw_unicode_escape") for name in _PICKLED_NAME.findall(pickled)]


def _pickled_array(pickled: bytes) -> list[str]:
    """Return the names in the only list of a pickled array of objects; opcodes are read, not executed."""
    opcodes = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(pickled)]
    starts = [place for place, (name, _) in enumerate(opcodes) if name == "EMPTY_LIST"]
    listing = opcodes[starts[0] + 1 :] if len(starts) == 1 else []
    ends = [place for place, (name, _) in enumerate(listing) if name not in _NAME_OPCODES | _LIST_OPCODES]
    if not ends or [name for name, _ in listing[ends[0] :] if name != "MEMOIZE"] != ["TUPLE", "BUILD", "STOP"]:
        raise ValueError("column names are not a list of strings or integers; other pickles are never opened")
    return [str(argument) for name, argument in listing[: ends[0]] if name in _NAME_OPCODES]


def _dtype_name(stored: np.dtype[Any], *said: object) -> str:
    disguise = next((found for found in map(text, said) if _DISGUISED.match(found)), None)
    return disguise or stored.name


def span(indices: Sequence[int]) -> slice | list[int]:
    """Return consecutive indices as a slice, with which NumPy makes no copy."""
    first, last = indices[0], indices[-1]
    consecutive = list(indices) == list(range(first, last + 1))
    return slice(first, last + 1) if consecutive else list(indices)


def text(attribute: object) -> str:
    """Return an attribute as text, or an empty string if it is not text."""
    if isinstance(attribute, bytes):
        return attribute.decode(errors="replace")
    return attribute if isinstance(attribute, str) else ""

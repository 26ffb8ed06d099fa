"""pandas DataFrames in HDF5 files, read through h5py.

Does not know pandas, PyTables or pickle: column names that a file holds as a pickle are recognised as text, and nothing
is ever unpickled. Does not know what the columns mean, nor how a file is written (see `training.events.hdf5_writer`).
"""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import h5py
import hdf5plugin  # noqa: F401  registers Blosc, the compression of the published files
import numpy as np
from numpy.typing import DTypeLike, NDArray

from training.errors import EventsError

_SLAB_BYTES = 8 << 20  # read at a time: enough to be fast, little beside the result
_CHUNK_CACHE_BYTES = 16 << 20  # neighbouring reads do not decompress the same chunk twice

_NUMBER = re.compile(r"(float|int|uint)\d+|bool")
# What pandas keeps behind plain integers, naming it in an attribute beside them.
_DISGUISED = re.compile(r"datetime|timedelta|period|category")
# A list of strings and integers as pickle protocol 0 spells it: the only pickle that column names come in.
_PICKLED_LIST = re.compile(rb"\(lp\d+\n(?:(?:V[^\n]*\np\d+|I-?\d+)\na)*\.")
_PICKLED_NAME = re.compile(rb"[VI]([^\n]*)\n(?:p\d+\n)?a")


@dataclass(frozen=True)
class _Block:
    """Columns of one dtype in a dataset, (rows, columns) or (columns, rows): `positions` maps a column to its place."""

    dataset: h5py.Dataset
    positions: dict[str, int]
    rows_axis: int

    @property
    def rows(self) -> int:
        # pandas stores an empty block as a placeholder, with the true shape in an attribute.
        return 0 if "shape" in self.dataset.attrs else int(self.dataset.shape[self.rows_axis])

    def read(self, columns: Sequence[str], start: int, stop: int) -> NDArray[Any]:
        positions = [self.positions[name] for name in columns]
        low, high = min(positions), max(positions) + 1  # one slab: column by column, each chunk is decompressed anew
        slab = self.dataset[low:high, start:stop].T if self.rows_axis else self.dataset[start:stop, low:high]
        values: NDArray[Any] = slab[:, _span([position - low for position in positions])]
        return values


@dataclass(frozen=True)
class _Table:
    """Rows of named fields, each of one or several columns: `positions` maps a column to its field and place there."""

    dataset: h5py.Dataset
    positions: dict[str, tuple[str, int]]
    rows_axis: ClassVar[int] = 0

    @property
    def rows(self) -> int:
        return len(self.dataset)

    def read(self, columns: Sequence[str], start: int, stop: int) -> NDArray[Any]:
        records = self.dataset[start:stop]  # whole rows, for the same reason
        fields = [self.positions[name] for name in columns]
        return np.column_stack([records[field].reshape(len(records), -1)[:, position] for field, position in fields])


@dataclass(frozen=True)
class Frame:
    """An open DataFrame of at least one row: `dtypes` maps its columns' names, in order, to what each holds.

    Names are strings: pandas' integer names become "0", "1", ...
    """

    path: Path
    key: str
    rows: int
    dtypes: dict[str, str]
    _sources: Sequence[_Block | _Table]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(self.dtypes)

    def read(
        self, columns: Sequence[str], start: int = 0, stop: int | None = None, dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """Return the named columns of the rows start to stop, (stop - start, len(columns)) in a floating `dtype`.

        A value beyond the range of `dtype` becomes infinite. Raises EventsError when a column is missing or is not
        numeric, or when the file is damaged.
        """
        self._require(columns)
        start, stop, _ = slice(start, stop).indices(self.rows)
        values = np.empty((max(0, stop - start), len(columns)), dtype)
        for source in self._sources:
            targets = [target for target, name in enumerate(columns) if name in source.positions]
            if not targets:
                continue
            names = [columns[target] for target in targets]
            step = _rows_per_slab(source)
            for first in range(start, stop, step):
                last = min(first + step, stop)
                with _explained(self.path, f"rows {first} to {last - 1} of '{source.dataset.name}'", source.dataset):
                    slab = source.read(names, first, last)
                with np.errstate(over="ignore"):
                    values[first - start : last - start, _span(targets)] = slab
        return values

    def chunks(
        self, columns: Sequence[str], rows_per_chunk: int, dtype: DTypeLike = np.float64
    ) -> Iterator[NDArray[Any]]:
        """Yield the named columns of all rows, (at most rows_per_chunk, len(columns)) at a time, as `read` does."""
        for start in range(0, self.rows, rows_per_chunk):
            yield self.read(columns, start, start + rows_per_chunk, dtype)

    def _require(self, columns: Sequence[str]) -> None:
        missing = [name for name in columns if name not in self.dtypes]
        if missing:
            raise EventsError(
                f"{self.path}: '{self.key}' has no column {_listed(missing)}{_hint(missing, self.columns)}. "
                f"It has {_listed(self.columns)}."
            )
        for name in columns:
            if not _NUMBER.fullmatch(self.dtypes[name]):
                raise EventsError(
                    f"{self.path}: column '{name}' of '{self.key}' holds {self.dtypes[name]}, expected numbers. "
                    "Convert it to floats or integers and write the file again."
                )


@contextmanager
def open_frame(path: str | Path, key: str | None = None) -> Iterator[Frame]:
    """Open the DataFrame at `key`, or the file's only one, for as long as the context lasts.

    Raises EventsError when the file is missing, is not HDF5 or is damaged, when it holds no DataFrame or when no key
    chooses among several, and when the DataFrame has no rows or contradicts itself.
    """
    path = Path(path)
    with _open_file(path) as file:
        with _explained(path, "its list of groups"):
            layouts, contents = _pandas_layouts(file), list(file)
        key = _chosen(path, layouts, contents, key)
        with _explained(path, f"'{key}'"):
            dtypes, sources = _FIND[layouts[key]](file[key])
            rows = {source.rows for source in sources}
            if len(rows) > 1:
                raise ValueError(f"its blocks have different numbers of rows: {sorted(rows)}")
        if not any(rows):
            what = "rows" if sources else "numeric columns"
            raise EventsError(f"{path}: '{key}' has no {what}, expected events. Check how the file was written.")
        yield Frame(path, key, rows.pop(), dtypes, sources)


def _open_file(path: Path) -> h5py.File:
    if not path.exists():
        raise EventsError(f"{path}: there is no such file. Check the path.")
    if not path.is_file():
        raise EventsError(f"{path}: is not a file, expected an HDF5 file as DataFrame.to_hdf writes it.")
    try:
        return h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
    except OSError as error:
        if "signature not found" in str(error):
            raise EventsError(f"{path}: is not HDF5, expected a file as DataFrame.to_hdf writes it.") from error
        refused = error.errno is not None  # by the system: missing permission, or locked by its writer
        remedy = "See that you may read it now." if refused else "It is incomplete or damaged: copy it again."
        raise EventsError(f"{path}: cannot be opened: {error}. {remedy}") from error


def _pandas_layouts(file: h5py.File) -> dict[str, str]:
    """Map the path of every pandas object in the file to its layout, such as 'frame' or 'series'."""
    layouts = {}

    def note(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Group) and "pandas_type" in node.attrs:
            layouts["/" + name] = _text(node.attrs["pandas_type"])

    file.visititems(note)
    return layouts


def _chosen(path: Path, layouts: dict[str, str], contents: list[str], key: str | None) -> str:
    frames = [name for name, layout in layouts.items() if layout in _FIND]
    if key is not None:
        key = "/" + key.strip("/")
        if key not in frames:
            what = f"is a pandas {layouts[key]}, expected a frame" if key in layouts else "is not a DataFrame"
            raise EventsError(
                f"{path}: '{key}' {what}. Choose another with --key: {_listed(frames) or 'there is none'}."
            )
        return key
    if not frames:
        held = ", ".join(f"'{name}' ({layout})" for name, layout in layouts.items()) or _listed(contents) or "nothing"
        raise EventsError(f"{path}: holds no pandas DataFrame but {held}. Write one with DataFrame.to_hdf.")
    if len(frames) > 1:
        raise EventsError(f"{path}: holds several DataFrames: {_listed(frames)}. Choose one with --key.")
    return frames[0]


def _find_blocks(group: h5py.Group) -> tuple[dict[str, str], list[_Block | _Table]]:
    """Return what each column of a fixed layout holds, and the blocks with the numeric ones."""
    dtypes: dict[str, str] = {}
    blocks: list[_Block | _Table] = []
    for number in range(group.attrs["nblocks"]):
        dataset, names = _dataset(group, f"block{number}_values"), _names(group, f"block{number}_items")
        dtype = _dtype_name(dataset.dtype, dataset.attrs.get("value_type"))
        dtypes |= dict.fromkeys(names, dtype)
        if _NUMBER.fullmatch(dtype):
            rows_axis = 0 if dataset.attrs.get("transposed") else 1
            block = _Block(dataset, {name: place for place, name in enumerate(names)}, rows_axis)
            blocks.append(block)
            if dataset.ndim != 2 or (block.rows and dataset.shape[1 - rows_axis] != len(names)):
                raise ValueError(f"block{number}_values has the shape {dataset.shape} for the columns {_listed(names)}")
    order = _names(group, "axis0")
    if sorted(order) != sorted(dtypes):
        raise ValueError(f"axis0 lists the columns {_listed(order)}, but its blocks hold {_listed(dtypes)}")
    return {name: dtypes[name] for name in order}, blocks


def _find_fields(group: h5py.Group) -> tuple[dict[str, str], list[_Block | _Table]]:
    """Return what each column of a table layout holds, and its table as the one source."""
    dataset = _dataset(group, "table")
    dtypes: dict[str, str] = {}
    positions: dict[str, tuple[str, int]] = {}
    for field in dataset.dtype.names:
        if field == "index":
            continue
        stored = dataset.dtype[field]
        names = _pickled_names(dataset.attrs[f"{field}_kind"])
        if math.prod(stored.shape) != len(names):
            raise ValueError(f"the field {field} has the shape {stored.shape} for the columns {_listed(names)}")
        if repeated := dtypes.keys() & names:
            raise ValueError(f"it has more than one column {_listed(repeated)}")
        said = [dataset.attrs.get(f"{field}_{about}") for about in ("meta", "dtype")]
        dtypes |= dict.fromkeys(names, _dtype_name(stored.base, *said))
        positions |= {name: (field, position) for position, name in enumerate(names)}
    return dtypes, [_Table(dataset, positions)]


_FIND = {"frame": _find_blocks, "frame_table": _find_fields}


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
    raise ValueError(f"{key} holds column names as {items.dtype}, expected strings or integers")


def _pickled_names(pickled: object) -> list[str]:
    if not isinstance(pickled, bytes) or not _PICKLED_LIST.fullmatch(pickled):
        raise ValueError("column names are not a list of strings or integers; other pickles are never opened")
    return [name.decode("raw_unicode_escape") for name in _PICKLED_NAME.findall(pickled)]


def _dtype_name(stored: np.dtype[Any], *said: object) -> str:
    disguise = next((text for text in map(_text, said) if _DISGUISED.match(text)), None)
    return disguise or stored.name


def _rows_per_slab(source: _Block | _Table) -> int:
    dataset = source.dataset
    row_bytes = dataset.dtype.itemsize * math.prod(dataset.shape) // source.rows
    rows_per_chunk = int(dataset.chunks[source.rows_axis]) if dataset.chunks else 1
    return rows_per_chunk * max(1, _SLAB_BYTES // int(row_bytes * rows_per_chunk))


def _span(indices: Sequence[int]) -> slice | list[int]:
    """Return consecutive indices as a slice, by which NumPy copies nothing."""
    first, last = indices[0], indices[-1]
    consecutive = list(indices) == list(range(first, last + 1))
    return slice(first, last + 1) if consecutive else list(indices)


def _text(attribute: object) -> str:
    if isinstance(attribute, bytes):
        return attribute.decode(errors="replace")
    return attribute if isinstance(attribute, str) else ""


def _listed(names: Iterable[str]) -> str:
    """Join names for a message, the middle left out where there are very many."""
    names = [f"'{name}'" for name in names]
    if len(names) > 40:
        names = [*names[:3], f"... ({len(names) - 4} more)", names[-1]]
    return ", ".join(names)


def _hint(missing: Sequence[str], present: Sequence[str]) -> str:
    by_folded = {name.casefold(): name for name in present}
    for name in missing:
        if match := difflib.get_close_matches(name.casefold(), by_folded, n=1):
            return f" (did you mean '{by_folded[match[0]]}'?)"
    return ""


@contextmanager
def _explained(path: Path, place: str, dataset: h5py.Dataset | None = None) -> Iterator[None]:
    """Turn what h5py raises for damaged or unexpected content into an EventsError that says where and what to do."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        remedy = "It is damaged or in no layout known here: copy it again, or write it anew with DataFrame.to_hdf."
        if dataset is not None and (filters := _missing_filters(dataset)):
            remedy = f"It is compressed with {filters}, which this HDF5 lacks: write it anew with complib='zlib'."
        raise EventsError(f"{path}: cannot read {place}: {error}. {remedy}") from error


def _missing_filters(dataset: h5py.Dataset) -> str:
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(place) for place in range(properties.get_nfilters())]
    return ", ".join(f"filter {code} ({_text(name)})" for code, *_, name in filters if not h5py.h5z.filter_avail(code))

"""Tables in HDF5 files, read with h5py: pandas DataFrames, or other datasets if there are none."""

import errno
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers Blosc, the compression of the published files
from numpy.typing import NDArray

from training.errors import EventsError, explained
from training.events.frame import Frame, listed
from training.events.hdf5_datasets import DATASETS, dataset_layout
from training.events.pandas_layouts import (
    LAYOUTS,
    Source,
    has_default_index,
    require_stored,
    span,
    text,
)
from training.events.readers import READERS

_FINDERS = LAYOUTS | DATASETS
_SLAB_BYTES = 8 << 20  # read at a time: large enough to be fast, small compared with the result
_CHUNK_CACHE_BYTES = 16 << 20  # so that consecutive reads do not decompress the same chunk twice


@dataclass(frozen=True)
class Hdf5Frame(Frame):
    """An open pandas DataFrame, or another table of datasets."""

    _node: h5py.Group | h5py.Dataset
    _sources: Sequence[Source]
    _by_pandas: bool

    @property
    def has_default_index(self) -> bool:
        """Whether the row index is 0, 1, ...; raises EventsError when the file is damaged."""
        with _explained(self.path, f"the row index of {self.place}"):
            return not self._by_pandas or has_default_index(self._node, self.rows)

    def _fill(self, values: NDArray[Any], columns: Sequence[str], start: int, stop: int) -> None:
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
                values[first - start : last - start, span(targets)] = slab


@contextmanager
def open_hdf5(path: Path, key: str | None = None) -> Iterator[Hdf5Frame]:
    """Open the DataFrame at `key`, or the only one in the file, while the context lasts.

    If there is no DataFrame, an array (rows, columns), records, or a group of columns is read instead. Raises
    EventsError when the file is not HDF5 or is damaged, when it has no table, when it has several and no key is given,
    and when the table has no rows or is inconsistent.
    """
    with _open_file(path) as file:
        key = None if key is None else "/" + key.strip("/")
        with _explained(path, "its list of groups" if key is None else f"'{key}'"):
            layouts, contents = _pandas_layouts(file, key) or _dataset_layouts(file), list(file)
        key = _chosen(path, layouts, contents, key)
        with _explained(path, f"'{key}'"):
            dtypes, sources = _FINDERS[layouts[key]](file[key])
            rows = {source.rows for source in sources}
            if len(rows) > 1:
                raise ValueError(f"its blocks have different numbers of rows: {sorted(rows)}")
            if any(rows):
                for source in sources:
                    require_stored(source.dataset)
        if not any(rows):
            what = "rows" if sources else "numeric columns"
            raise EventsError(f"{path}: '{key}' has no {what}, expected events. Check how the file was written.")
        yield Hdf5Frame(path, key, rows.pop(), dtypes, file[key], sources, layouts[key] in LAYOUTS)


def _open_file(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
    except OSError as error:
        if "signature not found" in str(error):
            raise EventsError(
                f"{path}: is not HDF5, expected a file as DataFrame.to_hdf writes it. Names of other "
                f"formats end in {', '.join(READERS)}; any other is read as HDF5."
            ) from error
        remedy = "It is incomplete or damaged: copy it again."
        if error.errno == errno.ENOLCK:
            remedy = "Its file system has no locks: set HDF5_USE_FILE_LOCKING=FALSE in the environment."
        elif error.errno is not None:  # refused by the system: missing permission, or locked by its writer
            remedy = "Check that you have permission to read it, and that no other process is writing it."
        raise EventsError(f"{path}: cannot be opened: {explained(error)}. {remedy}") from error


def _pandas_layouts(file: h5py.File, key: str | None) -> dict[str, str]:
    """Return the layout, such as 'frame' or 'series', of every pandas object in the file, by path.

    Links are followed only to `key`, and if the file itself has no pandas object.
    """
    layouts = {}

    def note(name: str, node: h5py.Group | h5py.Dataset | None) -> None:
        if isinstance(node, h5py.Group) and "pandas_type" in node.attrs:
            layouts["/" + name] = text(node.attrs["pandas_type"])

    file.visititems(note)
    if key is not None:
        if key in file and file.get(key) is None:
            link = file.get(key, getlink=True)
            target = f"'{link.path}' in {getattr(link, 'filename', 'this file')}"
            raise EventsError(
                f"{file.filename}: '{key}' is a link to {target}, which is not there. Bring it back, or choose another "
                "frame with --key."
            )
        note(key[1:], file.get(key))
    elif not layouts:
        names: list[str] = []
        file.visititems_links(lambda name, _: names.append(name))
        for name in names:  # not in the callback, which cannot raise the error of a loop of links
            with suppress(KeyError, OSError, RuntimeError):
                note(name, file.get(name))
    return layouts


def _dataset_layouts(file: h5py.File) -> dict[str, str]:
    """Return the layout of every table in the file that pandas did not write, by path."""
    found = {"/": dataset_layout(file)}
    file.visititems(lambda name, node: found.update({f"/{name}": dataset_layout(node)}))
    return {name: layout for name, layout in found.items() if layout is not None}


def _chosen(path: Path, layouts: dict[str, str], contents: list[str], key: str | None) -> str:
    frames = [name for name, layout in layouts.items() if layout in _FINDERS]
    if key is not None:
        if key not in frames:
            what = f"is a pandas {layouts[key]}, expected a frame" if key in layouts else "is not a DataFrame"
            raise EventsError(
                f"{path}: '{key}' {what}. Choose another with --key: {listed(frames) or 'there is none'}."
            )
        return key
    if not frames:
        held = ", ".join(f"'{name}' ({layout})" for name, layout in layouts.items()) or listed(contents) or "nothing"
        raise EventsError(f"{path}: holds no pandas DataFrame but {held}. Write one with DataFrame.to_hdf.")
    if len(frames) > 1:
        raise EventsError(f"{path}: holds several DataFrames: {listed(frames)}. Choose one with --key.")
    return frames[0]


def _rows_per_slab(source: Source) -> int:
    dataset = source.dataset
    row_bytes = dataset.dtype.itemsize * math.prod(dataset.shape) // source.rows
    rows_per_chunk = int(dataset.chunks[source.rows_axis]) if dataset.chunks else 1
    return rows_per_chunk * max(1, _SLAB_BYTES // int(row_bytes * rows_per_chunk))


@contextmanager
def _explained(path: Path, place: str, dataset: h5py.Dataset | None = None) -> Iterator[None]:
    """Convert errors of h5py for damaged or unexpected content to an EventsError with the place and the remedy."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, MemoryError) as error:
        remedy = "It is damaged or in no layout known here: copy it again, or write it anew with DataFrame.to_hdf."
        if dataset is not None and (filters := _missing_filters(dataset)):
            remedy = f"It is compressed with {filters}, which this HDF5 lacks: write it anew with complib='zlib'."
        raise EventsError(f"{path}: cannot read {place}: {error}. {remedy}") from error


def _missing_filters(dataset: h5py.Dataset) -> str:
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(place) for place in range(properties.get_nfilters())]
    return ", ".join(f"filter {code} ({text(name)})" for code, *_, name in filters if not h5py.h5z.filter_avail(code))

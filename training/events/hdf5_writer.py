"""pandas DataFrames in HDF5 files, written with h5py in chunks of rows."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from training.errors import EventsError
from training.files import atomic_write
from training.interrupts import uninterrupted

_CHUNK_BYTES = 512 << 10  # a chunk must fit in HDF5's cache while rows are appended to it


class _Sink(io.FileIO):
    """A file that keeps the first write error for `require_written` instead of raising it.

    HDF5 cannot close a file after a failed write, and crashes the process at exit.
    """

    failure: OSError | None = None

    def write(self, content: Any) -> int:
        rest = memoryview(content)
        try:
            while rest.nbytes:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = self.failure or error
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def require_written(self) -> None:
        if self.failure is not None:
            raise self.failure


def write_frame(
    path: str | Path, chunks: Iterable[Mapping[str, NDArray[Any]]], attributes: Mapping[str, str] | None = None
) -> None:
    """Write rows as the DataFrame `df` in pandas' fixed layout, which pandas.read_hdf reads.

    Each chunk maps column names to their next values, (n,) floats or integers; all chunks have the same columns and
    dtypes. `attributes` become attributes of the DataFrame. The write is atomic. Raises EventsError when there are no
    rows, ValueError when chunks are inconsistent, OSError when the file cannot be written.
    """
    dtypes: dict[str, np.dtype[Any]] = {}
    blocks: list[list[str]] = []
    rows = 0
    with atomic_write(path) as temporary, _Sink(temporary, "r+") as sink:
        with uninterrupted() as deliver_signals, h5py.File(sink, "w") as file:
            _describe(file, CLASS="GROUP", VERSION="1.0", PYTABLES_FORMAT_VERSION="2.1")
            frame = file.create_group("df")
            for chunk in chunks:
                found = {name: values.dtype for name, values in chunk.items()}
                if not dtypes:
                    dtypes = found
                    blocks = _create_blocks(frame, dtypes)
                    _describe(frame, **(attributes or {}))
                if list(found.items()) != list(dtypes.items()):
                    raise ValueError(f"{path}: columns {found} after row {rows}, expected {dtypes} as before")
                rows = _append(frame, blocks, chunk, rows)
                sink.require_written()
                deliver_signals()
        sink.require_written()
        if not rows:
            raise EventsError(f"{path}: there are no rows to write, and so the file was not written.")


def _create_blocks(frame: h5py.Group, dtypes: Mapping[str, np.dtype[Any]]) -> list[list[str]]:
    """Create an empty DataFrame with a block for each dtype, in order of appearance; return their columns."""
    blocks: dict[np.dtype[Any], list[str]] = {}
    for name, dtype in dtypes.items():
        if dtype.kind not in "fiu":
            raise ValueError(f"column '{name}' is {dtype}, expected floats or integers")
        blocks.setdefault(dtype, []).append(name)
    _describe(
        frame,
        CLASS="GROUP",
        VERSION="1.0",
        pandas_type="frame",
        pandas_version="0.15.2",  # version of the layout, which all later versions of pandas read
        encoding="UTF-8",
        errors="strict",
        ndim=2,
        nblocks=len(blocks),
        axis0_variety="regular",
        axis1_variety="regular",
    )
    _write_names(frame, "axis0", dtypes)
    _describe(_extendable(frame, "axis1", (), np.dtype(np.int64)), kind="integer")
    for number, (dtype, names) in enumerate(blocks.items()):
        _describe(frame, **{f"block{number}_items_variety": "regular"})
        _write_names(frame, f"block{number}_items", names)
        _extendable(frame, f"block{number}_values", (len(names),), dtype)
    return list(blocks.values())


def _append(frame: h5py.Group, blocks: Sequence[Sequence[str]], chunk: Mapping[str, NDArray[Any]], rows: int) -> int:
    """Append a chunk to the blocks of a DataFrame with `rows` rows, and return the new number of rows."""
    lengths = {len(values) for values in chunk.values()}
    if len(lengths) != 1:
        raise ValueError(f"{frame.file.filename}: columns of different lengths {sorted(lengths)} after row {rows}")
    total = rows + lengths.pop()
    datasets = [frame["axis1"], *(frame[f"block{number}_values"] for number in range(len(blocks)))]
    for dataset in datasets:
        dataset.resize(total, axis=0)
    frame["axis1"][rows:] = np.arange(rows, total)
    for names, dataset in zip(blocks, datasets[1:], strict=True):
        dataset[rows:] = np.column_stack([chunk[name] for name in names])
    return total


def _write_names(frame: h5py.Group, key: str, names: Iterable[str]) -> None:
    dataset = frame.create_dataset(key, data=np.array([name.encode() for name in names]))
    _describe(dataset, CLASS="ARRAY", VERSION="2.4", kind="string")


def _extendable(frame: h5py.Group, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
    """Create an empty compressed dataset for rows of shape `shape`."""
    dataset = frame.create_dataset(
        key,
        shape=(0, *shape),
        maxshape=(None, *shape),
        dtype=dtype,
        chunks=(max(1, _CHUNK_BYTES // (dtype.itemsize * math.prod(shape))), *shape),
        compression="gzip",  # the only compression that every HDF5 library has
        compression_opts=1,
        shuffle=True,
    )
    _describe(dataset, CLASS="EARRAY", VERSION="1.1", EXTDIM=0, transposed=1)
    return dataset


def _describe(node: h5py.Group | h5py.Dataset, **attributes: str | int) -> None:
    """Set attributes with the types that PyTables uses; it identifies a node by CLASS and VERSION."""
    for name, value in attributes.items():
        if isinstance(value, str):
            node.attrs.create(name, value.encode(), dtype=h5py.string_dtype("utf-8", len(value)))
        else:
            node.attrs[name] = np.int32(value)

"""Batches as they arrive: pieces of a request body in any format -> blocks of finite float32 rows.

A body is read piece by piece, so that the memory it takes does not grow with it, and every row's length is checked. It
does not know routes, where the pieces come from, or what happens to the blocks.
"""

import io
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from service import faults
from service.errors import InvalidRequestError

Rows = NDArray[np.float32]

LITTLE_FLOAT32: Final = np.dtype("<f4")

BLOCK_EVENTS: Final = 4096
"""What is scored at once: enough for the runtime, little enough for the cache and for others to have their turn."""

AT_LEAST_ONE: Final = "expected at least 1 event"

NPY_MAGIC: Final = b"\x93NUMPY"
NPY_PREFIX_BYTES: Final = npy.MAGIC_LEN + 4
NPY_HEADER_BYTES: Final = 10_000
"""Longer headers are refused by NumPy."""


class RowReader(ABC):
    """Reads one body. Each block is a view of one buffer, overwritten by the next."""

    def __init__(self, feature_names: Sequence[str]) -> None:
        self._names = feature_names
        self._block = np.empty((BLOCK_EVENTS, len(feature_names)), np.float32)
        self._filled = 0
        self._read = 0
        self.n_bytes = 0

    def feed(self, piece: bytes, last: bool) -> Iterator[Rows]:
        """Give each block (BLOCK_EVENTS, n_features) that `piece` completes, and at the end the rest (n, n_features).

        Raises InvalidRequestError at the first fault.
        """
        self._count_bytes(piece, last)
        for given in self._rows(piece, last):
            yield from self._gather(given)
        if last and self._filled:
            yield self._block[: self._filled]

    def _count_bytes(self, piece: bytes, last: bool) -> None:
        self.n_bytes += len(piece)
        if last and not self.n_bytes:
            raise InvalidRequestError(f"the body is empty, {AT_LEAST_ONE}")

    @abstractmethod
    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Give the rows (n, n_features) of real numbers that `piece` completes."""

    def _gather(self, given: NDArray[Any]) -> Iterator[Rows]:
        """Copy rows (n, n_features) into the block, and give it away whenever it is full."""
        start = 0
        while start < len(given):
            taken = min(len(given) - start, BLOCK_EVENTS - self._filled)
            rows, place = given[start : start + taken], self._block[self._filled : self._filled + taken]
            with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused, as NaN is
                np.copyto(place, rows, casting="unsafe")
            if not np.isfinite(place).all():
                raise InvalidRequestError(faults.array_fault(rows, place, "events", self._names, self._read))
            start += taken
            self._read += taken
            self._filled += taken
            if self._filled == BLOCK_EVENTS:
                yield self._block
                self._filled = 0


class RawReader(RowReader):
    """Reads little-endian float32 rows."""

    _rest = b""

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        event_bytes = len(self._names) * LITTLE_FLOAT32.itemsize
        data = self._rest + piece if self._rest else piece
        n_whole = len(data) // event_bytes
        self._rest = data[n_whole * event_bytes :]
        if last:
            whole_events(self.n_bytes, len(self._names), "the body is")
        yield np.frombuffer(data, LITTLE_FLOAT32, n_whole * len(self._names)).reshape(n_whole, len(self._names))


class NpyReader(RowReader):
    """Reads an .npy array (n, n_features) of real numbers; never a pickle."""

    _shape: tuple[int, ...] | None = None
    _dtype: np.dtype[Any]
    _by_columns: bool

    def __init__(self, feature_names: Sequence[str]) -> None:
        super().__init__(feature_names)
        self._rest = bytearray()

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        self._rest += piece
        if self._shape is None:
            if not last and len(self._rest) < npy_header_bytes(self._rest):
                return
            self._shape, self._by_columns, self._dtype, start = read_npy_header(
                bytes(self._rest), 2, len(self._names), AT_LEAST_ONE
            )
            self._data_start = start
            del self._rest[:start]
        promised = self._dtype.itemsize * self._shape[0] * self._shape[1]
        held = self.n_bytes - self._data_start
        if last and held != promised:
            raise InvalidRequestError(
                f"the array holds {held} bytes, expected {promised} for its shape {faults.shown(self._shape)}"
            )
        if self._by_columns and not last:  # its first row ends where the last column does
            return
        if held > promised:  # refused at the end, with the length it then has
            self._rest.clear()
            return
        event_bytes = self._dtype.itemsize * len(self._names)
        n_whole = len(self._rest) // event_bytes
        data = bytes(memoryview(self._rest)[: n_whole * event_bytes])
        del self._rest[: n_whole * event_bytes]
        order: Literal["F", "C"] = "F" if self._by_columns else "C"
        yield np.frombuffer(data, self._dtype).reshape((n_whole, len(self._names)), order=order)


def whole_events(n_bytes: int, n_features: int, found: str) -> int:
    """Tell how many raw events `n_bytes` are; raises InvalidRequestError, starting with `found`, for parts or none."""
    event_bytes = n_features * LITTLE_FLOAT32.itemsize
    if n_bytes % event_bytes:
        raise InvalidRequestError(
            f"{found} {n_bytes} bytes, not a whole number of events of {n_features} float32 ({event_bytes} bytes each)"
        )
    if not n_bytes:
        raise InvalidRequestError(f"events is empty, {AT_LEAST_ONE}")
    return n_bytes // event_bytes


def npy_header_bytes(start: bytes | bytearray) -> int:
    """Tell how many bytes of a body must be here before its .npy header can be read, or refused."""
    if len(start) < NPY_PREFIX_BYTES:
        return NPY_PREFIX_BYTES
    if bytes(start[: len(NPY_MAGIC)]) != NPY_MAGIC:
        return len(start)
    length: int = struct.unpack_from("<H" if start[len(NPY_MAGIC)] == 1 else "<I", start, npy.MAGIC_LEN)[0]
    return NPY_PREFIX_BYTES + min(length, NPY_HEADER_BYTES)


def read_npy_header(
    body: bytes, ndim: int, n_features: int, wanted: str
) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read the shape, whether columns come first, the dtype and the place of the data from the start of an .npy body.

    Raises InvalidRequestError unless it is an array of `ndim` dimensions, the last of n_features, of real numbers.
    """
    stream = io.BytesIO(body)
    try:
        version = npy.read_magic(stream)
        if b"L" in body[npy.MAGIC_LEN + 2 : body.find(b"}")]:  # numpy would read it, and warn on stderr
            raise ValueError("its header is one of Python 2, which wrote 3L for 3; save the array again")
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, by_columns, dtype = read_header(stream)
    except Exception as error:  # the header is a Python literal, whose parsing fails in many ways, all the client's
        raise InvalidRequestError(f"the body is not an .npy file of version 1 or 2: {error}") from error
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise InvalidRequestError(f"the array's dtype is {dtype}, expected float32, float64 or an integer type")
    expected = f"({n_features},)" if ndim == 1 else f"(n, {n_features})"
    if len(shape) != ndim or shape[-1] != n_features or shape[0] < 0:
        raise InvalidRequestError(f"the array's shape is {faults.shown(shape)}, expected {expected}")
    if shape[0] == 0:
        raise InvalidRequestError(f"events is empty, {wanted}")
    return shape, by_columns, dtype, stream.tell()

"""Arrays in NumPy's own format, .npy: (n, n_features) of real numbers for a batch, (n_features,) for one event.

The header is Python text, which NumPy evaluates; here it is matched, and nothing is evaluated. It does not know other
formats.
"""

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats import faults
from service.formats.format import AT_LEAST_ONE, LITTLE_FLOAT32, Accepted, BatchReader, Content, Format, Scores

MAGIC: Final = b"\x93NUMPY"
LENGTH_BYTES: Final = {(1, 0): 2, (2, 0): 4}
"""How many bytes the header's length takes, by the version that comes after the magic."""
VERSION_END: Final = len(MAGIC) + 2
LONGEST_HEADER_BYTES: Final = 10_000
"""Longer headers are refused by NumPy too."""

ITEM: Final = re.compile(
    r"""(?a)\s*(?:'(\w+)'|"(\w+)")\s*:\s*(?:'([^'"]*)'|"([^'"]*)"|(True|False)|(\((?:\s*-?(?:0|[1-9][0-9]*)\s*(?:,|(?=\))))*\s*\)))\s*(?:,|$)"""
)
"""A key, and a dtype, an order or a shape."""
DTYPE: Final = re.compile(r"[<>|=]?[?bcfiumMOSUV][0-9]{0,9}(?:\[[0-9A-Za-z]{1,9}\])?")
OTHER_DTYPE: Final = re.compile(r"""(?s)['"]descr['"]\s*:\s*([\[(].{1,80}?[)\]](?=\s*[,}])|[\[(].{1,80})""")
"""A dtype of records, or of arrays, as far as a message shows it."""

MANY_DIGITS: Final = 20
"""No array has a dimension of as many."""


class NpyHeader(NamedTuple):
    """What an .npy file says of its array."""

    dtype: np.dtype[Any]
    by_columns: bool
    shape: tuple[int, ...]
    shape_text: str
    n_bytes: int
    """From the body's start to the array's."""


class NpyReader(BatchReader):
    """Reads an .npy array (n, n_features) of real numbers."""

    _header: NpyHeader | None = None

    def __init__(self, feature_names: Sequence[str], max_events: int) -> None:
        super().__init__(feature_names, max_events)
        self._data = bytearray()

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        self._data += piece
        if self._header is None:
            if not last and len(self._data) < npy_header_bytes(self._data):
                return
            self._header = read_npy_header(bytes(self._data[: npy_header_bytes(self._data)]), 2, len(self._names))
            self._check_count(self._header.shape[0])
            del self._data[: self._header.n_bytes]
        dtype, by_columns, shape, shape_text, start = self._header
        promised = dtype.itemsize * shape[0] * shape[1]
        held = self.n_bytes - start
        if last and held != promised:
            raise InvalidRequestError(f"the array holds {held} bytes, expected {promised} for its shape {shape_text}")
        if by_columns and not last and held <= promised:  # its first row ends where the last column does
            return
        if held > promised:  # refused at the end, with the length it then has
            self._data.clear()
            return
        if by_columns:  # all of it, which is not copied
            yield np.frombuffer(self._data, dtype).reshape(shape, order="F")
            return
        event_bytes = dtype.itemsize * len(self._names)
        n_whole = len(self._data) // event_bytes
        data = bytes(memoryview(self._data)[: n_whole * event_bytes])
        del self._data[: n_whole * event_bytes]
        yield np.frombuffer(data, dtype).reshape(n_whole, len(self._names))


def npy_header_bytes(start: bytes | bytearray) -> int:
    """Tell how many bytes of a body must be here before its header can be read, or refused."""
    length_bytes = LENGTH_BYTES.get((start[len(MAGIC)], start[len(MAGIC) + 1])) if len(start) >= VERSION_END else 2
    if length_bytes is None or not MAGIC.startswith(start[: len(MAGIC)]):
        return len(start)
    length_end = VERSION_END + length_bytes
    if len(start) < length_end:
        return length_end
    return length_end + min(int.from_bytes(start[VERSION_END:length_end], "little"), LONGEST_HEADER_BYTES)


def read_npy_header(body: bytes, ndim: int, n_features: int) -> NpyHeader:
    """Read the start of an .npy body.

    Raises InvalidRequestError unless it is an array of `ndim` dimensions, the last of n_features, of real numbers.
    """
    text, n_bytes = _header_text(body)
    values = _header_values(text)
    try:
        dtype, by_columns, shape_text = _dtype(values["descr"]), values["fortran_order"] == "True", values["shape"]
    except (KeyError, TypeError):
        raise _wrong_header(text) from None
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise _wrong_dtype(str(dtype))
    shape = tuple(
        int(size) if len(size) < MANY_DIGITS else 10**MANY_DIGITS for size in re.findall(r"-?[0-9]+", shape_text)
    )
    if len(shape) != ndim or shape[-1] != n_features or shape[0] < 0:
        expected = f"({n_features},)" if ndim == 1 else f"(n, {n_features})"
        raise InvalidRequestError(f"the array's shape is {faults.cut(shape_text)}, expected {expected}")
    if shape[0] == 0:
        raise InvalidRequestError(f"events is empty, {AT_LEAST_ONE}")
    return NpyHeader(dtype, by_columns, shape, faults.cut(shape_text), n_bytes)


def _header_text(body: bytes) -> tuple[str, int]:
    """Find the header, and where it ends."""
    if not body.startswith(MAGIC):
        raise _not_npy(f"it does not start with {MAGIC!r}" if len(body) >= len(MAGIC) else "it ends in its first bytes")
    version = tuple(body[len(MAGIC) : VERSION_END])
    length_bytes = LENGTH_BYTES.get((version[0], version[1])) if len(version) == 2 else 0
    if length_bytes is None:
        raise _not_npy(f"its version is {'.'.join(map(str, version))}")
    start = VERSION_END + length_bytes
    length = int.from_bytes(body[VERSION_END:start], "little")
    if len(body) >= start and length > LONGEST_HEADER_BYTES:
        raise _not_npy(f"its header is {length} bytes, expected at most {LONGEST_HEADER_BYTES}")
    if not length_bytes or len(body) < start + length:
        raise _not_npy("it ends in its header")
    return body[start : start + length].decode("latin-1"), start + length


def _header_values(text: str) -> dict[str, str]:
    """Find what the header gives to each of its three keys."""
    stripped = text.strip(" \t\n")
    values: dict[str, str] = {}
    place, end = 1, len(stripped) - 1
    if not (stripped.startswith("{") and stripped.endswith("}")):
        raise _wrong_header(text)
    while stripped[place:end].strip():
        item = ITEM.match(stripped, place, end)
        if item is None:
            raise _wrong_header(text)
        key, dtype, flag, shape = item[1] or item[2], item[3] or item[4], item[5], item[6]
        expected = {"descr": dtype, "fortran_order": flag, "shape": shape}
        if key in values or expected.get(key) is None:
            raise _wrong_header(text)
        values[key] = expected[key]
        place = item.end()
    if len(values) != 3:
        raise _wrong_header(text)
    return values


def _dtype(descr: str) -> np.dtype[Any]:
    """Make a dtype; raises TypeError."""
    if not DTYPE.fullmatch(descr):
        raise TypeError
    return np.dtype(descr)


def _wrong_header(text: str) -> InvalidRequestError:
    """Say what is wrong with a header."""
    if other := OTHER_DTYPE.search(text):
        return _wrong_dtype(faults.cut(other[1]))
    if re.search(r"[0-9] *L[,)\s]", text):
        return _not_npy("its header is one of Python 2, which wrote 3L for 3; save the array again")
    return _not_npy(f"its header is {faults.shown(text)}, expected descr, fortran_order and shape")


def _wrong_dtype(found: str) -> InvalidRequestError:
    return InvalidRequestError(f"the array's dtype is {found}, expected float32, float64 or an integer type")


def _not_npy(reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"the body is not an .npy file of version 1 or 2: {reason}")


class Npy(Format):
    """NumPy's own files."""

    media_type = "application/x-npy"

    def _event(self, body: bytes, feature_names: Sequence[str]) -> NDArray[Any]:
        dtype, _, _, shape_text, start = read_npy_header(body, 1, len(feature_names))
        held, promised = len(body) - start, dtype.itemsize * len(feature_names)
        if held != promised:
            raise InvalidRequestError(f"the array holds {held} bytes, expected {promised} for its shape {shape_text}")
        return np.frombuffer(body, dtype, offset=start)

    def open_batch(self, feature_names: Sequence[str], max_events: int) -> NpyReader:
        """Make a reader for one body."""
        return NpyReader(feature_names, max_events)

    def write_score(self, scores: Scores, accepted: Accepted | None = None) -> bytes:  # noqa: ARG002  # no place for it
        """Write an array () of float32."""
        return written(scores.reshape(()))

    def write_scores(self, scores: Scores, accepted: Accepted | None = None) -> bytes:  # noqa: ARG002
        """Write an array (n,) of float32."""
        return written(scores)

    def schema(self, content: Content) -> dict[str, Any]:
        """Describe the array."""
        dtypes = "floats or integers, as `numpy.save` writes it" if content.title.startswith("Event") else "float32"
        description = f"An array of shape {content.shape} of {dtypes}."
        return {"type": "string", "format": "binary", "description": description}


def written(array: NDArray[np.float32]) -> bytes:
    """Write an array as `numpy.save` does."""
    stream = io.BytesIO()
    npy.write_array(stream, array.astype(LITTLE_FLOAT32, copy=False), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


NPY: Final = Npy()

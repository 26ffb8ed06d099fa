"""NumPy's own files, .npy: (n, n_features) of real numbers for a batch, (n_features,) for one event."""

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats.faults import cut
from service.formats.format import AT_LEAST_ONE, LITTLE_FLOAT32, Accepted, BatchReader, Content, Format, Scores

LONGEST_HEADER_BYTES: Final = 10_000
LONGEST_START_BYTES: Final = LONGEST_HEADER_BYTES + 12
"""The magic, the version, the header's length and the header."""
REASON_CHARACTERS: Final = 200
INWARD: Final = re.compile(r"\n| on line|: <")
"""The start of the part of a NumPy error that is not for clients."""
CUT: Final = ": EOF: "
"""The part of a NumPy error that means that more bytes are needed."""
READ_HEADER: Final = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


class Header(NamedTuple):
    """The header of a file, which describes its array."""

    dtype: np.dtype[Any]
    by_columns: bool
    shape: tuple[int, ...]
    n_bytes: int
    """Bytes before the array."""

    @property
    def array_bytes(self) -> int:
        """Bytes of the array."""
        return self.dtype.itemsize * math.prod(self.shape)

    def check_length(self, n_bytes: int) -> None:
        """Check the length of a body; raises InvalidRequestError."""
        held = n_bytes - self.n_bytes
        if held != self.array_bytes:
            raise InvalidRequestError(
                f"the array holds {held} bytes, expected {self.array_bytes} for its shape {cut(str(self.shape))}"
            )


class NpyReader(BatchReader):
    """Reads a batch."""

    _header: Header | None = None

    def __init__(self, feature_names: Sequence[str], max_events: int) -> None:
        super().__init__(feature_names, max_events)
        self._data = bytearray()

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        self._data += piece
        if self._header is None:
            try:
                self._header = read_header(bytes(self._data[:LONGEST_START_BYTES]), 2, len(self._names))
            except InvalidRequestError as error:
                if CUT in str(error) and not last and len(self._data) < LONGEST_START_BYTES:
                    return
                raise
            self._check_count(self._header.shape[0])
            del self._data[: self._header.n_bytes]
        header, n_features = self._header, len(self._names)
        if last:
            header.check_length(self.n_bytes)
        if self.n_bytes - header.n_bytes > header.array_bytes:
            self._data.clear()  # refused at the end, with its length
        elif not header.by_columns:
            n_whole = len(self._data) // (header.dtype.itemsize * n_features)
            data = bytes(memoryview(self._data)[: n_whole * header.dtype.itemsize * n_features])
            del self._data[: len(data)]
            yield np.frombuffer(data, header.dtype).reshape(n_whole, n_features)
        elif last:  # the first row ends where the last column does
            yield np.frombuffer(self._data, header.dtype).reshape(header.shape, order="F")


def read_header(start: bytes, ndim: int, n_features: int) -> Header:
    """Read the start of a file.

    Raises InvalidRequestError unless it is an array of `ndim` dimensions, the last of n_features, of real numbers.
    """
    stream = io.BytesIO(start)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # for headers of Python 2 and odd literals
            version = npy_format.read_magic(stream)
            shape, by_columns, dtype = READ_HEADER[version](stream, max_header_size=LONGEST_HEADER_BYTES)
            shape_text = cut(str(shape))
    except Exception as error:  # NumPy evaluates the header as a Python literal, with many kinds of errors
        reason = f"its version is {error}" if isinstance(error, KeyError) else INWARD.split(str(error))[0]
        found = cut(reason, REASON_CHARACTERS)
        raise InvalidRequestError(f"the body is not an .npy file of version 1 or 2: {found}") from error
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        found = cut(str(dtype))
        raise InvalidRequestError(f"the array's dtype is {found}, expected float32, float64 or an integer type")
    if len(shape) != ndim or shape[-1] != n_features or shape[0] < 0:
        expected = f"({n_features},)" if ndim == 1 else f"(n, {n_features})"
        raise InvalidRequestError(f"the array's shape is {shape_text}, expected {expected}")
    if shape[0] == 0:
        raise InvalidRequestError(f"events is empty, {AT_LEAST_ONE}")
    return Header(dtype, by_columns, shape, stream.tell())


class Npy(Format):
    """NumPy's own files."""

    media_type = "application/x-npy"
    feature_bytes = np.dtype(np.float64).itemsize

    def _event(self, body: bytes, feature_names: Sequence[str]) -> NDArray[Any]:
        header = read_header(body, 1, len(feature_names))
        header.check_length(len(body))
        return np.frombuffer(body, header.dtype, offset=header.n_bytes)

    def open_batch(self, feature_names: Sequence[str], max_events: int) -> NpyReader:
        """Make a reader for one body."""
        return NpyReader(feature_names, max_events)

    def write_score(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write an array () of float32."""
        return written(scores.reshape(()).astype(LITTLE_FLOAT32, copy=False))

    def write_scores(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write an array (n,) of float32."""
        return written(scores.astype(LITTLE_FLOAT32, copy=False))

    def schema(self, content: Content) -> dict[str, Any]:
        """Describe the array."""
        dtypes = "floats or integers, as `numpy.save` writes it" if content.title.startswith("Event") else "float32"
        description = f"An array of shape {content.shape} of {dtypes}."
        return {"type": "string", "format": "binary", "description": description}


class NpyDecisions(Npy):
    """NumPy's own files of decisions: which events are accepted."""

    media_type = f"{Npy.media_type}; dtype=bool"
    decisions = True

    def write_score(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write an array () of bool."""
        assert accepted is not None
        return written(accepted.reshape(()))

    def write_scores(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write an array (n,) of bool."""
        assert accepted is not None
        return written(accepted)

    def schema(self, content: Content) -> dict[str, Any]:
        """Describe the array."""
        description = f"An array of shape {content.shape} of bool: which events are `accepted`."
        return {"type": "string", "format": "binary", "description": description}


def written(array: NDArray[Any]) -> bytes:
    """Write an array as `numpy.save` does."""
    stream = io.BytesIO()
    npy_format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


NPY: Final = Npy()
NPY_DECISIONS: Final = NpyDecisions()

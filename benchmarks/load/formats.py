"""The wire formats as a client writes and reads them, without the service's own code."""

import io
import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray


class Format(NamedTuple):
    """How a client writes an array of features, and reads the scores in a response."""

    name: str
    media_type: str
    write: Callable[[str, NDArray[Any]], bytes]
    """The name of the list, and the features of one event or of many."""
    read: Callable[[str, bytes], NDArray[Any]]
    """The name of the list, and the body of the response."""


def decimals(array: NDArray[Any]) -> NDArray[Any]:
    """Return float32 numbers as the float64 numbers with their shortest digits: 641.3, not 641.2999877929688.

    That is what a client sends that reads 641.3 from a file. Arrays of other types are returned as they are.
    """
    if array.dtype != np.float32:
        return array
    distinct, places = np.unique(array, return_inverse=True)
    return np.array([float(str(value)) for value in distinct])[places].reshape(array.shape)


def read_msgpack(key: str, body: bytes) -> NDArray[Any]:
    """Read scores that are a list, or float32 numbers in one binary string."""
    scores = msgspec.msgpack.decode(body)[key]
    return np.frombuffer(scores, "<f4") if isinstance(scores, bytes) else np.array(scores)


def npy_bytes(array: NDArray[Any]) -> bytes:
    """Write an array as numpy.save does."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


JSON: Final = Format(
    "JSON",
    "application/json",
    lambda key, array: json.dumps({key: decimals(array).tolist()}).encode(),
    lambda key, body: np.array(json.loads(body)[key]),
)
MSGPACK: Final = Format(
    "MessagePack",
    "application/msgpack",
    lambda key, array: msgspec.msgpack.encode({key: decimals(array).tolist()}),
    read_msgpack,
)
MSGPACK_BINARY: Final = Format(
    "MessagePack, binary",
    "application/msgpack",
    lambda key, array: msgspec.msgpack.encode({key: array.astype("<f4").tobytes()}),
    read_msgpack,
)
RAW: Final = Format(
    "raw float32",
    "application/octet-stream",
    lambda _, array: array.astype("<f4").tobytes(),
    lambda _, body: np.frombuffer(body, "<f4"),
)
NPY: Final = Format(
    ".npy",
    "application/x-npy",
    lambda _, array: npy_bytes(array),
    lambda _, body: np.load(io.BytesIO(body), allow_pickle=False),
)
FORMATS: Final = (JSON, MSGPACK, MSGPACK_BINARY, RAW, NPY)

"""The wire formats as a client writes and reads them, without the service's own code."""

import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray


class Format(NamedTuple):
    """How a client writes an array of features, and reads the scores in a reply."""

    media_type: str
    write: Callable[[str, NDArray[Any]], bytes]
    """The name of the list, and features of one event or of many."""
    read: Callable[[str, bytes], NDArray[Any]]
    """The name of the list, and the reply's body."""


def npy_bytes(array: NDArray[Any]) -> bytes:
    """Write an array as numpy.save does."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


FORMATS = [
    Format(
        "application/json",
        lambda key, array: json.dumps({key: array.tolist()}).encode(),
        lambda key, body: np.array(json.loads(body)[key]),
    ),
    Format(
        "application/msgpack",
        lambda key, array: msgspec.msgpack.encode({key: array.tolist()}),
        lambda key, body: np.array(msgspec.msgpack.decode(body)[key]),
    ),
    Format(
        "application/octet-stream",
        lambda _, array: array.astype("<f4").tobytes(),
        lambda _, body: np.frombuffer(body, "<f4"),
    ),
    Format(
        "application/x-npy",
        lambda _, array: npy_bytes(array),
        lambda _, body: np.load(io.BytesIO(body), allow_pickle=False),
    ),
]
JSON, MSGPACK, RAW, NPY = FORMATS

PACKED = Format(
    MSGPACK.media_type,
    lambda key, array: msgspec.msgpack.encode({key: array.astype("<f4").tobytes()}),
    MSGPACK.read,
)
"""MessagePack with raw float32 numbers in one binary string."""

"""The wire formats, written and read without the service's own code."""

import io
import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray


class Format(NamedTuple):
    """A format: how to write an array of features and how to read the scores of a response."""

    name: str
    media_type: str
    write: Callable[[str, NDArray[Any]], bytes]
    """The name of the list, and the features of one event or of many."""
    read: Callable[[str, bytes], NDArray[Any]]
    """The name of the list, and the body of the response."""
    float64: bool = False
    """Whether the numbers of a request are float64, as digits or as bytes."""
    headers: tuple[tuple[str, str], ...] = ()
    """What a request says beside its media type."""


class Route(NamedTuple):
    """The route of a server for a format."""

    fmt: Format
    path: str


def read_msgpack(key: str, body: bytes) -> NDArray[Any]:
    """Read scores that are a list, or float32 numbers in one binary string."""
    scores = msgspec.msgpack.decode(body)[key]
    return np.frombuffer(scores, "<f4") if isinstance(scores, bytes) else np.array(scores)


def npy_bytes(array: NDArray[Any]) -> bytes:
    """Return an array in the format of numpy.save."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


JSON: Final = Format(
    "JSON",
    "application/json",
    lambda key, array: json.dumps({key: array.tolist()}).encode(),
    lambda key, body: np.array(json.loads(body)[key]),
    float64=True,
)
MSGPACK: Final = Format(
    "MessagePack",
    "application/msgpack",
    lambda key, array: msgspec.msgpack.encode({key: array.tolist()}),
    read_msgpack,
    float64=True,
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
FORMATS: Final = (JSON, MSGPACK, RAW, NPY)
"""One for each media type."""
ENCODINGS: Final = (JSON, MSGPACK, MSGPACK_BINARY, RAW, NPY)

"""Request bodies made of real events, and the scores in replies, in each format.

It does not know HTTP, or how the right scores are found.
"""

import io
import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray


class Format(NamedTuple):
    """How events are written and scores are read, under the names that a single event or a batch gives them."""

    name: str
    media_type: str
    write: Callable[[str, NDArray[np.float32]], bytes]
    read: Callable[[str, bytes], Any]


def decimals(events: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give events as the float64 numbers that have their shortest digits: 641.3, and not 641.2999877929688.

    That is how a client that reads 641.3 from a file sends it.
    """
    distinct, places = np.unique(events, return_inverse=True)
    numbers = np.array([float(str(value)) for value in distinct])
    return numbers[places].reshape(events.shape)


def read_document(decode: Callable[[bytes], Any]) -> Callable[[str, bytes], Any]:
    """Make a reader of JSON or MessagePack, whose scores are numbers or, in MessagePack, float32 as bytes."""

    def read(key: str, reply: bytes) -> Any:
        scores = decode(reply)[key]
        return np.frombuffer(scores, "<f4") if isinstance(scores, bytes) else scores

    return read


def write_npy(_: str, events: NDArray[np.float32]) -> bytes:
    """Write an array as numpy.save does."""
    stream = io.BytesIO()
    np.save(stream, events)
    return stream.getvalue()


JSON: Final = Format(
    "JSON",
    "application/json",
    lambda key, events: json.dumps({key: decimals(events).tolist()}).encode(),
    read_document(msgspec.json.decode),
)
MSGPACK: Final = Format(
    "MessagePack",
    "application/msgpack",
    lambda key, events: msgspec.msgpack.encode({key: decimals(events).tolist()}),
    read_document(msgspec.msgpack.decode),
)
MSGPACK_BINARY: Final = Format(
    "MessagePack, binary",
    "application/msgpack",
    lambda key, events: msgspec.msgpack.encode({key: events.astype("<f4").tobytes()}),
    read_document(msgspec.msgpack.decode),
)
RAW: Final = Format(
    "raw float32",
    "application/octet-stream",
    lambda _, events: events.astype("<f4").tobytes(),
    lambda _, reply: np.frombuffer(reply, "<f4"),
)
NPY: Final = Format(".npy", "application/x-npy", write_npy, lambda _, reply: np.load(io.BytesIO(reply)))

"""Requests and responses of the servers without a reader of their own, by path: our service's formats, with msgspec."""

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import msgspec
import numpy as np

from benchmarks.peers.servers.graph import N_FEATURES, Floats, Score, read_rows

Features = tuple[float, float, float, float, float, float, float, float, float, float, float, float, float, float]
"""The features of an event: msgspec reads tuples of a fixed length faster than lists, and refuses those of another."""


class Event(msgspec.Struct):
    """A request for one event."""

    features: Features


class Batch(msgspec.Struct):
    """A request for a batch."""

    events: list[Features]


class Body(NamedTuple):
    """How a body becomes events (n, 14), how their scores (n,) are written, and as what."""

    read: Callable[[bytes], Floats]
    write: Callable[[Floats], bytes]
    media_type: str


read_event = msgspec.json.Decoder(Event).decode
read_batch = msgspec.json.Decoder(Batch).decode
encode = msgspec.json.Encoder().encode


def flatten(events: list[Features]) -> Floats:
    """Put events into an array (n, 14), in two thirds of the time that np.array takes."""
    numbers = np.fromiter(chain.from_iterable(events), np.float32, len(events) * N_FEATURES)
    return numbers.reshape(-1, N_FEATURES)


EVENT = Body(
    lambda body: np.array([read_event(body).features], np.float32),
    lambda scores: encode({"anomaly_score": float(scores[0])}),
    "application/json",
)
BATCH = Body(
    lambda body: flatten(read_batch(body).events),
    lambda scores: encode({"anomaly_scores": scores.tolist()}),
    "application/json",
)
ROWS = Body(read_rows, lambda scores: scores.tobytes(), "application/octet-stream")
BODIES = {"/score": EVENT, "/score/batch": BATCH, "/score/raw": ROWS}
"""Which body comes on which path."""


class RefusedError(ValueError):
    """A body that is not one event, or a batch, of 14 features each."""


def read(kind: Body, body: bytes) -> Floats:
    """Read events (n, 14); raises RefusedError for a body of another shape."""
    try:
        return kind.read(body)
    except (ValueError, msgspec.MsgspecError) as error:
        raise RefusedError(str(error)) from error


def respond(score: Score, path: str, body: bytes) -> tuple[int, str, bytes]:
    """Score the events of a request, and return status, media type and body of the response."""
    if (kind := BODIES.get(path)) is None:
        return 404, "text/plain", b"no such path"
    try:
        return 200, kind.media_type, kind.write(score(read(kind, body)))
    except RefusedError as error:
        return 400, "text/plain", str(error).encode()

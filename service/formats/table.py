"""Every request and reply format <-> NumPy: JSON, MessagePack, raw little-endian float32, and .npy.

One event is read here, batches are read by the readers of rows.py, json_rows.py and msgpack_rows.py. It does not know
routes, statuses, models or what a feature means; it gets the features' names for its messages.
"""

import io
import math
import re
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
import orjson
import simdjson
from numpy.lib import format as npy
from numpy.typing import NDArray

from service.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    NonFiniteScoreError,
    NotAcceptableError,
    UnsupportedMediaTypeError,
)
from service.formats import faults
from service.formats.blocks import LITTLE_FLOAT32, RawReader, RowReader, longest_event
from service.formats.json import COMPILED, CompiledReader, SimdjsonReader
from service.formats.msgpack import MsgpackReader
from service.formats.npy import NpyReader, read_npy_header

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
RAW: Final = "application/octet-stream"
NPY: Final = "application/x-npy"
MEDIA_TYPES: Final = (JSON, MSGPACK, RAW, NPY)
"""The formats, in the order of preference where a client has none."""

ALIASES: Final = {"application/x-msgpack": MSGPACK, "application/vnd.msgpack": MSGPACK}
KNOWN: Final = {**{media_type: media_type for media_type in MEDIA_TYPES}, **ALIASES}

ONE_EVENT: Final = "expected 1 event"
FIRST_KEY_BYTES: Final = len('{"features":[],"features')
"""A quote of JSON that comes later ends another key than the first."""

TAGGED_FLOAT32: Final = np.dtype([("tag", "u1"), ("value", ">f4")])
"""A number of MessagePack."""


class EventBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a JSON request for one event holds."""

    features: list[float]


class PackedEventBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a MessagePack request for one event holds."""

    features: list[float] | bytes


DECODE_JSON_EVENT: Final = msgspec.json.Decoder(EventBody).decode
_DECODE_EVENT: Final[dict[str, Callable[[bytes], EventBody | PackedEventBody]]] = {
    JSON: DECODE_JSON_EVENT,
    MSGPACK: msgspec.msgpack.Decoder(PackedEventBody).decode,
}
_ONE_KEY: Final[dict[str, Callable[[bytes], object]]] = {
    JSON: lambda body: body.count(b'"') == 2,  # numbers have none
    MSGPACK: re.compile(rb"\x81|\xde\x00\x01|\xdf\x00\x00\x00\x01").match,
}
_FAULT: Final = {JSON: faults.json_fault, MSGPACK: faults.msgpack_fault}


def request_media_type(content_type: str | None) -> str:
    """Name the request's format; raises UnsupportedMediaTypeError for none or an unknown one."""
    if content_type is not None:
        media_type = KNOWN.get(content_type) or KNOWN.get(_bare(content_type))
        if media_type:
            return media_type
    found = (
        "the request has no Content-Type" if content_type is None else f"Content-Type is {faults.shown(content_type)}"
    )
    raise UnsupportedMediaTypeError(f"{found}, expected one of {', '.join(MEDIA_TYPES)}")


@lru_cache(maxsize=256)
def reply_media_type(accept: str | None, requested: str) -> str:
    """Name the reply's format: the best of the Accept header, and the request's own where that leaves a choice.

    Raises NotAcceptableError if the header allows none.
    """
    if accept is None or accept == "*/*":
        return requested
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()]
    if not ranges:  # an empty list is as good as none
        return requested
    qualities = {media_type: _quality(media_type, ranges) for media_type in (requested, *MEDIA_TYPES)}
    best = max(qualities, key=qualities.__getitem__)
    if qualities[best] <= 0:
        raise NotAcceptableError(f"Accept is {faults.shown(accept)}, expected one of {', '.join(MEDIA_TYPES)}")
    return best


class BatchReaders:
    """Makes a reader for each batch; what it costs to set up is kept from one to the next."""

    def __init__(self, feature_names: Sequence[str], max_events: int | None = None) -> None:
        self._names = feature_names
        self._max_events = max_events
        # Its documents live no longer than the call that parses them, and so one serves all bodies of a thread.
        self._parser = simdjson.Parser()

    def open(self, media_type: str) -> RowReader:
        """Make a reader for one body."""
        if media_type == RAW:
            return RawReader(self._names, self._max_events)
        if media_type == JSON and COMPILED:
            return CompiledReader(self._names, self._max_events)
        if media_type == JSON:
            return SimdjsonReader(self._names, self._parser, self._max_events)
        if media_type == MSGPACK:
            return MsgpackReader(self._names, self._max_events)
        return NpyReader(self._names, self._max_events)


class EventReader:
    """Reads the bodies of requests for one event."""

    def __init__(self, feature_names: Sequence[str]) -> None:
        self._names = feature_names
        self._pack = struct.Struct(f"<{len(feature_names)}f").pack
        self.max_bytes = longest_event(len(feature_names))

    def read(self, body: bytes, media_type: str) -> NDArray[np.float32]:
        """Read one event as (1, n_features) finite float32.

        Raises InvalidRequestError, and BodyTooLargeError for more than `max_bytes`: no event takes as many.
        """
        n_features = len(self._names)
        if len(body) > self.max_bytes:
            raise BodyTooLargeError(
                f"the body is {len(body)} bytes, expected at most {self.max_bytes} for one event: send many as a batch"
            )
        if media_type == JSON:
            # The hot path. Packing refuses another number of features, and what float32 would round to infinity.
            try:
                row = self._pack(*DECODE_JSON_EVENT(body).features)
                if body.rfind(b'"') < FIRST_KEY_BYTES:
                    return np.frombuffer(row, LITTLE_FLOAT32).reshape(1, n_features)
            except (ValueError, RecursionError, OverflowError, struct.error):
                pass  # explained below
        if not body:
            raise InvalidRequestError(f"the body is empty, {ONE_EVENT}")
        given: NDArray[Any]
        if media_type == RAW:
            given = _one_raw(body, n_features, "the body is")
        elif media_type == NPY:
            given = _one_npy(body, n_features)
        else:
            given = _one_document(body, media_type, self._names)
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused below, as NaN is
            features = given.astype(np.float32).reshape(1, n_features)
        if not np.isfinite(features).all():
            raise InvalidRequestError(faults.array_fault(given, features, "features", self._names))
        return features


def encode_score(scores: NDArray[np.float32], media_type: str, accepted: NDArray[np.bool_] | None = None) -> bytes:
    """Write the score of one event, `scores` (1,); `accepted` (1,) goes along in JSON and MessagePack.

    Raises NonFiniteScoreError.
    """
    if not math.isfinite(scores[0]):
        raise _not_finite(scores)
    return _encode("anomaly_score", scores[0], media_type, None if accepted is None else accepted[0])


def encode_scores(scores: NDArray[np.float32], media_type: str, accepted: NDArray[np.bool_] | None = None) -> bytes:
    """Write the scores (n,) of a batch; `accepted` (n,) goes along in JSON and MessagePack.

    Raises NonFiniteScoreError.
    """
    if not np.isfinite(scores).all():
        raise _not_finite(scores)
    return _encode("anomaly_scores", scores, media_type, accepted)


def _one_document(body: bytes, media_type: str, feature_names: Sequence[str]) -> NDArray[Any]:
    """Read the event of a JSON or MessagePack body strictly, as (n_features,)."""
    reason = "it does not hold what this route expects"
    try:
        features = _DECODE_EVENT[media_type](body).features
        if not _ONE_KEY[media_type](body):
            pass  # explained below
        elif isinstance(features, bytes):
            return _one_raw(features, len(feature_names), "features is")
        elif len(features) == len(feature_names):
            return np.array(features)
    except (ValueError, RecursionError) as error:  # msgspec's errors and those of UTF-8 are ValueErrors
        reason = str(error)
    fault = _FAULT[media_type](body, "features", feature_names)
    raise InvalidRequestError(fault or f"the body cannot be read: {reason[: faults.REASON_CHARACTERS]}")


def _one_raw(data: bytes, n_features: int, found: str) -> NDArray[np.float32]:
    event_bytes = n_features * LITTLE_FLOAT32.itemsize
    if len(data) != event_bytes:
        raise InvalidRequestError(
            f"{found} {len(data)} bytes, expected one event of {n_features} float32 ({event_bytes} bytes)"
        )
    return np.frombuffer(data, LITTLE_FLOAT32)


def _one_npy(body: bytes, n_features: int) -> NDArray[Any]:
    dtype, _, _, shape_text, start = read_npy_header(body, 1, n_features)
    held, promised = len(body) - start, dtype.itemsize * n_features
    if held != promised:
        raise InvalidRequestError(f"the array holds {held} bytes, expected {promised} for its shape {shape_text}")
    return np.frombuffer(body, dtype, offset=start)


def _encode(
    key: str, scores: NDArray[np.float32] | np.float32, media_type: str, accepted: NDArray[np.bool_] | np.bool_ | None
) -> bytes:
    """Write a score, or an array of them, without a Python object for each."""
    if media_type == JSON:
        reply = {key: scores} if accepted is None else {key: scores, "accepted": accepted}
        return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)
    if media_type == MSGPACK:
        parts = [b"\x81" if accepted is None else b"\x82", msgspec.msgpack.encode(key)]
        parts += _packed(np.asarray(scores), _packed_floats)
        if accepted is not None:
            parts += [b"\xa8accepted", *_packed(np.asarray(accepted), _packed_booleans)]
        return b"".join(parts)
    array = np.asarray(scores, LITTLE_FLOAT32)
    if media_type == RAW:
        return array.tobytes()
    stream = io.BytesIO()
    npy.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _packed(values: NDArray[Any], pack: Callable[[NDArray[Any]], bytes]) -> list[bytes]:
    """Write one value or an array of them in MessagePack."""
    if values.ndim == 0:
        return [pack(values[np.newaxis])]
    n = len(values)
    head = bytes([0x90 | n]) if n < 16 else struct.pack(">BH", 0xDC, n) if n < 2**16 else struct.pack(">BI", 0xDD, n)
    return [head, pack(values)]


def _packed_floats(scores: NDArray[np.float32]) -> bytes:
    tagged = np.empty(len(scores), TAGGED_FLOAT32)
    tagged["tag"], tagged["value"] = 0xCA, scores
    return tagged.tobytes()


def _packed_booleans(accepted: NDArray[np.bool_]) -> bytes:
    return np.where(accepted, np.uint8(0xC3), np.uint8(0xC2)).tobytes()


def _not_finite(scores: NDArray[np.float32]) -> NonFiniteScoreError:
    place = int(np.flatnonzero(~np.isfinite(scores))[0])
    event = f"events[{place}]" if len(scores) > 1 else "the event"
    return NonFiniteScoreError(
        f"the model gave the score {scores[place]} for {event}, whose features are beyond what it was made for"
    )


def _bare(media_type: str) -> str:
    """Take the parameters off a media type."""
    return media_type.partition(";")[0].strip().lower()


def _media_range(part: str) -> tuple[str, float]:
    """Read one part of an Accept header: the media range, and its quality from 0 to 1."""
    quality = 1.0
    for parameter in part.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
    bare = _bare(part)
    return KNOWN.get(bare, bare), quality if 0.0 <= quality <= 1.0 else 0.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Give the quality of the most specific range that matches."""
    for pattern in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        matching = [quality for name, quality in ranges if name == pattern]
        if matching:
            return max(matching)
    return 0.0

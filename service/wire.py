"""Every request and reply format <-> NumPy: JSON, MessagePack, raw little-endian float32, and .npy.

It does not know routes, statuses, models or what a feature means; it gets the features' names for its messages.
"""

import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from service import faults
from service.errors import InvalidRequestError, NonFiniteScoreError, NotAcceptableError, UnsupportedMediaTypeError

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
RAW: Final = "application/octet-stream"
NPY: Final = "application/x-npy"
MEDIA_TYPES: Final = (JSON, MSGPACK, RAW, NPY)
"""The formats, in the order of preference where a client has none."""

ALIASES: Final = {"application/x-msgpack": MSGPACK, "application/vnd.msgpack": MSGPACK}
KNOWN: Final = {**{media_type: media_type for media_type in MEDIA_TYPES}, **ALIASES}

LITTLE_FLOAT32: Final = np.dtype("<f4")


class EventBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a JSON or MessagePack request for one event holds."""

    features: list[float]


class EventsBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a JSON or MessagePack request for a batch holds."""

    events: list[list[float]]


class _Kind(NamedTuple):
    """What sets the requests for one event and for a batch apart."""

    key: faults.Key
    ndim: int  # of the array in .npy
    wanted: str
    decode: dict[str, Callable[[bytes], Any]]


_EVENT: Final = _Kind(
    "features",
    1,
    "1 event",
    {JSON: msgspec.json.Decoder(EventBody).decode, MSGPACK: msgspec.msgpack.Decoder(EventBody).decode},
)
_EVENTS: Final = _Kind(
    "events",
    2,
    "at least 1 event",
    {JSON: msgspec.json.Decoder(EventsBody).decode, MSGPACK: msgspec.msgpack.Decoder(EventsBody).decode},
)
_FAULT: Final = {JSON: faults.json_fault, MSGPACK: faults.msgpack_fault}
_ENCODE: Final = {JSON: msgspec.json.Encoder().encode, MSGPACK: msgspec.msgpack.Encoder().encode}


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


def decode_event(body: bytes, media_type: str, feature_names: Sequence[str]) -> NDArray[np.float32]:
    """Read one event as (1, n_features) finite float32; raises InvalidRequestError."""
    return _decode(body, media_type, feature_names, _EVENT)


def decode_events(body: bytes, media_type: str, feature_names: Sequence[str]) -> NDArray[np.float32]:
    """Read a batch of at least one event as (n, n_features) finite float32; raises InvalidRequestError."""
    return _decode(body, media_type, feature_names, _EVENTS)


def encode_score(scores: NDArray[np.float32], media_type: str, accepted: NDArray[np.bool_] | None = None) -> bytes:
    """Write the score of one event, `scores` (1,); `accepted` (1,) goes along in JSON and MessagePack.

    Raises NonFiniteScoreError.
    """
    _require_finite(scores)
    if media_type in _ENCODE:
        reply: dict[str, Any] = {"anomaly_score": scores[0].item()}
        if accepted is not None:
            reply["accepted"] = accepted[0].item()
        return _ENCODE[media_type](reply)
    return _encode_array(scores[0], media_type)


def encode_scores(scores: NDArray[np.float32], media_type: str, accepted: NDArray[np.bool_] | None = None) -> bytes:
    """Write the scores (n,) of a batch; `accepted` (n,) goes along in JSON and MessagePack.

    Raises NonFiniteScoreError.
    """
    _require_finite(scores)
    if media_type in _ENCODE:
        reply: dict[str, Any] = {"anomaly_scores": scores.tolist()}
        if accepted is not None:
            reply["accepted"] = accepted.tolist()
        return _ENCODE[media_type](reply)
    return _encode_array(scores, media_type)


def _decode(body: bytes, media_type: str, feature_names: Sequence[str], kind: _Kind) -> NDArray[np.float32]:
    if not body:
        raise InvalidRequestError(f"the body is empty, expected {kind.wanted}")
    given: NDArray[Any]
    if media_type == RAW:
        given = _read_raw(body, len(feature_names), kind)
    elif media_type == NPY:
        given = _read_npy(body, len(feature_names), kind)
    else:
        given = _read_document(body, media_type, feature_names, kind)
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        features = np.ascontiguousarray(given, np.float32).reshape(-1, len(feature_names))
    if not np.isfinite(features).all():
        raise InvalidRequestError(faults.array_fault(given, features, kind.key, feature_names))
    return features


def _read_document(body: bytes, media_type: str, feature_names: Sequence[str], kind: _Kind) -> NDArray[np.float64]:
    """Read JSON or MessagePack strictly, as (n_features,) or (n, n_features)."""
    expected = (len(feature_names),)
    reason = "it does not hold what this route expects"
    try:
        given = np.array(getattr(kind.decode[media_type](body), kind.key), np.float64)
        if len(given) and given.shape[kind.ndim - 1 :] == expected:
            return given
    except (ValueError, RecursionError) as error:  # msgspec's errors and those of UTF-8 and ragged rows are ValueErrors
        reason = str(error)
    fault = _FAULT[media_type](body, kind.key, feature_names)
    raise InvalidRequestError(fault or f"the body cannot be read: {reason}")


def _read_raw(body: bytes, n_features: int, kind: _Kind) -> NDArray[np.float32]:
    """Read little-endian float32 rows, as (n, n_features)."""
    event_bytes = n_features * LITTLE_FLOAT32.itemsize
    event = f"{n_features} float32 ({event_bytes} bytes"
    if kind.ndim == 1 and len(body) != event_bytes:
        raise InvalidRequestError(f"the body is {len(body)} bytes, expected one event of {event})")
    if len(body) % event_bytes:
        raise InvalidRequestError(f"the body is {len(body)} bytes, not a whole number of events of {event} each)")
    return np.frombuffer(body, LITTLE_FLOAT32).reshape(-1, n_features)


def _read_npy(body: bytes, n_features: int, kind: _Kind) -> NDArray[Any]:
    """Read an .npy array of real numbers, as (n_features,) or (n, n_features); never a pickle."""
    stream = io.BytesIO(body)
    try:
        version = npy.read_magic(stream)
        if b"L" in body[npy.MAGIC_LEN + 2 : body.find(b"}")]:  # numpy would read it, and warn on stderr
            raise ValueError("its header is one of Python 2, which wrote 3L for 3; save the array again")
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran_order, dtype = read_header(stream)
    except Exception as error:  # the header is a Python literal, whose parsing fails in many ways, all the client's
        raise InvalidRequestError(f"the body is not an .npy file of version 1 or 2: {error}") from error
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise InvalidRequestError(f"the array's dtype is {dtype}, expected float32, float64 or an integer type")
    expected = f"({n_features},)" if kind.ndim == 1 else f"(n, {n_features})"
    if len(shape) != kind.ndim or shape[-1] != n_features or shape[0] < 0:
        raise InvalidRequestError(f"the array's shape is {faults.shown(shape)}, expected {expected}")
    if shape[0] == 0:
        raise InvalidRequestError(f"events is empty, expected {kind.wanted}")
    data = memoryview(body)[stream.tell() :]
    promised = dtype.itemsize * n_features * (shape[0] if kind.ndim == 2 else 1)
    if len(data) != promised:
        raise InvalidRequestError(f"the array holds {len(data)} bytes, expected {promised} for its shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")


def _encode_array(scores: NDArray[np.float32] | np.float32, media_type: str) -> bytes:
    array = np.asarray(scores, LITTLE_FLOAT32)
    if media_type == RAW:
        return array.tobytes()
    stream = io.BytesIO()
    npy.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _require_finite(scores: NDArray[np.float32]) -> None:
    if not np.isfinite(scores).all():
        place = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise NonFiniteScoreError(f"the model gave the score {scores[place]} for events[{place}]; no score was sent")


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

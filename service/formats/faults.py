"""The first fault in a refused payload, in words: the place, the value and what was expected.

This is the slow path, taken only by wrong requests. It does not know HTTP and refuses nothing itself.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

REASON_CHARACTERS = 200
"""Of a library's words, which may repeat themselves for each level of a document."""

SHOWN_CHARACTERS = 60

FLOAT32_END = 2.0**128 - 2.0**103
"""The smallest number that float32 rounds to infinity: half a step above its largest."""

NUMBERS = frozenset({int, float})
"""The very types of decoded numbers: bool, a kind of int to Python, is none of them."""

KINDS: dict[type, str] = {
    list: "a list",
    dict: "an object",
    bytes: "bytes",
    msgspec.msgpack.Ext: "an extension",
    datetime: "a timestamp",
}

Key = Literal["features", "events"]
"""What a request carries: the features of one event, or events."""


TOO_DEEP = "the body is not valid {} for this service: it is nested too deeply"
MSGPACK_HEAD = re.compile(rb"(?s)[\x80-\x8f]|\xde(..)|\xdf(....)")
"""The start of a map."""


class RepeatedKeyError(Exception):
    """A JSON object has a key more than once."""


class Written(str):
    """A number of a JSON body as it was written: as a float, 1e400 is infinity."""

    __slots__ = ()


def json_fault(
    body: bytes, key: Key, feature_names: Sequence[str], cut_rows: int = 0, cut_bytes: int = 0
) -> str | None:
    """Find the first fault of a JSON body; None if it has none that can be found here.

    `cut_rows` good rows of `cut_bytes` have been cut out of the body, before its first row.
    """
    try:
        document = _parse_json(body.decode())
    except UnicodeDecodeError as error:
        return f"the body is not UTF-8: {error.reason} at byte {cut_bytes + error.start}"
    except json.JSONDecodeError as error:
        place = cut_bytes + len(error.doc[: error.pos].encode())
        return f"the body is not valid JSON: {error.msg} at byte {place}"
    except RecursionError:
        return TOO_DEEP.format("JSON")
    except RepeatedKeyError as error:
        return str(error)
    return document_fault(document, key, feature_names, lambda row: _event_as_written(body, key, row), cut_rows)


def msgpack_fault(
    body: bytes, key: Key, feature_names: Sequence[str], cut_rows: int = 0, cut_bytes: int = 0
) -> str | None:
    """Find the first fault of a MessagePack body; None if it has none that can be found here.

    `cut_rows` and `cut_bytes` are those of `json_fault`.
    """
    try:
        document = msgspec.msgpack.decode(body)
    except RecursionError:
        return TOO_DEEP.format("MessagePack")
    except ValueError as error:  # msgspec's own errors, and text that is not UTF-8
        reason = re.sub(r"(?<=\(byte )\d+", lambda place: str(cut_bytes + int(place[0])), str(error))
        return f"the body is not valid MessagePack: {reason[:REASON_CHARACTERS]}"
    if isinstance(document, dict) and len(document) < n_keys(body):
        return repeated(key) if key in document else "the body has a key more than once"
    return document_fault(document, key, feature_names, cut_rows=cut_rows)


def document_fault(
    document: Any,
    key: Key,
    feature_names: Sequence[str],
    read_again: Callable[[int], Any] | None = None,
    cut_rows: int = 0,
) -> str | None:
    """Find the first fault of a decoded JSON or MessagePack body, or None.

    The row of the first wrong event goes to `read_again`, which gives the event as the message shall show it, or None.
    The row in the message is `cut_rows` more.
    """
    if not isinstance(document, dict):
        return f'the body is {shown(document)}, expected an object with the key "{key}"'
    for name in document:
        if name != key:
            return f'unknown key {shown(name)}, expected "{key}"'
    if key not in document:
        return f'missing key "{key}"'
    events = [document[key]] if key == "features" else document[key]
    if not isinstance(events, list):
        return f"events is {shown(events)}, expected a list of events"
    if not events:
        return "events is empty, expected at least 1 event"
    for row, event in enumerate(events):
        if not is_event(event, len(feature_names)):
            shown_event = read_again(row) if read_again else None
            place = "features" if key == "features" else f"events[{cut_rows + row}]"
            return event_fault(event if shown_event is None else shown_event, place, feature_names)
    return None


def is_event(event: Any, n_features: int) -> bool:
    """Tell whether a decoded event has no fault, without putting it in words: a batch may have a million of them."""
    return (
        isinstance(event, list)
        and len(event) == n_features
        and NUMBERS.issuperset(map(type, event))
        and all(-FLOAT32_END < value < FLOAT32_END for value in event)
    )


def event_fault(event: Any, place: str, feature_names: Sequence[str]) -> str | None:
    """Find the first fault of one event, or None."""
    if not isinstance(event, list):
        return f"{place} is {shown(event)}, expected a list of {len(feature_names)} numbers"
    if len(event) != len(feature_names):
        subject = "the event" if place == "features" else place
        return f"{subject} has {len(event)} features, expected {len(feature_names)}"
    faults = (
        number_fault(value, f"{place}[{column}] ({name})")
        for column, (value, name) in enumerate(zip(event, feature_names, strict=True))
    )
    return next((fault for fault in faults if fault), None)


def number_fault(value: Any, place: str) -> str | None:
    """Find the fault of one feature, or None."""
    number = float(value) if isinstance(value, Written) else value
    if type(number) not in NUMBERS:
        return f"{place} is {shown(value)}, expected a number"
    if -FLOAT32_END < number < FLOAT32_END:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return f"{place} is {shown(value)}, expected a finite number"
    return f"{place} is {shown(value)}, which is not finite as float32"


def array_fault(
    given: NDArray[Any], features: NDArray[np.float32], key: Key, feature_names: Sequence[str], cut_rows: int = 0
) -> str:
    """Name the first number of `given`, of any shape, that is not finite in `features` (n, n_features).

    The row in the message is `cut_rows` more.
    """
    row, column = np.argwhere(~np.isfinite(features))[0]
    place = f"features[{column}]" if key == "features" else f"events[{cut_rows + row}][{column}]"
    value = given.reshape(features.shape)[row, column].item()
    return number_fault(value, f"{place} ({feature_names[column]})") or f"{place} is not finite"


def shown(value: Any) -> str:
    """Write a value as a message shows it: numbers and texts cut if long, all else by its kind."""
    for kind, name in KINDS.items():
        if isinstance(value, kind):
            return name
    if isinstance(value, Written):
        text = value.replace("e+", "e")
    elif isinstance(value, str):
        text = json.dumps(value[: SHOWN_CHARACTERS + 1], ensure_ascii=False)
    elif value is None or isinstance(value, bool):
        text = json.dumps(value)
    elif isinstance(value, float):
        text = repr(value).replace("e+", "e")
    else:
        try:
            text = repr(value)
        except ValueError:  # Python writes no int of more than 4300 digits
            text = "a number of more than 4300 digits"
    return cut(text)


def cut(text: str) -> str:
    """Take off the end of a long text."""
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def _parse_json(text: str) -> Any:
    """Parse JSON with plain numbers; the errors are those of json.loads, and no others."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python reads no int of more than 4300 digits, but any float
        return json.loads(text, parse_int=float, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object; raises RepeatedKeyError."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise RepeatedKeyError(repeated(name))
        found[name] = value
    return found


def repeated(name: str) -> str:
    """Say that a key is there more than once."""
    return f"the key {shown(name)} is there more than once"


def n_keys(body: bytes) -> int:
    """Tell how many keys a MessagePack body announces that is a map."""
    head = MSGPACK_HEAD.match(body)
    assert head is not None
    return int.from_bytes(head[head.lastindex]) if head.lastindex else body[0] & 0x0F


def _event_as_written(body: bytes, key: Key, row: int) -> Any:
    """Read one event of a JSON body again with its numbers as Written; None where that cannot be done.

    To find it, msgspec skips over the others: remembering the text of every number would cost a hundred times as much.
    """
    try:
        if key == "features":
            event = msgspec.json.decode(body, type=dict[str, msgspec.Raw])[key]
        else:
            event = msgspec.json.decode(body, type=dict[str, list[msgspec.Raw]])[key][row]
        return json.loads(bytes(event), parse_float=Written, parse_int=Written)
    except (ValueError, RecursionError):  # a NaN or the like somewhere else in the body
        return None

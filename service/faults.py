"""The first fault in a refused payload, in words: the place, the value and what was expected.

This is the slow path, taken only by wrong requests. It does not know HTTP and refuses nothing itself.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

SHOWN_CHARACTERS = 60

Key = Literal["features", "events"]
"""What a request carries: the features of one event, or events."""


class Written(float):
    """A number of a JSON body that remembers how it was written: as a float alone, 1e400 is infinity."""

    def __init__(self, text: str) -> None:
        self.text = text


def json_fault(body: bytes, key: Key, feature_names: Sequence[str]) -> str | None:
    """Find the first fault of a JSON body; None if it has none that can be found here."""
    try:
        document = json.loads(body.decode(), parse_float=Written, parse_int=Written)
    except UnicodeDecodeError as error:
        return f"the body is not UTF-8: {error.reason} at byte {error.start}"
    except json.JSONDecodeError as error:
        return f"the body is not valid JSON: {error.msg} at byte {len(error.doc[: error.pos].encode())}"
    except RecursionError:
        return "the body is not valid JSON for this service: it is nested too deeply"
    return document_fault(document, key, feature_names)


def msgpack_fault(body: bytes, key: Key, feature_names: Sequence[str]) -> str | None:
    """Find the first fault of a MessagePack body; None if it has none that can be found here."""
    try:
        document = msgspec.msgpack.decode(body)
    except RecursionError:
        return "the body is not valid MessagePack for this service: it is nested too deeply"
    except ValueError as error:  # msgspec's own errors, and text that is not UTF-8
        return f"the body is not valid MessagePack: {error}"
    return document_fault(document, key, feature_names)


def document_fault(document: Any, key: Key, feature_names: Sequence[str]) -> str | None:
    """Find the first fault of a decoded JSON or MessagePack body, or None."""
    if not isinstance(document, dict):
        return f'the body is {shown(document)}, expected an object with the key "{key}"'
    for name in document:
        if name != key:
            return f'unknown key {shown(name)}, expected "{key}"'
    if key not in document:
        return f'missing key "{key}"'
    value = document[key]
    if key == "features":
        return event_fault(value, "features", feature_names)
    if not isinstance(value, list):
        return f"events is {shown(value)}, expected a list of events"
    if not value:
        return "events is empty, expected at least 1 event"
    faults = (event_fault(event, f"events[{row}]", feature_names) for row, event in enumerate(value))
    return next((fault for fault in faults if fault), None)


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
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{place} is {shown(value)}, expected a number"
    with np.errstate(over="ignore"):
        if np.isfinite(np.float32(value)):
            return None
    if isinstance(value, Written) or np.isfinite(value):
        return f"{place} is {shown(value)}, which is not finite as float32"
    return f"{place} is {shown(value)}, expected a finite number"


def array_fault(given: NDArray[Any], features: NDArray[np.float32], key: Key, feature_names: Sequence[str]) -> str:
    """Name the first number of `given`, of any shape, that is not finite in `features` (n, n_features)."""
    row, column = np.argwhere(~np.isfinite(features))[0]
    place = f"features[{column}]" if key == "features" else f"events[{row}][{column}]"
    value = given.reshape(features.shape)[row, column].item()
    return number_fault(value, f"{place} ({feature_names[column]})") or f"{place} is not finite"


def shown(value: Any) -> str:
    """Write a value as a message shows it: lists and objects by their kind, long texts cut."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str):
        text = json.dumps(value[: SHOWN_CHARACTERS + 1], ensure_ascii=False)
    elif value is None or isinstance(value, bool):
        text = json.dumps(value)
    elif isinstance(value, Written):
        text = value.text
    elif isinstance(value, float):
        text = repr(value).replace("e+", "e")
    else:
        text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."

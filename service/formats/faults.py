"""Messages for faults in a body: the place, what was found and what was expected."""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Key = Literal["features", "events"]

SHOWN_CHARACTERS: Final = 60
FLOAT32_END: Final = 2.0**128 - 2.0**103
"""The smallest number that rounds to infinity in float32: half a step above its largest."""

FOUND: Final = {
    "None": "null",
    "array": "a list",
    "bool": "a boolean",
    "ext": "an extension",
    "float": "a number",
    "int": "a number",
    "object": "an object",
    "str": "a string",
}
"""Names of the types in msgspec's errors, and in messages."""

UNKNOWN_KEY: Final = re.compile(r"(?s)Object contains unknown field `(.*)`")
WRONG_TYPE: Final = re.compile(r"Expected `(.+)`, got `(.+?)`(?: - at `(key` in `)?\$\.?(.*)`)?$")
OUT_OF_RANGE: Final = re.compile(r"Number out of range - at `\$\.?(.*)\[(\d+)\]`$")
MALFORMED: Final = re.compile(r"malformed: (.*) \(byte (\d+)\)$")
TRUNCATED: Final = "Input data was truncated"
TRAILING: Final = "trailing characters"
WRITTEN: Final = re.compile(rb"[ \t\n\r]*([0-9.eE+-]+)")
"""A JSON number."""
NOT_FINITE: Final = re.compile(rb"NaN|Infinity")
LOOKAHEAD_BYTES: Final = 8
"""Bytes from the place of a fault that suffice to identify it."""


class Source(NamedTuple):
    """The data that msgspec decoded."""

    language: str
    """JSON or MessagePack."""
    key: Key
    feature_names: Sequence[str]
    place: str = ""
    """The place of the value, such as `events[3]`; empty for the whole body."""
    offset: int = 0
    """Bytes of the body before the data."""
    more: bool = False
    """Whether more data may follow."""


def decode_fault(error: Exception, data: bytes, source: Source) -> str | None:
    """Describe msgspec's error about `data`; None if the data is only incomplete."""
    text, key = str(error), f'"{source.key}"'
    if isinstance(error, UnicodeDecodeError):
        return f"the body is not valid {source.language}: it has text that is not UTF-8"
    if unknown := UNKNOWN_KEY.match(text):
        return f"unknown key {shown(unknown[1])}, expected {key}"
    if text.startswith("Object missing"):
        return f"missing key {key}"
    if wrong := WRONG_TYPE.match(text):
        return _type_fault(wrong, source)
    if beyond := OUT_OF_RANGE.match(text):
        place = named(source.place + beyond[1], int(beyond[2]), source.feature_names)
        # Only numbers precede it.
        number = data[data.index(b"[") + 1 :].split(b",", int(beyond[2]))[-1]
        written = WRITTEN.match(number)
        if written is None or (written.end() == len(number) and source.more):
            return None  # the number is incomplete
        return f"{place} is {cut(written[1].decode())}, which is not finite as float32"
    if malformed := MALFORMED.search(text):
        end = value_end(error)
        return _syntax_fault(malformed[1], int(malformed[2]) if end is None else end, data, source)
    return None if text == TRUNCATED else f"{source.place or 'the body'} cannot be read: {cut(text)}"


def _type_fault(wrong: re.Match[str], source: Source) -> str:
    expected, found, in_key, path = wrong.groups()
    place, n_features = source.place + (path or ""), len(source.feature_names)
    found = FOUND.get(found, found)
    if in_key:
        return f'a key is {found}, expected "{source.key}"'
    if expected == "object":
        return f'the body is {found}, expected an object with the key "{source.key}"'
    if expected == "float":
        place, _, column = place.removesuffix("]").rpartition("[")
        return f"{named(place, int(column), source.feature_names)} is {found}, expected a number"
    wanted = f"a list of {'events' if place == 'events' else f'{n_features} numbers'}"
    if found == "a string" and source.language == "MessagePack" and place == source.key:
        wanted += (
            ", or raw float32 as MessagePack's binary type, which an encoder of the old specification does not write"
        )
    return f"{place} is {found}, expected {wanted}"


def _syntax_fault(reason: str, start: int, data: bytes, source: Source) -> str | None:
    if source.more and start + LOOKAHEAD_BYTES >= len(data):
        return None  # it may be an incomplete number, or need more bytes
    if (word := NOT_FINITE.match(data, start)) and b"[" in data[:start]:
        found = float(b"-" * data.endswith(b"-", 0, start) + word[0])
        place = named(source.place or source.key, data.count(b",", 0, start), source.feature_names)
        return number_fault(found, place)
    return f"the body is not valid {source.language}: {reason} at byte {source.offset + start}"


def body_fault(decode: Callable[[bytes], object], data: bytes, source: Source) -> str | None:
    """Describe the fault of a whole body that was refused; None if it is only incomplete."""
    try:
        decode(data)
    except ValueError as error:
        return decode_fault(error, data, source)
    return repeated(source.key)


def row_fault(decode: Callable[[bytes], list[float]], data: bytes, source: Source) -> str | None:
    """Describe the fault of the row that `data` starts with; None if it is only incomplete."""
    try:
        row, end = decode(data), len(data)
    except ValueError as error:
        after = value_end(error)
        if after is None:
            return decode_fault(error, data, source)
        row, end = decode(data[:after]), after
    if len(row) != len(source.feature_names):
        return count_fault(source.place, row, source.feature_names)
    for column, value in enumerate(row):
        if not -FLOAT32_END < value < FLOAT32_END:
            return number_fault(value, named(source.place, column, source.feature_names))
    return None if end == len(data) else _syntax_fault("expected ',' or ']'", end, data, source)


def value_end(error: Exception) -> int | None:
    """Return the end of a value that msgspec refuses for trailing data; None for another error."""
    after = MALFORMED.search(str(error))
    if after is None or after[1] != TRAILING:
        return None
    return int(after[2]) - str(error).startswith("JSON")  # msgspec counts one byte too many here


def count_fault(place: str, row: Sequence[float], feature_names: Sequence[str]) -> str:
    """Describe a row with a wrong number of features."""
    return f"{place} has {len(row)} features, expected {len(feature_names)}"


def number_fault(value: float, place: str) -> str:
    """Describe a number that is not finite, or not finite as float32."""
    written = repr(value).replace("e+", "e")
    if math.isfinite(value):
        return f"{place} is {written}, which is not finite as float32"
    return f"{place} is {written}, expected a finite number"


def array_fault(
    given: NDArray[Any], features: NDArray[np.float32], key: Key, names: Sequence[str], first: int = 0
) -> str:
    """Describe the first number of `given`, of any shape, that is not finite in `features` (n, n_features).

    `first` is the number of the first row.
    """
    row, column = np.argwhere(~np.isfinite(features))[0]
    place = named("features" if key == "features" else f"events[{first + row}]", column, names)
    return number_fault(given.reshape(features.shape)[row, column].item(), place)


def repeated(key: str) -> str:
    """Describe a repeated key."""
    return f'the key "{key}" appears more than once'


def ends_early(language: str, n_bytes: int) -> str:
    """Describe a body that ends before its document."""
    return f"the body is not valid {language}: it ends early, at byte {n_bytes}"


def shown(text: str) -> str:
    """Quote a client's text for a message."""
    return cut(json.dumps(text[: SHOWN_CHARACTERS + 1], ensure_ascii=False))


def cut(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """Truncate a long text."""
    return text if len(text) <= most else text[:most] + "..."


def named(place: str, column: int, feature_names: Sequence[str]) -> str:
    """Name a feature of a row."""
    name = f" ({feature_names[column]})" if column < len(feature_names) else ""
    return f"{place}[{column}]{name}"

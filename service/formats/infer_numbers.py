"""The numbers of an input that is one JSON list, read by msgspec if C cannot read them or finds a fault."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from service.formats import faults
from service.formats.faults import Source
from service.formats.json import SPACE

FLAT_BYTES: Final = 16_384
"""Bytes of a list of numbers that are read at once, in at most two milliseconds."""

FLAT_EVENTS: Final = 1024
"""Events of such a list in a block if C does not read it, which takes several times as long."""

SEPARATOR: Final = re.compile(rb"[],]")

NUMBER: Final = re.compile(r"`\$\[(\d+)\]`$")

decode_numbers = msgspec.json.Decoder(list[float]).decode


def last_separator(data: bytes, start: int) -> int:
    """Find the comma or the bracket up to which data[start:] is read at once; -1 if there is none."""
    if (end := data.find(b"]", start, start + FLAT_BYTES)) >= 0:
        return end
    if (end := data.rfind(b",", start, start + FLAT_BYTES)) >= 0:
        return end
    # A single number, or the whitespace around it, is longer.
    return found.start() if (found := SEPARATOR.search(data, start + FLAT_BYTES)) else -1


def numbers_fault(error: Exception, text: bytes, names: Sequence[str], first: int, n_pending: int) -> str:
    """Describe the fault of refused numbers, in the row of the error.

    `n_pending` numbers of the row `first` were read before.
    """
    n_features = len(names)
    parts = [b"0"] * n_pending + text.split(b",")
    number = n_pending + _wrong_number(error, text)
    start = number - number % n_features
    row = b",".join(parts[start : start + n_features])
    source = Source("JSON", "events", names, f"events[{first + start // n_features}]")
    if not row.strip(SPACE):
        return f"the data of inputs[0] has no number after a comma, in {source.place}"
    try:
        decode_numbers(b"[" + row + b"]")
        fault = None
    except ValueError as of_row:
        fault = faults.decode_fault(of_row, b"[" + row + b"]", source)
    if fault is not None and not fault.startswith("the body"):
        return fault
    for column, part in enumerate(row.split(b",")):
        if part.strip(SPACE).startswith(b'"'):
            return f"{faults.named(source.place, column, names)} is a string, expected a number"
    return f"{source.place} is not valid JSON: {faults.shown(row.decode(errors='replace'))}"


def _wrong_number(error: Exception, text: bytes) -> int:
    """Return the index of the number in `text` that an error of msgspec about the list is for."""
    if by_place := NUMBER.search(str(error)):
        return int(by_place[1])
    if by_byte := faults.MALFORMED.search(str(error)):
        return text.count(b",", 0, max(int(by_byte[2]) - 1, 0))
    quote = text.find(b'"')  # the text does not end before the bracket
    return text.count(b",", 0, quote if quote >= 0 else len(text))

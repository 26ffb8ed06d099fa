"""Reads short inference requests that have arrived in whole: the hot path."""

import math
import re
import struct
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from service.formats.format import BLOCK_EVENTS, LITTLE_FLOAT32, Rows
from service.formats.infer_documents import (
    DATA,
    PLACE,
    RAW_REQUEST,
    TEXT_BYTES,
    CheckInput,
    InferRequest,
    check_binary,
    decode,
    only_input,
)
from service.formats.infer_reader import InferReader
from service.formats.json import END, read_event, read_flat_rows, read_rows
from service.formats.raw import count_events

_event_struct = cache(lambda n_features: struct.Struct(f"<{n_features}f"))


def read_infer(
    body: bytes, feature_names: Sequence[str], max_events: int, json_bytes: int | None, check_input: CheckInput
) -> tuple[InferRequest, Rows]:
    """Read a whole body: the request, and its events as (n, n_features) finite float32; raises InvalidRequestError.

    Raises TooManyEventsError for more events than `max_events` or BLOCK_EVENTS. This is the hot path.
    """
    read = _read_text if json_bytes is None or json_bytes == len(body) else _read_binary
    found = read(body, len(feature_names), json_bytes or 0, check_input)
    if found is not None and len(found[1]) <= max_events:
        return found
    reader = InferReader(feature_names, min(max_events, BLOCK_EVENTS), json_bytes, check_input)
    rows = next(reader.feed(body, last=True))
    reader.check_count()
    assert reader.request is not None
    return reader.request, rows


class EventText(NamedTuple):
    """The text around the numbers of one event in a body: other bodies with the same text ask for the same."""

    before: bytes
    after: bytes
    binary: bool

    def read(self, body: bytes, rows: Rows, place: int) -> bool:
        """Read a body with one event into rows[place]; return False if its text differs or its numbers are wrong.

        This is the hot path.
        """
        start = len(self.before)
        if not body.startswith(self.before):
            return False
        if not self.binary:
            end = read_event(body, start, rows, place)
            return end > 0 and body[end:] == self.after
        layout = _event_struct(rows.shape[1])
        if len(body) - start != layout.size:
            return False
        numbers = layout.unpack_from(body, start)
        rows[place] = numbers
        return math.isfinite(sum(numbers))  # sums of finite float32 in double precision are finite


def find_event(body: bytes, json_bytes: int | None, n_features: int) -> EventText | None:
    """Find the text around the single event of a parsed body; None if a simple search does not find it."""
    if json_bytes is not None and json_bytes != len(body):
        return EventText(body[:json_bytes], b"", binary=True)
    begin = DATA.search(body)
    if begin is None:
        return None
    nested = body[begin.end() : begin.end() + 1] == b"["
    start, scratch = begin.end() if nested else begin.start(1), np.empty((1, n_features), np.float32)
    end = read_event(body, start, scratch, 0)
    return EventText(body[:start], body[end:], binary=False) if end > 0 else None


def _read_binary(
    body: bytes, n_features: int, json_bytes: int, check_input: CheckInput
) -> tuple[InferRequest, Rows] | None:
    """Read a body whose input follows the JSON; None for one that needs an InferReader."""
    request, n_bytes = RAW_REQUEST, len(body) - json_bytes
    if json_bytes:
        request = decode(body[:json_bytes])
        tensor = only_input(request)
        n_events = check_input(tensor.name, tensor.datatype, tensor.shape)
        if n_bytes != check_binary(tensor, json_bytes, n_events, n_features):
            return None
    else:
        n_events = count_events(n_bytes, n_features, "the body is")
    # A copy, since the numbers may be unaligned.
    rows = np.frombuffer(body[json_bytes:], LITTLE_FLOAT32).reshape(n_events, n_features)
    return (request, rows) if np.isfinite(rows).all() else None


def _read_text(body: bytes, n_features: int, _: int, check_input: CheckInput) -> tuple[InferRequest, Rows] | None:
    """Read a body that is all JSON; None for one that needs an InferReader."""
    if (begin := DATA.search(body, 0, TEXT_BYTES)) is None or (found := _read_list(body, begin, n_features)) is None:
        return None
    rows, end = found
    before, after = body[: begin.start(1)], body[end:]
    if PLACE in before or PLACE in after:
        return None
    request = decode(before + PLACE + after)
    tensor = only_input(request)
    n_events = check_input(tensor.name, tensor.datatype, tensor.shape)
    return (request, rows) if n_events == len(rows) and bytes(tensor.data) == PLACE else None


def _read_list(body: bytes, begin: re.Match[bytes], n_features: int) -> tuple[Rows, int] | None:
    """Read a list of finite rows (n, n_features), and return them with its end; None if it is no such list."""
    start = begin.end()
    read = read_rows if body[start : start + 1] == b"[" else read_flat_rows
    block = np.empty((min(BLOCK_EVENTS, len(body) // (2 * n_features)), n_features), np.float32)
    n_events, end, state = read(body, start, block, 0)
    return (block[:n_events], end) if state == END else None

"""JSON: documents of lists of numbers, whose rows are read by _json_rows.c if it was built."""

import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, ClassVar, Final

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats import faults
from service.formats.documents import DocumentFormat, DocumentReader
from service.formats.format import (
    AT_LEAST_ONE,
    BLOCK_EVENTS,
    EVENT_BYTES_PER_FEATURE,
    LITTLE_FLOAT32,
    Accepted,
    Rows,
    Scores,
    longest_event,
    slices,
)

MORE, FULL, END, ODD = range(4)
"""The reasons why reading rows stops: see _json_rows.pyi."""

SPACE: Final = b" \t\n\r"
# Each letter of the key may be an escape of four digits.
KEY: Final = b'"' + b"".join(rb"(?:%c|\\u00(?i:%02x))" % (letter, letter) for letter in b"events") + b'"'
START: Final = re.compile(rb"[ \t\n\r]*\{[ \t\n\r]*" + KEY + rb"[ \t\n\r]*:[ \t\n\r]*\[")
AGAIN: Final = re.compile(rb",[ \t\n\r]*" + KEY)
LIST: Final = re.compile(rb"[ \t\n\r]*(\[[0-9+\-.eE, \t\n\r]*\])[ \t\n\r]*")
ROW: Final = re.compile(LIST.pattern + b"([],])")
PLAIN_EVENT_START: Final = b'{"features":'
EVENT_START: Final = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"features"[ \t\n\r]*:')
FIRST_KEY_BYTES: Final = len('{"features":[],"features')
"""A later quote ends another key than the first."""


class EventBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request for one event."""

    features: list[float]


class EventsBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request for a batch."""

    events: list[list[float]]


DECODE_EVENT: Final = msgspec.json.Decoder(EventBody).decode


def read_rows_slowly(data: bytes, start: int, block: Rows, filled: int) -> tuple[int, int, int]:
    """Read rows as _json_rows.c does, to the same numbers."""
    decode, pack_into = json.JSONDecoder(parse_int=float).decode, struct.Struct(f"={block.shape[1]}f").pack_into
    for row in range(filled, len(block)):
        written = ROW.match(data, start)
        if written is None:
            return row - filled, start, ODD  # or incomplete: the row is read again with what follows
        try:
            numbers = decode(written[1].decode())
            pack_into(block.data, row * block.strides[0], *numbers)
        except (ValueError, OverflowError, struct.error):
            return row - filled, start, ODD
        if not all(map(math.isfinite, numbers)):
            return row - filled, start, ODD
        start = written.end()
        if written[2] == b"]":
            return row - filled + 1, start, END
    return len(block) - filled, start, FULL


def read_event_slowly(data: bytes, start: int, block: Rows, place: int) -> int:
    """Read a list as _json_rows.c does, to the same numbers."""
    written = LIST.match(data, start)
    # As a row that is the last one of a list.
    read = written is not None and read_rows_slowly(written[1] + b"]", 0, block[: place + 1], place)
    return -1 if written is None or not read or read[2] != END else written.end()


def read_no_flat_rows(_data: bytes, start: int, _block: Rows, _filled: int) -> tuple[int, int, int]:
    """Read nothing, so that msgspec reads the list of numbers."""
    return 0, start, ODD


try:
    from service.formats._json_rows import read_event as read_event
    from service.formats._json_rows import read_flat_rows as read_flat_rows
    from service.formats._json_rows import read_rows as read_rows
except ImportError:  # there was no compiler when the service was installed
    read_event, read_flat_rows, read_rows = read_event_slowly, read_no_flat_rows, read_rows_slowly

READS_IN_C: Final = read_rows is not read_rows_slowly
"""Whether _json_rows.c was built."""


class JsonReader(DocumentReader):
    """Reads a batch."""

    language = "JSON"
    decode_body = msgspec.json.Decoder(EventsBody).decode
    decode_row = msgspec.json.Decoder(list[float]).decode
    read_rows: Callable[[bytes, int, Rows, int], tuple[int, int, int]] = staticmethod(read_rows)

    def __init__(self, feature_names: Sequence[str], max_events: int) -> None:
        super().__init__(feature_names, max_events)
        self._parsed = np.empty((BLOCK_EVENTS, len(feature_names)), np.float32)
        self._end = b""
        self._state = MORE
        self._started = False

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        data, self._rest, start = self._rest + piece if self._rest else piece, b"", 0
        if not self._started:
            if (head := START.match(data)) is None:
                self._refuse(data, last)
                return
            self._started, start = True, head.end()
        yield from self._list(data, start, last)

    def _list(self, data: bytes, start: int, last: bool) -> Iterator[NDArray[Any]]:
        """Yield the rows in data[start:], which starts in the list of rows or after it."""
        self._state = self._state if self._state == END else FULL
        while self._state == FULL:
            n_rows, start, self._state = self.read_rows(data, start, self._parsed, 0)
            yield self._parsed[:n_rows]
        rest = data[start:] if start else data
        if self._state == END:
            self._read_end(rest, last)
        elif self._state == ODD or last or len(rest) > longest_event(len(self._names)):
            if not self._read and rest.lstrip(SPACE).startswith(b"]"):
                raise InvalidRequestError(f"events is empty, {AT_LEAST_ONE}")
            self._refuse(rest, last, f"events[{self._read}]")
        else:
            self._rest = rest

    def _read_end(self, data: bytes, last: bool) -> None:
        """Read the closing brace after the list."""
        rest = data.lstrip(SPACE)
        if not self._end and rest.startswith(b"}"):
            self._end, rest = b"}", rest[1:].lstrip(SPACE)
        if AGAIN.match(rest) and not self._end:
            raise InvalidRequestError(faults.repeated("events"))
        if rest or (last and not self._end):
            self._refuse(rest, last, before=b'{"events":[]' + self._end)


class Json(DocumentFormat):
    """JSON documents."""

    media_type = "application/json"
    parameters: ClassVar = {"charset": ("utf-8",)}
    feature_bytes = 20  # all digits of a float64 and a comma
    language = "JSON"
    decode_event = DECODE_EVENT

    def read_event(self, body: bytes, feature_names: Sequence[str]) -> Rows:
        """Read one event; this is the hot path."""
        pack, most = event_layout(len(feature_names))
        if len(body) <= most:
            # Packing refuses another number of features, and numbers that float32 would round to infinity.
            try:
                row = pack(*DECODE_EVENT(body).features)
                if body.rfind(b'"') < FIRST_KEY_BYTES:
                    return np.frombuffer(row, LITTLE_FLOAT32).reshape(1, len(feature_names))
            except (ValueError, OverflowError, struct.error):
                pass  # described below
        return super().read_event(body, feature_names)

    def read_event_into(self, feature_names: Sequence[str], body: bytes, rows: Rows, place: int) -> None:
        """Read one event into rows[place]; this is the hot path."""
        _, most = event_layout(len(feature_names))
        if len(body) <= most:
            # Nearly all bodies start like this, and a regular expression takes as long as reading the numbers.
            if body.startswith(PLAIN_EVENT_START):
                start = len(PLAIN_EVENT_START)
            else:
                start = found.end() if (found := EVENT_START.match(body)) is not None else len(body)
            end = read_event(body, start, rows, place)
            if end > 0 and body[end:] == b"}":
                return
        super().read_event_into(feature_names, body, rows, place)

    def _has_one_key(self, body: bytes) -> bool:
        return body.count(b'"') == 2  # numbers have none

    def read_batch(self, body: bytes, feature_names: Sequence[str], max_events: int) -> Rows:
        """Read a whole body; this is the hot path."""
        if (head := START.match(body)) is not None:
            n_rows = min(max_events, BLOCK_EVENTS, len(body) // (2 * len(feature_names)))
            block = np.empty((n_rows, len(feature_names)), np.float32)
            n_rows, end, state = read_rows(body, head.end(), block, 0)
            if state == END and body[end:].strip(SPACE) == b"}":
                return block[:n_rows]
        return super().read_batch(body, feature_names, max_events)

    def open_batch(self, feature_names: Sequence[str], max_events: int) -> JsonReader:
        """Make a reader for one body."""
        return JsonReader(feature_names, max_events)

    def write_score(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write an object with the score."""
        one = (
            {"anomaly_score": scores[0]} if accepted is None else {"anomaly_score": scores[0], "accepted": accepted[0]}
        )
        return orjson.dumps(one, option=orjson.OPT_SERIALIZE_NUMPY)

    def write_scores(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write an object with a list of scores."""
        many = {"anomaly_scores": scores} if accepted is None else {"anomaly_scores": scores, "accepted": accepted}
        return orjson.dumps(many, option=orjson.OPT_SERIALIZE_NUMPY)

    def _write(self, document: dict[str, Any]) -> bytes:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)

    def write_pieces(self, scores: Scores, accepted: Accepted | None = None) -> Iterator[bytes]:
        """Write an object with a list of scores in pieces."""
        yield b'{"anomaly_scores":['
        yield from write_items(scores)
        if accepted is not None:
            yield b'],"accepted":['
            yield from write_items(accepted)
        yield b"]}"


@cache
def event_layout(n_features: int) -> tuple[Callable[..., bytes], int]:
    """Return the function that packs an event as float32, and the maximum length of a body for it."""
    return struct.Struct(f"<{n_features}f").pack, EVENT_BYTES_PER_FEATURE * n_features


def write_items(values: Scores | Accepted) -> Iterator[bytes]:
    """Write the content between the brackets of a list, in pieces."""
    comma = b""
    for few in slices(values):
        yield comma + orjson.dumps(few, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        comma = b","


JSON: Final = Json()

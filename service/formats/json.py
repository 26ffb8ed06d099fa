"""Batches in JSON: `{"events": [[numbers], ...]}`.

The rows are read by _json_rows.c where it could be built, else by simdjson, to the same numbers. It does not know other
formats, nor what is wrong with rows that it cannot read: see faults.py.
"""

import json
import re
import struct
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final

import msgspec
import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats import faults, starts
from service.formats.format import (
    BLOCK_EVENTS,
    LITTLE_FLOAT32,
    Accepted,
    BatchReader,
    Content,
    Format,
    Rows,
    Scores,
    longest_event,
)

try:
    from service.formats import _json_rows
except ImportError:  # there was no compiler when the service was installed
    _json_rows = None  # type: ignore[assignment]

COMPILED: Final = _json_rows is not None

SPACE: Final = b" \t\n\r"
# Each letter of the key may be an escape of four digits.
KEY: Final = b"".join(rb"(?:%c|\\u00(?i:%02x))" % (letter, letter) for letter in b"events")
HEAD: Final = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"' + KEY + rb'"[ \t\n\r]*:[ \t\n\r]*\[')
TAIL: Final = re.compile(rb"\][ \t\n\r]*\}?[ \t\n\r]*")
SEGMENT_BYTES: Final = 65_536
"""simdjson reads so much at once, or one longer row."""

NUMBERS: Final = b"0123456789+-.eE" + SPACE
"""What a row's text has beside its brackets and commas."""


FIRST_KEY_BYTES: Final = len('{"features":[],"features')
"""A quote of JSON that comes later ends another key than the first."""


class EventBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request for one event."""

    features: list[float]


DECODE_EVENT: Final = msgspec.json.Decoder(EventBody).decode


class EventsBody(msgspec.Struct, forbid_unknown_fields=True):
    """What the body holds."""

    events: list[list[float]]


DECODE_BODY: Final = msgspec.json.Decoder(EventsBody).decode


class JsonReader(BatchReader):
    """Reads a batch in JSON: its head, and what is wrong with a body."""

    def __init__(self, feature_names: Sequence[str], max_events: int) -> None:
        super().__init__(feature_names, max_events)
        self._head = b""
        self._passed_bytes = 0
        self._longest_shown = longest_event(len(feature_names))

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        data = self._rest + piece if self._rest else piece
        self._rest = b""
        if not self._head:
            head = HEAD.match(data)
            if head is None:  # what is wrong with it can be said once enough of it is here
                if len(data) > self._longest_shown:
                    raise InvalidRequestError(starts.json_start_fault(data[: self._longest_shown], "events"))
                if last:
                    raise self._refusal(data)
                self._rest = data
                return
            self._head, data = head.group(), data[head.end() :]
        yield from self._listed_rows(data, last)

    @abstractmethod
    def _listed_rows(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Give the rows at the start of `data`, and leave what is not complete in `_rest`."""

    def _read_document(self, document: bytes) -> NDArray[np.float64]:
        """Read some of the rows, number by number."""
        reason = "it does not hold what this route expects"
        try:
            rows = np.array(DECODE_BODY(document).events, np.float64)
            # Numbers have no quotes: more of them are the same key again.
            if rows.ndim == 2 and rows.shape[1] == len(self._names) and document.count(b'"') == 2:
                return rows
        except (ValueError, RecursionError) as error:  # msgspec's and those of UTF-8 and ragged rows are ValueErrors
            reason = str(error)
        raise self._refusal(document, reason)

    def _refusal(self, document: bytes, reason: str = "it does not hold rows of numbers") -> InvalidRequestError:
        """Name the first fault of a document that is the body without the rows that have passed."""
        fault = faults.json_fault(document, "events", self._names, self._read, self._passed_bytes)
        return InvalidRequestError(fault or f"the body cannot be read: {reason[: faults.REASON_CHARACTERS]}")

    def _cut_refusal(self, start: bytes) -> InvalidRequestError:
        """Name the first fault of a document that goes on after `start`: where that has none, a row is too long."""
        if starts.is_json_so_far(start):
            found = f"events[{self._read}] does not end within {self._longest_shown} bytes"
            return InvalidRequestError(f"{found}, expected a list of {len(self._names)} numbers")
        return self._refusal(start)


class CompiledReader(JsonReader):
    """Reads rows by _json_rows.c, which takes all that JSON allows: what it does not take is wrong."""

    def __init__(self, feature_names: Sequence[str], max_events: int) -> None:
        super().__init__(feature_names, max_events)
        self._parsed = np.empty((BLOCK_EVENTS, len(feature_names)), np.float32)
        self._state = _json_rows.MORE

    def _listed_rows(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        start = 0
        while self._state == _json_rows.MORE:
            n_rows, stop, self._state = _json_rows.read_rows(data, start, self._parsed, 0)
            if self._state == _json_rows.END:
                stop -= 1  # the bracket is left for the tail
            self._passed_bytes += stop - start
            start = stop
            yield self._parsed[:n_rows]
            if self._state == _json_rows.FULL:
                self._state = _json_rows.MORE
            elif self._state == _json_rows.MORE:
                break
        self._rest = data[start:]
        if self._state == _json_rows.END:
            spaced = TAIL.match(self._rest)[0]  # type: ignore[index]  # with any amount of space
            tail = spaced.translate(None, SPACE)
            self._passed_bytes += len(spaced) - len(tail)
            self._rest = tail + self._rest[len(spaced) :]
            # What is wrong with it can be said once enough of it is here.
            if len(self._rest) > self._longest_shown:
                raise self._end_refusal(self._rest[: self._longest_shown])
            if last and self._rest != b"]}":
                raise self._refusal(self._head + self._rest)
        elif len(self._rest) > self._longest_shown:
            raise self._row_refusal(self._rest[: self._longest_shown])
        elif last:
            # Only a comma, which has passed, makes the list's end wrong after rows.
            comma = b"0," if self._read and self._rest.lstrip(SPACE).startswith(b"]") else b""
            self._passed_bytes -= len(comma)
            raise self._refusal(self._head + comma + self._rest)

    def _row_refusal(self, text: bytes) -> InvalidRequestError:
        """Name the fault of the row that `text` starts with; what follows the row goes on somewhere else."""
        characters = text.decode(errors="replace").lstrip()
        try:
            _, end = json.JSONDecoder().raw_decode(characters)
        except (ValueError, RecursionError):
            return self._cut_refusal(self._head + text)
        return self._refusal(self._head + characters[:end].encode() + b"]}")

    def _end_refusal(self, text: bytes) -> InvalidRequestError:
        """Name the fault of what follows the last row, of which `text` is the start."""
        stripped = text[1:].lstrip(SPACE)
        if stripped.startswith(b","):
            fault = starts.json_key_fault(stripped[1:], "events")
            if fault:
                return InvalidRequestError(fault)
        return self._refusal(self._head + text)


class SimdjsonReader(JsonReader):
    """Reads rows by simdjson, in segments of whole rows.

    simdjson parses a segment's numbers straight into one array, whatever the rows' lengths. So the segment's text
    without its numbers must be, byte for byte, that of rows of the right length.
    """

    def __init__(self, feature_names: Sequence[str], parser: simdjson.Parser, max_events: int) -> None:
        super().__init__(feature_names, max_events)
        self._parser = parser
        self._row = b"[" + b"," * (len(feature_names) - 1) + b"],"

    def _listed_rows(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        start = 0
        while len(data) - start > SEGMENT_BYTES:
            # A row starts at this bracket: before it are whole rows, each with its comma.
            end = data.rfind(b"[", start + 1, start + SEGMENT_BYTES)
            if end < 0:
                end = data.find(b"[", start + SEGMENT_BYTES, start + self._longest_shown)
            if end < 0 and len(data) - start <= self._longest_shown:
                break
            if end < 0:
                raise self._cut_refusal(self._head + data[start : start + self._longest_shown])
            yield self._read_segment(data[start:end])
            self._passed_bytes += end - start
            start = end
        self._rest = data[start:]
        if last:
            yield self._read_last_segment(self._rest)

    def _read_segment(self, text: bytes) -> NDArray[Any]:
        """Read rows that are each followed by a comma."""
        skeleton = text.translate(None, NUMBERS)
        n_rows = len(skeleton) // len(self._row)
        if skeleton == self._row * n_rows:
            numbers = self._parse(b"[" + text + b"0]")  # a number to follow the last comma
            if numbers is not None:
                return numbers[:-1].reshape(n_rows, -1)
        stripped = text.rstrip(SPACE)
        if not stripped.endswith(b","):
            raise self._refusal(self._head + text + b"[]]}")
        return self._read_document(self._head + stripped[:-1] + b"]}")

    def _read_last_segment(self, text: bytes) -> NDArray[Any]:
        """Read the last rows, and the brackets that end their list and the object."""
        stripped = text.rstrip(SPACE)
        skeleton = stripped.translate(None, NUMBERS)
        n_rows = len(skeleton) // len(self._row)
        if n_rows and skeleton == (self._row * n_rows)[:-1] + b"]}":
            numbers = self._parse(b"[" + stripped[:-1])
            if numbers is not None:
                return numbers.reshape(n_rows, -1)
        return self._read_document(self._head + text)

    def _parse(self, text: bytes) -> NDArray[np.float64] | None:
        """Parse nested arrays into the numbers in them; None for what simdjson does not read, as very long integers."""
        try:
            parsed = self._parser.parse(text)
            return np.frombuffer(parsed.as_buffer(of_type="d")) if isinstance(parsed, simdjson.Array) else None
        except (ValueError, TypeError, RuntimeError):
            return None


class Json(Format):
    """JSON documents."""

    media_type = "application/json"

    def __init__(self) -> None:
        # Its documents live no longer than the call that parses them, and so one serves all bodies of a thread.
        self._parser = simdjson.Parser()

    def read_event(self, body: bytes, feature_names: Sequence[str]) -> Rows:
        """Read one event; this is the hot path."""
        pack, most = event_layout(len(feature_names))
        if len(body) <= most:
            # Packing refuses another number of features, and what float32 would round to infinity.
            try:
                row = pack(*DECODE_EVENT(body).features)
                if body.rfind(b'"') < FIRST_KEY_BYTES:
                    return np.frombuffer(row, LITTLE_FLOAT32).reshape(1, len(feature_names))
            except (ValueError, RecursionError, OverflowError, struct.error):
                pass  # explained below
        return super().read_event(body, feature_names)

    def _event(self, body: bytes, feature_names: Sequence[str]) -> NDArray[Any]:
        reason = "it does not hold what this route expects"
        try:
            features = DECODE_EVENT(body).features
            # Numbers have no quotes: more of them are the same key again.
            if body.count(b'"') == 2 and len(features) == len(feature_names):
                return np.array(features)
        except (ValueError, RecursionError) as error:  # msgspec's errors and those of UTF-8 are ValueErrors
            reason = str(error)
        fault = faults.json_fault(body, "features", feature_names)
        raise InvalidRequestError(fault or f"the body cannot be read: {reason[: faults.REASON_CHARACTERS]}")

    def open_batch(self, feature_names: Sequence[str], max_events: int) -> JsonReader:
        """Make a reader for one body."""
        if COMPILED:
            return CompiledReader(feature_names, max_events)
        return SimdjsonReader(feature_names, self._parser, max_events)

    def write_score(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write an object with the score."""
        written = (
            {"anomaly_score": scores[0]} if accepted is None else {"anomaly_score": scores[0], "accepted": accepted[0]}
        )
        return orjson.dumps(written, option=orjson.OPT_SERIALIZE_NUMPY)

    def write_scores(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write an object with a list of scores."""
        written = {"anomaly_scores": scores} if accepted is None else {"anomaly_scores": scores, "accepted": accepted}
        return orjson.dumps(written, option=orjson.OPT_SERIALIZE_NUMPY)

    def schema(self, content: Content) -> dict[str, Any]:
        """Describe the document."""
        return {"title": content.title, **content.document}


@cache
def event_layout(n_features: int) -> tuple[Callable[..., bytes], int]:
    """Give the function that packs an event as float32, and the most bytes of a body."""
    return struct.Struct(f"<{n_features}f").pack, longest_event(n_features)


JSON: Final = Json()

"""Batches in JSON: `{"events": [[numbers], ...]}`.

The rows are read by _json_rows.c where it could be built, else by simdjson, to the same numbers. It does not know other
formats, nor what is wrong with rows that it cannot read: see faults.py.
"""

import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import simdjson
from numpy.typing import NDArray

from service import faults
from service.errors import InvalidRequestError
from service.rows import BLOCK_EVENTS, RowReader

try:
    from service import _json_rows
except ImportError:  # there was no compiler when the service was installed
    _json_rows = None  # type: ignore[assignment]

COMPILED: Final = _json_rows is not None

SPACE: Final = b" \t\n\r"
HEAD: Final = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"events"[ \t\n\r]*:[ \t\n\r]*\[')
TAIL: Final = re.compile(rb"\][ \t\n\r]*\}[ \t\n\r]*")
HEAD_BYTES: Final = 1024
"""A body that has not come to its first row by then is read as a whole."""

SEGMENT_BYTES: Final = 65_536
"""simdjson reads so much at once; and what is wrong with a row shows within so many bytes."""

NUMBERS: Final = b"0123456789+-.eE" + SPACE
"""What a row's text has beside its brackets and commas."""


class EventsBody(msgspec.Struct, forbid_unknown_fields=True):
    """What the body holds."""

    events: list[list[float]]


DECODE_BODY: Final = msgspec.json.Decoder(EventsBody).decode


class JsonReader(RowReader):
    """Reads a batch in JSON: its head and end, and a body that does not start as most do."""

    def __init__(self, feature_names: Sequence[str]) -> None:
        super().__init__(feature_names)
        self._head = b""
        self._rest = b""
        self._passed_bytes = 0
        self._whole: bytearray | None = None

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        data = self._rest + piece if self._rest else piece
        self._rest = b""
        if self._whole is None and not self._head:
            head = HEAD.match(data)
            if head is not None:
                self._head, data = head.group(), data[head.end() :]
            elif last or len(data) >= HEAD_BYTES:
                self._whole = bytearray()
            else:
                self._rest = data
                return
        if self._whole is None:
            yield from self._listed_rows(data, last)
            return
        self._whole += data
        if last:
            yield self._read_document(bytes(self._whole))

    @abstractmethod
    def _listed_rows(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Give the rows at the start of `data`, and leave what is not complete in `_rest`."""

    def _read_document(self, document: bytes) -> NDArray[np.float64]:
        """Read the body, or what is left of it after the rows that have passed, number by number."""
        reason = "it does not hold what this route expects"
        try:
            rows = np.array(DECODE_BODY(document).events, np.float64)
            if document.count(b'"') > 2:  # numbers have none
                reason = 'the key "events" is there more than once'
            elif rows.ndim == 2 and rows.shape[1] == len(self._names):
                return rows
        except (ValueError, RecursionError) as error:  # msgspec's and those of UTF-8 and ragged rows are ValueErrors
            reason = str(error)
        raise self._refusal(document, reason)

    def _refusal(self, document: bytes, reason: str = "it does not hold rows of numbers") -> InvalidRequestError:
        """Name the first fault of a document that is the body without the rows that have passed."""
        fault = faults.json_fault(document, "events", self._names, self._read, self._passed_bytes)
        return InvalidRequestError(fault or f"the body cannot be read: {reason}")


class CompiledReader(JsonReader):
    """Reads rows by _json_rows.c, which takes all that JSON allows: what it does not take is wrong."""

    def __init__(self, feature_names: Sequence[str]) -> None:
        super().__init__(feature_names)
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
            if not last and self._rest.translate(None, SPACE) in (b"]", b"]}"):
                tail = self._rest.rstrip(SPACE)  # of which there may be any amount
                self._passed_bytes += len(self._rest) - len(tail)
                self._rest = tail
            elif not TAIL.fullmatch(self._rest):  # what else it is can be said once all of it is here
                self._whole, self._rest = bytearray(self._head + self._rest), b""
                if last:
                    yield self._read_document(bytes(self._whole))
        elif len(self._rest) > SEGMENT_BYTES:
            raise self._row_refusal(self._rest[:SEGMENT_BYTES])
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
            return self._refusal(self._head + text)
        return self._refusal(self._head + characters[:end].encode() + b"]}")


class SimdjsonReader(JsonReader):
    """Reads rows by simdjson, in segments of whole rows.

    simdjson parses a segment's numbers straight into one array, whatever the rows' lengths. So the segment's text
    without its numbers must be, byte for byte, that of rows of the right length.
    """

    def __init__(self, feature_names: Sequence[str], parser: simdjson.Parser) -> None:
        super().__init__(feature_names)
        self._parser = parser
        self._row = b"[" + b"," * (len(feature_names) - 1) + b"],"

    def _listed_rows(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        start = 0
        while len(data) - start > SEGMENT_BYTES:
            # A row starts at this bracket: before it are whole rows, each with its comma.
            end = data.rfind(b"[", start + 1, start + SEGMENT_BYTES)
            if end < 0:
                raise self._refusal(self._head + data[start : start + SEGMENT_BYTES])
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

"""Batches in JSON: `{"events": [[numbers], ...]}`, read in segments of whole rows.

It does not know other formats, nor what is wrong with a segment that it cannot read: see faults.py.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import simdjson
from numpy.typing import NDArray

from service import faults
from service.errors import InvalidRequestError
from service.rows import RowReader

SPACE: Final = b" \t\n\r"
HEAD: Final = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"events"[ \t\n\r]*:[ \t\n\r]*\[')
HEAD_BYTES: Final = 1024
"""A body that has not come to its first row by then is read as a whole."""

SEGMENT_BYTES: Final = 65_536

NUMBERS: Final = b"0123456789+-.eE" + SPACE
"""What a row's text has beside its brackets and commas."""


class EventsBody(msgspec.Struct, forbid_unknown_fields=True):
    """What the body holds."""

    events: list[list[float]]


DECODE_BODY: Final = msgspec.json.Decoder(EventsBody).decode


class JsonReader(RowReader):
    """Reads a batch in JSON.

    simdjson parses a segment's numbers straight into one array, whatever the rows' lengths. So the segment's text
    without its numbers must be, byte for byte, that of rows of the right length.
    """

    def __init__(self, feature_names: Sequence[str], parser: simdjson.Parser) -> None:
        super().__init__(feature_names)
        self._parser = parser
        self._head = b""
        self._passed_bytes = 0
        self._rest = b""
        self._whole: bytearray | None = None
        self._row = b"[" + b"," * (len(feature_names) - 1) + b"],"

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        if self._whole is None and not self._head:
            self._rest += piece
            piece = b""
            head = HEAD.match(self._rest)
            if head is not None:
                self._head, self._rest = head.group(), self._rest[head.end() :]
            elif last or len(self._rest) >= HEAD_BYTES:
                self._whole = bytearray(self._rest)
            else:
                return
        if self._whole is not None:
            self._whole += piece
            if last:
                yield self._read_whole(bytes(self._whole))
            return
        data = self._rest + piece
        start = 0
        while len(data) - start > SEGMENT_BYTES:
            # A row starts at this bracket: before it are whole rows, each with its comma.
            end = data.rfind(b"[", start + 1, start + SEGMENT_BYTES)
            if end < 0:
                raise self._refusal(self._head + data[start:] + b"]}")
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
        return self._read_odd_rows(stripped[:-1] + b"]}")

    def _read_last_segment(self, text: bytes) -> NDArray[Any]:
        """Read the last rows, and the brackets that end their list and the object."""
        stripped = text.rstrip(SPACE)
        skeleton = stripped.translate(None, NUMBERS)
        n_rows = len(skeleton) // len(self._row)
        if n_rows and skeleton == (self._row * n_rows)[:-1] + b"]}":
            numbers = self._parse(b"[" + stripped[:-1])
            if numbers is not None:
                return numbers.reshape(n_rows, -1)
        return self._read_odd_rows(text)

    def _parse(self, text: bytes) -> NDArray[np.float64] | None:
        """Parse nested arrays into the numbers in them; None for what simdjson does not read, as very long integers."""
        try:
            parsed = self._parser.parse(text)
            return np.frombuffer(parsed.as_buffer(of_type="d")) if isinstance(parsed, simdjson.Array) else None
        except (ValueError, TypeError, RuntimeError):
            return None

    def _read_odd_rows(self, tail: bytes) -> NDArray[np.float64]:
        """Read rows number by number; `tail` ends the list and the object."""
        return self._read_whole(self._head + tail)

    def _read_whole(self, document: bytes) -> NDArray[np.float64]:
        """Read a whole document, number by number."""
        reason = "it does not hold what this route expects"
        try:
            rows = np.array(DECODE_BODY(document).events, np.float64)
            if rows.ndim == 2 and rows.shape[1] == len(self._names):
                return rows
        except (ValueError, RecursionError) as error:  # msgspec's and those of UTF-8 and ragged rows are ValueErrors
            reason = str(error)
        raise self._refusal(document, reason)

    def _refusal(self, document: bytes, reason: str = "") -> InvalidRequestError:
        """Name the first fault of a document that is the body without the rows that have passed."""
        fault = faults.json_fault(document, "events", self._names, self._read, self._passed_bytes)
        return InvalidRequestError(fault or f"the body cannot be read: {reason}")

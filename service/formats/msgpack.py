"""Batches in MessagePack: `{"events": rows}`, the rows a list of lists, or raw float32 rows in one binary string.

It does not know other formats, nor what is wrong with a body that it cannot read: see faults.py.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats import faults, starts
from service.formats.format import (
    AT_LEAST_ONE,
    BLOCK_EVENTS,
    LITTLE_FLOAT32,
    Accepted,
    BatchReader,
    Content,
    Format,
    Scores,
    longest_event,
)
from service.formats.raw import count_events, read_one

# A map of one, its key, and the start of its value, each in any of the lengths that MessagePack has for it.
HEAD: Final = re.compile(
    rb"(?s)(?:\x81|\xde\x00\x01|\xdf\x00\x00\x00\x01)(?:\xa6|\xd9\x06|\xda\x00\x06|\xdb\x00\x00\x00\x06)events"
    rb"(?:(?P<list4>[\x90-\x9f])|\xdc(?P<list16>..)|\xdd(?P<list32>....)"
    rb"|\xc4(?P<binary8>.)|\xc5(?P<binary16>..)|\xc6(?P<binary32>....))"
)
ROW_START_BYTES: Final = 4
"""A row's head and the tag of its first number are no longer."""

LIST_START: Final = b"\x81\xa6events\xdd"
LONGEST_LIST_HEAD_BYTES, LONGEST_NUMBER_BYTES = 5, 9
NUMBER_TYPES: Final[dict[int, np.dtype[Any]]] = {0xCA: np.dtype(">f4"), 0xCB: np.dtype(">f8")}


TAGGED_FLOAT32: Final = np.dtype([("tag", "u1"), ("value", ">f4")])
"""A number of MessagePack."""
ONE_KEY: Final = re.compile(rb"\x81|\xde\x00\x01|\xdf\x00\x00\x00\x01")


class EventBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request for one event."""

    features: list[float] | bytes


DECODE_EVENT: Final = msgspec.msgpack.Decoder(EventBody).decode
DECODE_ROWS: Final = msgspec.msgpack.Decoder(list[list[float]]).decode


class RowLayout(NamedTuple):
    """How a row of numbers of one type is written."""

    head_bytes: int
    n_features: int
    number_type: np.dtype[Any]
    frame: bytes
    """The bytes of a row that are no number: its head, and the tag before each number."""

    @property
    def step_bytes(self) -> int:
        """From one number to the next."""
        return 1 + self.number_type.itemsize

    @property
    def row_bytes(self) -> int:
        """From one row to the next."""
        return self.head_bytes + self.n_features * self.step_bytes

    def count_alike(self, data: bytes, n_rows: int) -> int:
        """Count the rows before the first that is written otherwise."""
        rows = np.frombuffer(data, np.uint8, n_rows * self.row_bytes).reshape(n_rows, self.row_bytes)
        tags = range(self.head_bytes, self.row_bytes, self.step_bytes)
        alike = (rows[:, [*range(self.head_bytes), *tags]] == np.frombuffer(self.frame, np.uint8)).all(axis=1)
        return n_rows if alike.all() else int(alike.argmin())

    def numbers(self, data: bytes, n_rows: int) -> NDArray[Any]:
        """View the numbers of rows as (n_rows, n_features)."""
        strides = (self.row_bytes, self.step_bytes)
        return np.ndarray((n_rows, self.n_features), self.number_type, data, self.head_bytes + 1, strides)


def row_layout(row: bytes, n_features: int) -> RowLayout | None:
    """Find out how this row is written; None unless all its numbers are float32 or all float64."""
    head = bytes([0x90 | n_features]) if n_features < 16 else b"\xdc" + struct.pack(">H", n_features)
    number_type = NUMBER_TYPES.get(row[len(head)]) if len(row) > len(head) else None
    if number_type is None:
        return None
    return RowLayout(len(head), n_features, number_type, head + row[len(head) : len(head) + 1] * n_features)


class MsgpackReader(BatchReader):
    """Reads a batch in MessagePack.

    Most encoders write all numbers of a batch alike, so that every row has the same length and the same bytes between
    its numbers. Such rows are read as one array once these bytes are checked; from the first other row on, rows are
    read number by number, some at a time.
    """

    def __init__(self, feature_names: Sequence[str], max_events: int) -> None:
        super().__init__(feature_names, max_events)
        # Plain functions: methods bound to the reader would keep it, and its block, until garbage is collected.
        self._read_on = MsgpackReader._read_head
        self._rows_left = 0
        self._layout: RowLayout | None = None
        self._passed_bytes = 0
        self._longest_row = LONGEST_LIST_HEAD_BYTES + LONGEST_NUMBER_BYTES * len(feature_names)
        self._longest_shown = longest_event(len(feature_names))

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        data, self._rest = self._rest + piece, b""
        return self._read_on(self, data, last)

    def _read_head(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Find out how the rows are written."""
        head = HEAD.match(data)
        if head is None:
            # What is wrong with it can be said once enough of it is here.
            if len(data) > self._longest_shown:
                raise InvalidRequestError(starts.msgpack_start_fault(data[: self._longest_shown], "events"))
            if last:
                raise self._refusal(faults.msgpack_fault(data, "events", self._names))
            self._rest = data
            return
        kind, length = head.lastgroup or "", int.from_bytes(head[head.lastindex or 0])
        if kind.startswith("binary"):
            self._rows_left = count_events(length, len(self._names), "events is")
            self._check_count(self._rows_left)
            self._read_on = MsgpackReader._read_binary
        else:
            self._rows_left = length & 0x0F if kind == "list4" else length
            if not self._rows_left:
                raise InvalidRequestError(f"events is empty, {AT_LEAST_ONE}")
            self._check_count(self._rows_left)
            self._passed_bytes = head.end()
            self._read_on = MsgpackReader._read_alike
        yield from self._read_on(self, data[head.end() :], last)

    def _read_binary(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Read raw float32 rows."""
        n_features = len(self._names)
        n_whole = min(len(data) // (n_features * LITTLE_FLOAT32.itemsize), self._rows_left)
        self._rows_left -= n_whole
        self._rest = data[n_whole * n_features * LITTLE_FLOAT32.itemsize :]
        if self._rest and not self._rows_left:
            raise InvalidRequestError("the body is not valid MessagePack: there are bytes after its end")
        if last and self._rows_left:
            raise InvalidRequestError("the body is not valid MessagePack: it ends in the middle of events")
        yield np.frombuffer(data, LITTLE_FLOAT32, n_whole * n_features).reshape(n_whole, n_features)

    def _read_alike(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Read rows that are written as the first one is."""
        layout = self._layout = self._layout or row_layout(data, len(self._names))
        if layout is None and len(data) < ROW_START_BYTES and not last:
            self._rest = data
            return
        if layout is not None:
            n_whole = min(len(data) // layout.row_bytes, self._rows_left)
            n_alike = layout.count_alike(data, n_whole)
            self._rows_left -= n_alike
            self._passed_bytes += n_alike * layout.row_bytes
            if n_alike:
                yield layout.numbers(data, n_alike)
            data = data[n_alike * layout.row_bytes :]
            if n_alike == n_whole and len(data) < layout.row_bytes and not last:
                self._rest = data
                return
        self._read_on = MsgpackReader._read_mixed
        yield from self._read_mixed(data, last)

    def _read_mixed(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Read rows whose numbers are of several types, as many as are surely here; one by one around a wrong one."""
        start, one_by_one = 0, False
        while self._rows_left:
            held = len(data) - start
            if held < self._longest_row and not last:
                break
            n_rows = 1 if one_by_one else min(max(held // self._longest_row, 1), BLOCK_EVENTS, self._rows_left)
            rows, n_bytes = self._decoded(data[start : start + n_rows * self._longest_row], n_rows)
            if rows is not None:
                start += n_bytes
                self._rows_left -= n_rows
                self._passed_bytes += n_bytes
                yield rows
            elif n_rows > 1:
                one_by_one = True
            elif held > self._longest_shown or last:
                raise self._row_refusal(data[start : start + self._longest_shown], held > self._longest_shown)
            else:  # what is wrong with it can be said once enough of it is here
                break
        self._rest = data[start:]
        if self._rest and not self._rows_left:
            raise InvalidRequestError("the body is not valid MessagePack: there are bytes after its end")

    def _decoded(self, data: bytes, n_rows: int) -> tuple[NDArray[np.float64] | None, int]:
        """Read the rows at the start, and tell where they end; None if one is wrong."""
        try:
            n_bytes = starts.msgpack_end(data, n_rows)
            rows = np.array(DECODE_ROWS(b"\xdd" + struct.pack(">I", n_rows) + data[:n_bytes]), np.float64)
        except (ValueError, RecursionError):  # msgspec's and those of UTF-8 and ragged rows are ValueErrors
            return None, 0
        return (rows, n_bytes) if rows.shape == (n_rows, len(self._names)) else (None, 0)

    def _row_refusal(self, data: bytes, cut: bool) -> InvalidRequestError:
        """Name the fault of the row that `data` starts with, which is all of the body that is left unless `cut`."""
        try:
            n_bytes = starts.msgpack_end(data)
        except RecursionError:
            n_bytes = len(data)
        except ValueError as error:
            if cut and "truncated" in str(error):
                found = f"events[{self._read}] does not end within {len(data)} bytes"
                return InvalidRequestError(f"{found}, expected a list of {len(self._names)} numbers")
            n_bytes = len(data)
        head = LIST_START + struct.pack(">I", 1)
        row = head + data[:n_bytes]
        return self._refusal(
            faults.msgpack_fault(row, "events", self._names, self._read, self._passed_bytes - len(head))
        )

    def _refusal(self, fault: str | None) -> InvalidRequestError:
        return InvalidRequestError(fault or "the body cannot be read: it does not hold what this route expects")


class Msgpack(Format):
    """MessagePack documents, in which rows may be one binary string of raw float32."""

    media_type = "application/msgpack"
    aliases = ("application/x-msgpack", "application/vnd.msgpack")

    def _event(self, body: bytes, feature_names: Sequence[str]) -> NDArray[Any]:
        reason = "it does not hold what this route expects"
        try:
            features = DECODE_EVENT(body).features
            if not ONE_KEY.match(body):
                pass  # explained below
            elif isinstance(features, bytes):
                return read_one(features, len(feature_names), "features is")
            elif len(features) == len(feature_names):
                return np.array(features)
        except (ValueError, RecursionError) as error:  # msgspec's errors and those of UTF-8 are ValueErrors
            reason = str(error)
        fault = faults.msgpack_fault(body, "features", feature_names)
        raise InvalidRequestError(fault or f"the body cannot be read: {reason[: faults.REASON_CHARACTERS]}")

    def open_batch(self, feature_names: Sequence[str], max_events: int) -> MsgpackReader:
        """Make a reader for one body."""
        return MsgpackReader(feature_names, max_events)

    def write_score(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write a map with the score."""
        if accepted is None:
            return b"\x81\xadanomaly_score" + packed_scores(scores)
        return b"\x82\xadanomaly_score" + packed_scores(scores) + b"\xa8accepted" + packed_booleans(accepted)

    def write_scores(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write a map with a list of scores."""
        start = list_start(len(scores))
        parts = [b"\x81" if accepted is None else b"\x82", b"\xaeanomaly_scores", start, packed_scores(scores)]
        if accepted is not None:
            parts += [b"\xa8accepted", start, packed_booleans(accepted)]
        return b"".join(parts)

    def schema(self, content: Content) -> dict[str, Any]:
        """Describe the document, and its rows as a binary string."""
        if not content.title.startswith("Event"):
            return {"title": content.title, **content.document}
        binary = {
            "type": "string",
            "format": "binary",
            "description": "MessagePack's binary type, of little-endian float32, row after row.",
        }
        rows = {name: {"oneOf": [schema, binary]} for name, schema in content.document["properties"].items()}
        return {"title": f"Packed{content.title}", **content.document, "properties": rows}


def list_start(n_values: int) -> bytes:
    """Write the start of a list."""
    if n_values < 16:
        return bytes([0x90 | n_values])
    return struct.pack(">BH", 0xDC, n_values) if n_values < 2**16 else struct.pack(">BI", 0xDD, n_values)


def packed_scores(scores: Scores) -> bytes:
    """Write scores (n,), one after the other."""
    tagged = np.empty(len(scores), TAGGED_FLOAT32)
    tagged["tag"], tagged["value"] = 0xCA, scores
    return tagged.tobytes()


def packed_booleans(accepted: Accepted) -> bytes:
    """Write booleans (n,), one after the other."""
    return np.where(accepted, np.uint8(0xC3), np.uint8(0xC2)).tobytes()


MSGPACK: Final = Msgpack()

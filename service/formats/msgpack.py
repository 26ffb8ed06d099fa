"""MessagePack: documents as in JSON, in which rows may also be one binary string of raw float32."""

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats import faults
from service.formats.documents import DocumentFormat, DocumentReader
from service.formats.format import AT_LEAST_ONE, BLOCK_EVENTS, LITTLE_FLOAT32, Accepted, Content, Scores, slices
from service.formats.raw import count_events

ONE_KEY: Final = re.compile(rb"\x81|\xde\x00\x01|\xdf\x00\x00\x00\x01")
"""The start of a map of one key."""
START: Final = re.compile(
    rb"(?s)(?:" + ONE_KEY.pattern + rb")(?:\xa6|\xd9\x06|\xda\x00\x06|\xdb\x00\x00\x00\x06)events"
    rb"(?:(?P<list4>[\x90-\x9f])|\xdc(?P<list16>..)|\xdd(?P<list32>....)"
    rb"|\xc4(?P<binary8>.)|\xc5(?P<binary16>..)|\xc6(?P<binary32>....))"
)
"""A map of one key up to the rows, with each part in any of MessagePack's length encodings."""
NUMBERS: Final = {tag: np.dtype([("tag", "u1"), ("value", kind)]) for tag, kind in ((0xCA, ">f4"), (0xCB, ">f8"))}
"""Floating-point numbers, by their tags."""
LONGEST_LIST_START_BYTES, LONGEST_NUMBER_BYTES = 5, 9


class EventBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request for one event."""

    features: list[float] | bytes


class EventsBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request for a batch."""

    events: list[list[float]] | bytes


DECODE_ROWS: Final = msgspec.msgpack.Decoder(list[list[float]]).decode
SKIP: Final = msgspec.msgpack.Decoder(msgspec.Raw).decode


ReadOn = Callable[["MsgpackReader", bytes, bool], Iterator[NDArray[Any]]]


class MsgpackReader(DocumentReader):
    """Reads a batch.

    Most encoders write all numbers of a batch with one type: rows have the same length, and the same bytes between
    their numbers. NumPy reads such rows as one array. From the first other row on, rows are decoded some at a time.
    """

    language = "MessagePack"
    decode_body = msgspec.msgpack.Decoder(EventsBody).decode
    decode_row = msgspec.msgpack.Decoder(list[float]).decode

    def __init__(self, feature_names: Sequence[str], max_events: int) -> None:
        super().__init__(feature_names, max_events)
        # A plain function: a bound method would keep the reader, and its block, until garbage is collected.
        self._read_on: ReadOn = MsgpackReader._read_start
        self._rows_left = 0
        self._row_start = list_start(len(feature_names))
        self._row_type: np.dtype[Any] | None = None
        self._tag = 0

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        data, self._rest = self._rest + piece, b""
        yield from self._read_on(self, data, last)
        if self._read_on is MsgpackReader._read_start:
            return
        if self._rest and not self._rows_left:
            place = self.n_bytes - len(self._rest)
            raise InvalidRequestError(f"the body is not valid MessagePack: {faults.TRAILING} at byte {place}")
        if last and self._rows_left:
            raise InvalidRequestError(faults.ends_early("MessagePack", self.n_bytes))

    def _read_start(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Read the encoding of the rows and their number."""
        start = START.match(data)
        if start is None:
            self._refuse(data, last)
            return
        kind, length = start.lastgroup or "", int.from_bytes(start[start.lastindex or 0])
        if kind.startswith("binary"):
            self._read_on = MsgpackReader._read_binary
            self._rows_left = count_events(length, len(self._names), "events is")
        else:
            self._read_on = MsgpackReader._read_alike
            self._rows_left = length & 0x0F if kind == "list4" else length
        if not self._rows_left:
            raise InvalidRequestError(f"events is empty, {AT_LEAST_ONE}")
        self._check_count(self._rows_left)
        yield from self._read_on(self, data[start.end() :], last)

    def _read_binary(self, data: bytes, _: bool) -> Iterator[NDArray[Any]]:
        """Read raw float32 rows."""
        n_features = len(self._names)
        n_whole = min(len(data) // (n_features * LITTLE_FLOAT32.itemsize), self._rows_left)
        self._rows_left -= n_whole
        self._rest = data[n_whole * n_features * LITTLE_FLOAT32.itemsize :]
        yield np.frombuffer(data, LITTLE_FLOAT32, n_whole * n_features).reshape(n_whole, n_features)

    def _read_alike(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Read rows with the encoding of the first one."""
        place = len(self._row_start)
        if self._row_type is None and place < len(data) and data[place] in NUMBERS:
            self._tag = data[place]
            numbers = ("numbers", NUMBERS[self._tag], (len(self._names),))
            self._row_type = np.dtype([("start", f"S{place}"), numbers])
        row_bytes = place + 1 if self._row_type is None else self._row_type.itemsize
        if self._row_type is not None:
            n_whole = min(len(data) // row_bytes, self._rows_left)
            rows = np.frombuffer(data, self._row_type, n_whole)
            starts, tags = rows["start"] == self._row_start, rows["numbers"]["tag"] == self._tag
            n_alike = n_whole if starts.all() and tags.all() else int((starts & tags.all(axis=1)).argmin())
            self._rows_left -= n_alike
            yield rows["numbers"]["value"][:n_alike]
            data = data[n_alike * row_bytes :]
        if self._rows_left and (last or len(data) >= row_bytes):
            self._read_on = MsgpackReader._read_mixed
            yield from self._read_mixed(data, last)
        else:
            self._rest = data

    def _read_mixed(self, data: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Read rows of numbers of several types, as many as have arrived for certain; one by one around a wrong one."""
        longest = LONGEST_LIST_START_BYTES + LONGEST_NUMBER_BYTES * len(self._names)
        start, at_most = 0, BLOCK_EVENTS
        while self._rows_left and (last or len(data) - start >= longest):
            n_rows = min((len(data) - start) // longest or 1, at_most, self._rows_left)
            try:
                rows, n_bytes = decode_rows(data[start : start + n_rows * longest], n_rows, len(self._names))
            except (ValueError, RecursionError):
                if n_rows == 1:
                    self._refuse(data[start:], last, f"events[{self._read}]")
                    return
                at_most = 1
                continue
            start += n_bytes
            self._rows_left -= n_rows
            yield rows
        self._rest = data[start:]


def decode_rows(data: bytes, n_rows: int, n_features: int) -> tuple[NDArray[np.float64], int]:
    """Decode the first rows of `data` as (n_rows, n_features), and return them with their end.

    Raises ValueError, and RecursionError for a value that is nested too deeply.
    """
    start = b"\xdd" + struct.pack(">I", n_rows)
    written = start + data
    try:
        SKIP(written)
    except msgspec.DecodeError as error:
        end = faults.value_end(error)
        if end is None:
            raise
        written = written[:end]
    rows = np.array(DECODE_ROWS(written), np.float64)
    if rows.shape != (n_rows, n_features):
        raise ValueError(f"rows of shape {rows.shape}")
    return rows, len(written) - len(start)


class Msgpack(DocumentFormat):
    """MessagePack documents, in which rows may be one binary string of raw float32."""

    media_type = "application/msgpack"
    aliases = ("application/x-msgpack", "application/vnd.msgpack")
    feature_bytes = LONGEST_NUMBER_BYTES
    language = "MessagePack"
    decode_event = msgspec.msgpack.Decoder(EventBody).decode

    def _has_one_key(self, body: bytes) -> bool:
        return ONE_KEY.match(body) is not None

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
        return b"".join(self.write_pieces(scores, accepted))

    def write_pieces(self, scores: Scores, accepted: Accepted | None = None) -> Iterator[bytes]:
        """Write a map with a list of scores in pieces."""
        start = list_start(len(scores))
        yield (b"\x81" if accepted is None else b"\x82") + b"\xaeanomaly_scores" + start
        yield from map(packed_scores, slices(scores))
        if accepted is not None:
            yield b"\xa8accepted" + start
            yield from map(packed_booleans, slices(accepted))

    def _write(self, document: dict[str, Any]) -> bytes:
        return msgspec.msgpack.encode(document, enc_hook=lambda values: values.tolist())

    def schema(self, content: Content) -> dict[str, Any]:
        """Describe the document, and its rows as a binary string."""
        if not content.title.startswith("Event"):
            return super().schema(content)
        binary = {
            "type": "string",
            "format": "binary",
            "description": "MessagePack's binary type, of little-endian float32, row after row.",
        }
        rows = {name: {"oneOf": [schema, binary]} for name, schema in content.document["properties"].items()}
        # This format means nothing for an object, but makes /docs ask for a file instead of filling in JSON.
        return {"title": f"Packed{content.title}", **content.document, "format": "binary", "properties": rows}


def list_start(n_values: int) -> bytes:
    """Write the start of a list."""
    if n_values < 16:
        return bytes([0x90 | n_values])
    return struct.pack(">BH", 0xDC, n_values) if n_values < 2**16 else struct.pack(">BI", 0xDD, n_values)


def packed_scores(scores: Scores) -> bytes:
    """Write scores (n,), one after the other."""
    tagged = np.empty(len(scores), NUMBERS[0xCA])
    tagged["tag"], tagged["value"] = 0xCA, scores
    return tagged.tobytes()


def packed_booleans(accepted: Accepted) -> bytes:
    """Write booleans (n,), one after the other."""
    return np.where(accepted, np.uint8(0xC3), np.uint8(0xC2)).tobytes()


MSGPACK: Final = Msgpack()

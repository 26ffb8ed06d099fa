"""Ways to write a batch, each with the reader that is to read it."""

import json
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.load.formats import JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW, npy_bytes
from tests.artefacts import sample_events
from tests.service.formats.references import Open, readers

Write = Callable[[NDArray[Any]], bytes]


class Way(NamedTuple):
    """A reader, and one way to write what it reads."""

    name: str
    open: Open
    write: Write
    dtype: str = "<f4"
    """The numbers' type before they are written."""

    def of_rows(self, rows: Sequence[Any]) -> bytes:
        """Write rows, right or wrong, as a document."""
        if "msgpack" in self.name:
            return msgspec.msgpack.encode({"events": rows})
        return json.dumps({"events": rows}).encode()


def events_of(n_events: int, n_features: int = 5) -> NDArray[np.float32]:
    """Draw events that are small enough for any type, a few of them of whole numbers."""
    events = sample_events(n_events, n_features).clip(-100, 100)
    events[::700] = events[::700].round()
    return events


def packed_floats(events: NDArray[Any]) -> bytes:
    """Write rows of float32 in MessagePack, as encoders do that are told to use single precision."""
    n_events, n_features = events.shape
    tagged = np.empty(events.shape, [("tag", "u1"), ("value", ">f4")])
    tagged["tag"], tagged["value"] = 0xCA, events
    start = bytes([0x90 | n_features]) if n_features < 16 else b"\xdc" + struct.pack(">H", n_features)
    return b"\x81\xa6events\xdd" + struct.pack(">I", n_events) + b"".join(start + row.tobytes() for row in tagged)


def packed_mixed(events: NDArray[Any]) -> bytes:
    """Write rows in MessagePack with integers where the numbers are whole."""
    rows = [[int(value) if value.is_integer() else value for value in row] for row in events.tolist()]
    return msgspec.msgpack.encode({"events": rows})


def pretty(events: NDArray[Any]) -> bytes:
    """Write JSON for people, with space and line ends of all kinds."""
    return b"\r\n\t " + json.dumps({"events": events.tolist()}, indent="\t").encode() + b"\n\n"


def compact(events: NDArray[Any]) -> bytes:
    """Write JSON without any space."""
    return msgspec.json.encode({"events": events.tolist()})


def by_columns(events: NDArray[Any]) -> bytes:
    """Write an .npy file in Fortran order."""
    return npy_bytes(np.asfortranarray(events))


JSON_READERS = readers(JSON.media_type)
[OPEN_RAW], [OPEN_NPY], [OPEN_MSGPACK] = (readers(fmt.media_type).values() for fmt in (RAW, NPY, MSGPACK))

WAYS = {
    way.name: way
    for way in [
        Way("raw", OPEN_RAW, lambda events: RAW.write("events", events)),
        *(Way(f"npy {dtype}", OPEN_NPY, npy_bytes, dtype) for dtype in ("<f4", ">f4", "<f8", "<f2", "i1", ">i8")),
        *(Way(f"npy by columns {dtype}", OPEN_NPY, by_columns, dtype) for dtype in ("<f4", ">f8", "<i2")),
        Way("msgpack", OPEN_MSGPACK, lambda events: MSGPACK.write("events", events)),
        Way("msgpack float32", OPEN_MSGPACK, packed_floats),
        Way("msgpack mixed", OPEN_MSGPACK, packed_mixed),
        Way("packed", OPEN_MSGPACK, lambda events: MSGPACK_BINARY.write("events", events)),
        *(
            Way(f"json {write.__name__} {name}", opened, write)
            for name, opened in JSON_READERS.items()
            for write in (compact, pretty)
        ),
    ]
}
DOCUMENT_WAYS = [way for name, way in WAYS.items() if name.startswith(("msgpack", "json compact"))]
"""One of each reader whose batches are documents of keys, lists and numbers."""

PIECE_BYTES = 256 * 1024


def repeated(way: Way, events: NDArray[np.float32], n_times: int) -> Iterator[bytes]:
    """Write the same events again and again in pieces of PIECE_BYTES; the whole body is never in memory."""
    n_rows, n_features = events.shape
    between, tail = b"", b""
    match way.name.partition(" ")[0]:
        case "raw":
            head, rows = b"", events.tobytes()
        case "npy":
            head, rows = npy_bytes(np.empty((n_times * n_rows, n_features), "<f4"))[:128], events.tobytes()
        case "packed":
            head, rows = b"\x81\xa6events\xc6" + struct.pack(">I", n_times * events.nbytes), events.tobytes()
        case "msgpack":
            rows = b"".join(map(msgspec.msgpack.encode, events.tolist()))
            head = b"\x81\xa6events\xdd" + struct.pack(">I", n_times * n_rows)
        case _:
            rows = compact(events).removeprefix(b'{"events":[').removesuffix(b"]}")
            head, between, tail = b'{"events":[', b",", b"]}"
    kept = head
    for time in range(n_times):
        kept += rows + (between if time + 1 < n_times else tail)
        while len(kept) > PIECE_BYTES:
            yield kept[:PIECE_BYTES]
            kept = kept[PIECE_BYTES:]
    yield kept


def json_with(row: int, wrong: bytes) -> bytes:
    """Write a batch in JSON whose row with this number is replaced, with one good row after it."""
    rows = [msgspec.json.encode(event) for event in events_of(row + 2).tolist()]
    return b'{"events": [' + b", ".join([*rows[:row], wrong, *rows[row + 1 :]]) + b"]}"


def syntax_message(language: str, body: bytes) -> str:
    """Say where msgspec, given the whole body, finds that it is not of this language."""
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(body) if language == "JSON" else msgspec.msgpack.decode(body)
    if str(caught.value) == "Input data was truncated":
        return f"the body is not valid {language}: it ends early, at byte {len(body)}"
    reason, place = re.findall(r"malformed: (.*) \(byte (\d+)\)", str(caught.value))[0]
    # What follows a document of JSON starts a byte before the one that msgspec tells.
    start = int(place) - (language == "JSON" and reason == "trailing characters")
    return f"the body is not valid {language}: {reason} at byte {start}"

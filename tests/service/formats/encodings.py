"""Encodings of a batch, each with the reader that reads it."""

import json
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.load.formats import JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW, npy_bytes
from tests.artefacts import sample_events
from tests.service.formats.references import Open, readers


class Encoding(NamedTuple):
    """How a batch is written, and the reader that reads it."""

    name: str
    open: Open
    write: Callable[[NDArray[Any]], bytes]
    dtype: str = "<f4"
    """The numbers' type before they are written."""

    def of_rows(self, rows: Sequence[Any]) -> bytes:
        """Write rows, right or wrong, as a document."""
        return self.of_document({"events": rows})

    def of_document(self, document: Any) -> bytes:
        """Write a document, right or wrong."""
        return msgspec.msgpack.encode(document) if "msgpack" in self.name else json.dumps(document).encode()


def events_of(n_events: int, n_features: int = 5) -> NDArray[np.float32]:
    """Draw events that are small enough for any type, a few of them of whole numbers."""
    events = sample_events(n_events, n_features).clip(-100, 100)
    events[::700] = events[::700].round()
    return events


def msgpack_float32(events: NDArray[Any]) -> bytes:
    """Write rows of float32 in MessagePack, as encoders do in single precision."""
    n_events, n_features = events.shape
    tagged = np.empty(events.shape, [("tag", "u1"), ("value", ">f4")])
    tagged["tag"], tagged["value"] = 0xCA, events
    start = bytes([0x90 | n_features]) if n_features < 16 else b"\xdc" + struct.pack(">H", n_features)
    return b"\x81\xa6events\xdd" + struct.pack(">I", n_events) + b"".join(start + row.tobytes() for row in tagged)


def msgpack_mixed(events: NDArray[Any]) -> bytes:
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

ENCODINGS = {
    encoding.name: encoding
    for encoding in [
        Encoding("raw", OPEN_RAW, lambda events: RAW.write("events", events)),
        *(Encoding(f"npy {dtype}", OPEN_NPY, npy_bytes, dtype) for dtype in ("<f4", ">f4", "<f8", "<f2", "i1", ">i8")),
        *(Encoding(f"npy by columns {dtype}", OPEN_NPY, by_columns, dtype) for dtype in ("<f4", ">f8", "<i2")),
        Encoding("msgpack", OPEN_MSGPACK, lambda events: MSGPACK.write("events", events)),
        Encoding("msgpack float32", OPEN_MSGPACK, msgpack_float32),
        Encoding("msgpack mixed", OPEN_MSGPACK, msgpack_mixed),
        Encoding("msgpack binary", OPEN_MSGPACK, lambda events: MSGPACK_BINARY.write("events", events)),
        *(
            Encoding(f"json {write.__name__} {name}", opened, write)
            for name, opened in JSON_READERS.items()
            for write in (compact, pretty)
        ),
    ]
}
DOCUMENTS = [
    *(ENCODINGS[name] for name in ("msgpack", "msgpack float32", "msgpack mixed")),
    *(ENCODINGS[f"json compact {name}"] for name in JSON_READERS),
]
"""Encodings as documents of keys, lists and numbers."""


def syntax_message(language: str, body: bytes) -> str:
    """Return the message for the fault that msgspec finds in the whole body."""
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(body) if language == "JSON" else msgspec.msgpack.decode(body)
    if str(caught.value) == "Input data was truncated":
        return f"the body is not valid {language}: it ends early, at byte {len(body)}"
    reason, place = re.findall(r"malformed: (.*) \(byte (\d+)\)", str(caught.value))[0]
    # What follows a document of JSON starts a byte before the one that msgspec names.
    start = int(place) - (language == "JSON" and reason == "trailing characters")
    return f"the body is not valid {language}: {reason} at byte {start}"

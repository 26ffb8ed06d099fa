"""Long bodies that are wrong, and bodies that announce more than they hold: of any size, each with its message."""

import struct
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.load.formats import JSON, MSGPACK, NPY, RAW, Format
from service.formats.format import EVENT_BYTES
from tests.service.api.bad_input import SCORE, SCORE_BATCH
from tests.service.formats.bad_arrays import npy, npy_header
from tests.service.formats.bad_json import NOT_JSON


class LongBody(NamedTuple):
    """A body of a size in bytes, which is refused with this message."""

    path: str
    fmt: Format
    write: Callable[[int], bytes]
    message: str


def filled(start: bytes, unit: bytes, end: bytes = b"") -> Callable[[int], bytes]:
    """Write a body of one thing again and again."""
    return lambda n_bytes: start + unit * ((n_bytes - len(start) - len(end)) // len(unit)) + end


def small_integers(n_bytes: int) -> bytes:
    """Write a batch in MessagePack whose last number is nil, of two million events at most: the slowest to read."""
    n_events = min((n_bytes - 12) // 6, 2**21)
    head = EVENTS + b"\xdd" + struct.pack(">I", n_events)
    return head + b"\x95\0\0\0\0\0" * (n_events - 1) + b"\x95\0\0\0\0\xc0"


def npy_by_columns(n_bytes: int) -> bytes:
    """Write a file in Fortran order whose last number is NaN."""
    n_events = (n_bytes - 256) // 10
    return npy(npy_header("'<f2'", "True", f"({n_events}, 5)"), bytes(10 * n_events - 2) + b"\xff\xff")


ROW, TEXT_ROW = b"[1,2,3,4,5],", b'[1,2,3,4,"5"]]}'
LIST, EVENTS, FEATURES = b'{"events":[', b"\x81\xa6events", b"\x81\xa8features"
MANY = b"\x00\x80\x00\x00"
NOT_A_BATCH = 'the first {} bytes are not those of a batch, expected an object with the key "events"'
LATE = NOT_A_BATCH.format(EVENT_BYTES)
TOO_LONG_EVENT = f"events[0] does not end within {EVENT_BYTES} bytes"

JSON_BATCHES = {
    "another key": (filled(b'{"id":[', ROW, b"0]}"), 'unknown key "id", expected "events"'),
    "millions of keys": (filled(b"{", b'"":0,', b'"":0}'), 'unknown key "", expected "events"'),
    "the key twice": (filled(LIST + b'[1,2,3,4,5]],"events":[', ROW), 'the key "events" appears more than once'),
    "a list": (filled(b"[", ROW), "the body is a list, expected an object"),
    "a text": (filled(b'"', b"x", b'"'), LATE),
    "a text for events": (filled(b'{"events":"', b"x", b'"}'), LATE),
    "spaces": (filled(b"", b" "), LATE),
    "lists in lists": (filled(b"", b"["), "the body is a list, expected an object"),
    "lists in events": (filled(LIST + ROW, b"["), "events[1][0] (feature0) is a list, expected a number"),
    "objects in objects": (filled(b"", b'{"events":'), "events is an object, expected a list of events"),
    "a long event": (filled(LIST + b"[", b"1,", b"1]]}"), TOO_LONG_EVENT),
    "a long number": (filled(LIST + b"[", b"7", b",2,3,4,5]]}"), TOO_LONG_EVENT),
    "empty events": (filled(LIST, b"[],", b"[]]}"), "events[0] has 0 features, expected 5"),
    "brackets behind": (filled(LIST + b"[1,2,3,4,5]]}", b"]"), f"{NOT_JSON}: trailing characters at byte 24"),
}
EVENT_UNITS = [b"[", b'{"features":[', b"7", b"1,", b"[],", b"{},", b'"",', b" ", b"x"]
MSGPACK_BATCHES = {
    "a list": (filled(b"\xdd" + MANY, b"\x80"), "the body is a list, expected an object"),
    "lists in lists": (filled(b"", b"\x91"), "the body is a list, expected an object"),
    "lists in events": (filled(EVENTS, b"\x91"), "events[0][0] (feature0) is a list, expected a number"),
    "lists of 2^32 - 1 in lists": (filled(EVENTS, b"\xdd\xff\xff\xff\xff"), "expected at most"),
    "maps for keys": (filled(b"", b"\x81"), 'a key is an object, expected "events"'),
    "two keys": (filled(b"\x82\xa6events\xdd\0\x20\0\0", b"\x90"), LATE),
    "another key": (filled(b"\x81\xa2id\xdd" + MANY, b"\x01"), 'unknown key "id", expected "events"'),
    "2^32 - 1 keys": (filled(b"\xdf\xff\xff\xff\xff\xa1k", b"\x01"), 'unknown key "k", expected "events"'),
    "a long event": (filled(EVENTS + b"\x91\xdd" + MANY, b"\x01"), TOO_LONG_EVENT),
    "empty events": (filled(EVENTS + b"\xdd" + MANY, b"\x90"), "events[0] has 0 features, expected 5"),
    "no events": (filled(EVENTS + b"\xdd" + MANY, b"\x01"), "events[0] is a number, expected a list of 5 numbers"),
    "2^32 - 1 events": (filled(EVENTS, b"\xdd\xff\xff\xff\xff"), "expected at most"),
    "2^32 - 16 bytes of rows": (filled(EVENTS + b"\xc6\xff\xff\xff\xf0", b"\0"), "expected at most"),
}
NPY_BATCHES = {
    "10^18 events": (filled(npy(npy_header(shape=f"({10**18}, 5)")), b"\0"), "expected at most"),
    "10^18 events by columns": (
        filled(npy(npy_header(order="True", shape=f"({10**18}, 5)")), b"\0"),
        "expected at most",
    ),
    "2^64 events": (filled(npy(npy_header(shape=f"({2**64}, 5)")), b"\0"), "expected at most"),
    "a header of 2^32 - 1 bytes": (filled(npy("", b"", (2, 0), 2**32 - 1), b"("), "the body is not an .npy file"),
}
LONG_BODIES: dict[str, LongBody] = {
    f"{fmt.name}, {name}": LongBody(SCORE_BATCH, fmt, write, message)
    for fmt, table in ((JSON, JSON_BATCHES), (MSGPACK, MSGPACK_BATCHES), (NPY, NPY_BATCHES))
    for name, (write, message) in table.items()
}
for fmt, start in ((JSON, b'{"features":['), (MSGPACK, FEATURES), (NPY, npy("", b"", (2, 0), 2**32 - 1)), (RAW, b"")):
    for unit in EVENT_UNITS if fmt is JSON else [b"\x80"]:
        name = f"{fmt.name}, one event, {unit!r}"
        LONG_BODIES[name] = LongBody(SCORE, fmt, filled(start, unit), f"expected at most {EVENT_BYTES}")

LAST_NUMBER: dict[str, LongBody] = {
    f"{name}, the last number": LongBody(SCORE_BATCH, fmt, write, message)
    for name, fmt, write, message in [
        ("JSON", JSON, filled(LIST, ROW, TEXT_ROW), "is a string, expected a number"),
        (
            "JSON, escaped",
            JSON,
            filled(rb'{"\u0065vents":[', ROW, TEXT_ROW),
            "is a string, expected a number",
        ),
        ("MessagePack", MSGPACK, small_integers, "is null, expected a number"),
        (".npy by columns", NPY, npy_by_columns, "is nan, expected a finite number"),
        ("raw", RAW, lambda n_bytes: bytes(n_bytes // 20 * 20 - 4) + b"\xff" * 4, "is nan, expected a finite number"),
    ]
}
"""Bodies whose fault is at their end."""

"""Bodies that announce much and hold little, or are as large as may be and wrong."""

import struct
from collections.abc import Callable

from benchmarks.load.formats import JSON, MSGPACK, NPY, RAW, Format
from tests.service.api.bad_input import SCORE, SCORE_BATCH
from tests.service.formats.bad_arrays import npy, npy_header

MIB = 2**20
MAX_BODY_BYTES = 64 * MIB
MAX_EVENTS = 2 * MIB

ROWS = b'{"events": [[1, 2, 3, 4, 5], '
MAP = b"\x81\xa6events"
FEATURES = b"\x81\xa8features"
FULL_INTEGERS = MAP + b"\xdd" + struct.pack(">I", MAX_EVENTS)

Bomb = tuple[str, Format, Callable[[], bytes]]

SMALL: dict[str, Bomb] = {
    "JSON, a million lists in lists": (SCORE_BATCH, JSON, lambda: b"[" * 10**6),
    "JSON, a million lists in lists, for one event": (SCORE, JSON, lambda: b"[" * 10**6 + b"]" * 10**6),
    "JSON, a million lists in events": (SCORE_BATCH, JSON, lambda: ROWS + b"[" * 10**6),
    "JSON, a million objects in objects": (SCORE_BATCH, JSON, lambda: b'{"events":' * 10**6),
    "JSON, a number of 10^5 digits": (SCORE_BATCH, JSON, lambda: ROWS + b"[" + b"7" * 10**5 + b", 2, 3, 4, 5]]}"),
    "MessagePack, 2^32 - 1 events": (SCORE_BATCH, MSGPACK, lambda: MAP + b"\xdd\xff\xff\xff\xff"),
    "MessagePack, 2^32 - 1 events in each event": (SCORE_BATCH, MSGPACK, lambda: MAP + b"\xdd\xff\xff\xff\xff" * 10**5),
    "MessagePack, 2^32 - 1 features": (SCORE, MSGPACK, lambda: FEATURES + b"\xdd\xff\xff\xff\xff\x01"),
    "MessagePack, 2^32 - 1 keys": (SCORE_BATCH, MSGPACK, lambda: b"\xdf\xff\xff\xff\xff\xa1k\x01"),
    "MessagePack, 2^32 - 16 bytes of rows": (SCORE_BATCH, MSGPACK, lambda: MAP + b"\xc6\xff\xff\xff\xf0" + bytes(20)),
    "MessagePack, 2^32 - 1 bytes of text": (SCORE, MSGPACK, lambda: FEATURES + b"\xdb\xff\xff\xff\xff"),
    "MessagePack, maps for keys of maps": (SCORE_BATCH, MSGPACK, lambda: b"\x81" * 10**6),
    ".npy, 10^18 events": (SCORE_BATCH, NPY, lambda: npy(npy_header(shape=f"({10**18}, 5)"))),
    ".npy, 10^18 events by columns": (SCORE_BATCH, NPY, lambda: npy(npy_header(order="True", shape=f"({10**18}, 5)"))),
    ".npy, 2^64 events": (SCORE_BATCH, NPY, lambda: npy(npy_header(shape=f"({2**64}, 5)"))),
    ".npy, a header of 2^32 - 1 bytes": (SCORE_BATCH, NPY, lambda: npy("(" * MIB, b"", (2, 0), 2**32 - 1)),
}
LARGE: dict[str, Bomb] = {
    "JSON, as many brackets as may be": (SCORE_BATCH, JSON, lambda: b"[" * MAX_BODY_BYTES),
    "JSON, as many brackets as may be, for one event": (SCORE, JSON, lambda: b"[" * MAX_BODY_BYTES),
    "JSON, a number of 10^7 digits": (SCORE_BATCH, JSON, lambda: ROWS + b"[" + b"7" * 10**7 + b", 2, 3, 4, 5]]}"),
    "JSON, 10^7 digits in one event": (SCORE, JSON, lambda: b'{"features": [%b, 2, 3, 4, 5]}' % (b"7" * 10**7)),
    "JSON, digits for all of the body": (SCORE, JSON, lambda: b'{"features": [' + b"7" * (MAX_BODY_BYTES - 14)),
    "JSON, a text for all of the body": (SCORE, JSON, lambda: b'{"features": "' + b"x" * (MAX_BODY_BYTES - 16) + b'"}'),
    "JSON, an exponent of 10^7 digits": (SCORE, JSON, lambda: b'{"features": [1e%b, 2, 3, 4, 5]}' % (b"9" * 10**7)),
    "JSON, millions of empty events": (SCORE_BATCH, JSON, lambda: b'{"events": [' + b"[]," * (5 * MIB) + b"[]]}"),
    "JSON, millions of empty objects": (SCORE, JSON, lambda: b'{"features": [' + b"{}," * (5 * MIB) + b"{}]}"),
    "JSON, millions of keys": (SCORE_BATCH, JSON, lambda: b"{" + b'"":0,' * (3 * MIB) + b'"":0}'),
    "JSON, millions of features": (SCORE, JSON, lambda: b'{"features": [' + b"1," * (8 * MIB) + b"1]}"),
    "JSON, spaces for all of the body": (SCORE_BATCH, JSON, lambda: b" " * MAX_BODY_BYTES),
    "JSON, two million events, the last wrong": (
        SCORE_BATCH,
        JSON,
        lambda: b'{"events": [' + b"[0,0,0,0,0]," * (MAX_EVENTS - 1) + b'[0,0,0,0,"0"]]}',
    ),
    "JSON, two million events under an escaped key, the last wrong": (
        SCORE_BATCH,
        JSON,
        lambda: rb'{"\u0065vents": [' + b"[0,0,0,0,0]," * (MAX_EVENTS - 1) + b'[0,0,0,0,"0"]]}',
    ),
    "MessagePack, lists in lists for all of the body": (SCORE_BATCH, MSGPACK, lambda: b"\x91" * MAX_BODY_BYTES),
    "MessagePack, millions of empty events": (
        SCORE_BATCH,
        MSGPACK,
        lambda: MAP + b"\xdd" + struct.pack(">I", 16 * MIB) + b"\x90" * (16 * MIB),
    ),
    "MessagePack, millions of empty maps": (
        SCORE,
        MSGPACK,
        lambda: FEATURES + b"\xdd" + struct.pack(">I", 16 * MIB) + b"\x80" * (16 * MIB),
    ),
    "MessagePack, two million events of small integers, the last wrong": (
        SCORE_BATCH,
        MSGPACK,
        lambda: FULL_INTEGERS + b"\x95\0\0\0\0\0" * (MAX_EVENTS - 1) + b"\x95\0\0\0\0\xc0",
    ),
    "MessagePack, as many events of small integers as may be": (
        SCORE_BATCH,
        MSGPACK,
        lambda: MAP + b"\xdd" + struct.pack(">I", 10**7) + b"\x95\0\0\0\0\0" * 10**7,
    ),
    ".npy, two million events by columns, the last number NaN": (
        SCORE_BATCH,
        NPY,
        lambda: npy(npy_header("'<f2'", "True", f"({MAX_EVENTS}, 5)"), bytes(10 * MAX_EVENTS - 2) + b"\xff\xff"),
    ),
    ".npy, a header of all of the body": (SCORE, NPY, lambda: npy("(" * (MAX_BODY_BYTES - 12), b"", (2, 0))),
    "raw, two million events, the last number NaN": (
        SCORE_BATCH,
        RAW,
        lambda: bytes(20 * MAX_EVENTS - 4) + b"\xff" * 4,
    ),
}

"""MessagePack bodies that must be refused for how they are written, each with a part of the message that it gets."""

import struct
from math import inf, nan

import msgspec

from benchmarks.load.formats import JSON, MSGPACK, NPY
from tests.artefacts import sample_events
from tests.service.api.bad_input import MAX_BODY_BYTES, MAX_EVENTS, SCORE, SCORE_BATCH, Body, bodies

NOT_MSGPACK = "the body is not valid MessagePack"
DEEP = 30_000

pack = msgspec.msgpack.encode
TIMESTAMP = b"\xd6\xff" + bytes(4)
EXTENSION = b"\xc7\x03\x05abc"
UNUSED = b"\xc1"
"""The one byte that MessagePack does not use."""

EVENTS_KEY, FEATURES_KEY = b"\x81\xa6events", b"\x81\xa8features"
ROW = [1.0, 2.0, 3.0, 4.0, 5.0]
EVENT = pack(ROW)
FLOAT_EVENT = b"\x95" + b"".join(b"\xca" + struct.pack(">f", number) for number in ROW)

WRONG_NUMBERS: list[Body] = [
    *((written, "is ") for written in (TIMESTAMP, EXTENSION, pack(b"3"))),
    *((b"\xca" + struct.pack(">f", value), f"is {value}, expected a finite number") for value in (nan, inf, -inf)),
]


def batch(*events: bytes) -> bytes:
    """Write a batch of events that are written already."""
    return EVENTS_KEY + b"\xdd" + struct.pack(">I", len(events)) + b"".join(events)


def with_number(number: bytes) -> bytes:
    """Write an event whose number 2 is this."""
    return b"\x95" + b"".join([pack(1.0), pack(2.0), number, pack(4.0), pack(5.0)])


def written(key: bytes, value: bytes) -> list[Body]:
    """Write bodies that are wrong on both routes, given the start of a body and a right value."""
    name, good = key[2:].decode(), key + value
    keys = [(b"\x01", "a number"), (b"\xc0", "null"), (b"\x91\x01", "a list"), (b"\xc4\x01k", "bytes")]
    return [
        *((body, "expected an object") for body in (TIMESTAMP, EXTENSION, pack(b"events"))),
        *(
            (body, "the body is a number, expected an object")
            for body in (bytes(1000), JSON.write(name, sample_events(3)))
        ),
        *(
            (body, "the body is a list, expected an object")
            for body in (NPY.write("", sample_events(3)), b"\x91" * DEEP, b"\x91" * DEEP + b"\xc0")
        ),
        *((body, NOT_MSGPACK) for body in (UNUSED, key + UNUSED, b"\x81\xa1\xff" + value)),
        *((b"\x81" + wrong + value, f'a key is {found}, expected "{name}"') for wrong, found in keys),
        (b"\x81" + EXTENSION + value, "key"),
        (b"\x81\x91" * DEEP, f'a key is a list, expected "{name}"'),
        (b"\x81\xa0" * DEEP, f'unknown key "", expected "{name}"'),
        *((key + wrong, f"{name} is ") for wrong in (TIMESTAMP, EXTENSION, b"\xa1\xff")),
        *((b"\x82" + (key[1:] + twice) * 2, "more than once") for twice in (value, pack(bytes(20)))),
        (b"\x82" + key[1:] + b"\x07" + key[1:] + value, name),
        (b"\x82" + key[1:] + pack(bytes(20)) + pack("id") + b"\x01", 'unknown key "id"'),
        *((good[:length], NOT_MSGPACK) for length in range(1, len(good))),
        *((good + more, f"{NOT_MSGPACK}: trailing characters at byte {len(good)}") for more in (b"\0", b"\xc0", good)),
        # Lengths of 2^32 - 1: of a map, a key, a text and an extension.
        (b"\xdf\xff\xff\xff\xff" + key[1:] + value, NOT_MSGPACK),
        (b"\x81\xdb\xff\xff\xff\xff" + key[2:] + value, NOT_MSGPACK),
        (key + b"\xdb\xff\xff\xff\xfftext", NOT_MSGPACK),
        (key + b"\xc9\xff\xff\xff\xff\x05", NOT_MSGPACK),
    ]


ROWS = sample_events(3).tobytes()
BINARY = b"\x81\xa6events" + pack(ROWS)

BATCHES: list[Body] = [
    (b"", "the body is empty, expected at least 1 event"),
    *((EVENTS_KEY + start, "events is empty, expected at least 1 event") for start in (b"\xdd\0\0\0\0", b"\xc4\0")),
    *((batch(EVENT, event), "events[1] is ") for event in (EXTENSION, pack(bytes(20)))),
    *((batch(EVENT, with_number(number)), f"events[1][2] (feature2) {detail}") for number, detail in WRONG_NUMBERS),
    *(
        (batch(FLOAT_EVENT, with_number(number)), f"events[1][2] (feature2) {detail}")
        for number, detail in WRONG_NUMBERS
    ),
    (batch(*[EVENT] * 4500, with_number(b"\xcb" + struct.pack(">d", nan))), "events[4500][2] (feature2) is nan"),
    (batch(FLOAT_EVENT, FLOAT_EVENT, pack(ROW[:4])), "events[2] has 4 features, expected 5"),
    # As many bytes as a row of five numbers, but not its length.
    (batch(b"\x94" + FLOAT_EVENT[1:], FLOAT_EVENT), "events[0] has 4 features, expected 5"),
    (batch(*[EVENT] * 4500)[:-100], f"{NOT_MSGPACK}: it ends early, at byte "),
    # Lists that announce one row more and one row less than they hold, and a row that announces 2^32 - 1 numbers.
    *((EVENTS_KEY + b"\xdc" + bytes([0, n]) + FLOAT_EVENT * 2, NOT_MSGPACK) for n in (1, 3)),
    (batch(b"\xdd\xff\xff\xff\xff" + pack(1.0)), NOT_MSGPACK),
    (EVENTS_KEY + b"\x91" * DEEP + b"\xc0", "events[0][0] (feature0) is a list, expected a number"),
    (batch(EVENT, EVENT, b"\x91" * DEEP + b"\xc0"), "events[2][0] (feature0) is a list, expected a number"),
    # Binary rows.
    *((EVENTS_KEY + pack(ROWS[:n]), f"events is {n} bytes, not a whole number of events") for n in (1, 19, 41)),
    (EVENTS_KEY + b"\xc6\xff\xff\xff\xff" + ROWS, "events is 4294967295 bytes, not a whole number of events"),
    *((BINARY[:length], f"{NOT_MSGPACK}: it ends early, at byte {length}") for length in (9, 10, 29, 30, 69)),
    *((BINARY + more, f"{NOT_MSGPACK}: trailing characters at byte 70") for more in (b"\xc0", bytes(20))),
    (EVENTS_KEY + b"\xd9\x3c" + ROWS, "events is a string, expected a list of events"),
    (
        EVENTS_KEY + pack(ROWS[:36] + struct.pack("<f", nan) + ROWS[40:]),
        "events[1][4] (feature4) is nan, expected a finite",
    ),
    (
        EVENTS_KEY + pack(struct.pack("<f", -inf) + ROWS[4:]),
        "events[0][0] (feature0) is -inf, expected a finite number",
    ),
    (EVENTS_KEY + pack(bytes(90_008) + struct.pack("<f", nan) + bytes(8)), "events[4500][2] (feature2) is nan"),
]
EVENTS: list[Body] = [
    (b"", "the body is empty, expected 1 event"),
    *((FEATURES_KEY + with_number(number), f"features[2] (feature2) {detail}") for number, detail in WRONG_NUMBERS),
    (FEATURES_KEY + b"\xdd\xff\xff\xff\xff" + pack(1.0), NOT_MSGPACK),
    (FEATURES_KEY + b"\x91" * DEEP + b"\xc0", "features[0] (feature0) is a list, expected a number"),
    *(
        (FEATURES_KEY + pack(bytes(n)), f"features is {n} bytes, expected one event of 5 float32")
        for n in (0, 19, 21, 40)
    ),
    (FEATURES_KEY + b"\xc4\x14" + bytes(19), NOT_MSGPACK),
    (
        FEATURES_KEY + pack(bytes(8) + struct.pack("<f", nan) + bytes(8)),
        "features[2] (feature2) is nan, expected a finite",
    ),
]
TOO_MANY: list[Body] = [
    *(
        (EVENTS_KEY + start + EVENT, str(MAX_EVENTS))
        for start in (b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xc6\xff\xff\xff\xf0")
    ),
    (EVENTS_KEY + pack(bytes(20 * (MAX_EVENTS + 1))), str(MAX_EVENTS)),
    (EVENTS_KEY + pack(bytes(MAX_BODY_BYTES)), str(MAX_BODY_BYTES)),
]
CASES = [
    *bodies(SCORE_BATCH, MSGPACK, [*BATCHES, *written(EVENTS_KEY, pack([ROW]))]),
    *bodies(SCORE_BATCH, MSGPACK, TOO_MANY, 413),
    *bodies(SCORE, MSGPACK, [*EVENTS, *written(FEATURES_KEY, EVENT)]),
]

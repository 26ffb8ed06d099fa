"""MessagePack bodies that must be refused, each with a part of the message that it gets."""

import struct

import msgspec

from benchmarks.load.formats import JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW
from tests.artefacts import sample_events
from tests.service.api.bad_input import MAX_BODY_BYTES, MAX_EVENTS, SCORE, SCORE_BATCH, Body, bodies

NOT_MSGPACK = "the body is not valid MessagePack"
DEEP = 100_000

pack = msgspec.msgpack.encode
NAN, INF = float("nan"), float("inf")
TIMESTAMP = b"\xd6\xff" + bytes(4)
EXTENSION = b"\xc7\x03\x05abc"
NEVER = b"\xc1"
"""The one byte that MessagePack never uses."""

EVENTS_KEY, FEATURES_KEY = b"\x81\xa6events", b"\x81\xa8features"
ROW = [1.0, 2.0, 3.0, 4.0, 5.0]
WRITTEN_ROW = pack(ROW)
FLOAT_ROW = b"\x95" + struct.pack(">BfBfBfBfBf", *[part for number in ROW for part in (0xCA, number)])


def _rows(*rows: bytes) -> bytes:
    """Write a batch of at most 15 rows that are written already."""
    return EVENTS_KEY + bytes([0x90 | len(rows)]) + b"".join(rows)


def _row(third: bytes) -> bytes:
    """Write an event whose third number is this."""
    numbers = [pack(number) for number in ROW]
    return b"\x95" + b"".join([*numbers[:2], third, *numbers[3:]])


WRONG_NUMBERS = [
    ("nil", b"\xc0", "is null, expected a number"),
    ("true", b"\xc3", "is a boolean, expected a number"),
    ("false", b"\xc2", "is a boolean, expected a number"),
    ("a text", pack("3"), "is a string, expected a number"),
    ("bytes", pack(b"3"), "is "),
    ("a list", pack([3.0]), "is a list, expected a number"),
    ("a map", pack({"value": 3.0}), "is an object, expected a number"),
    ("a timestamp", TIMESTAMP, "is "),
    ("an extension", EXTENSION, "is "),
    ("NaN", b"\xcb" + struct.pack(">d", NAN), "is nan, expected a finite number"),
    ("infinity", b"\xcb" + struct.pack(">d", INF), "is inf, expected a finite number"),
    ("negative infinity", b"\xcb" + struct.pack(">d", -INF), "is -inf, expected a finite number"),
    ("NaN as float32", b"\xca" + struct.pack(">f", NAN), "is nan, expected a finite number"),
    ("infinity as float32", b"\xca" + struct.pack(">f", INF), "is inf, expected a finite number"),
    ("1e39", pack(1e39), "is 1e39, which is not finite as float32"),
    ("-1e300", pack(-1e300), "is -1e300, which is not finite as float32"),
]

BATCHES: list[Body] = [
    ("empty", b"", "the body is empty, expected at least 1 event"),
    ("nil", b"\xc0", "the body is null, expected an object"),
    ("true", b"\xc3", "the body is a boolean, expected an object"),
    ("a number", b"\x07", "the body is a number, expected an object"),
    ("a text", pack("events"), "the body is a string, expected an object"),
    ("bytes", pack(RAW.write("events", sample_events(1))), "expected an object"),
    ("a list", pack([ROW]), "the body is a list, expected an object"),
    ("a timestamp", TIMESTAMP, "expected an object"),
    ("an extension", EXTENSION, "expected an object"),
    ("the byte that is never used", NEVER, NOT_MSGPACK),
    ("an empty map", b"\x80", 'missing key "events"'),
    ("a number for a key", b"\x81\x01" + pack([ROW]), 'a key is a number, expected "events"'),
    ("nil for a key", b"\x81\xc0" + pack([ROW]), 'a key is null, expected "events"'),
    ("a list for a key", b"\x81\x91\x01" + pack([ROW]), 'a key is a list, expected "events"'),
    ("bytes for a key", b"\x81\xc4\x06events" + pack([ROW]), 'a key is bytes, expected "events"'),
    ("an extension for a key", b"\x81" + EXTENSION + pack([ROW]), "key"),
    ("events nil", EVENTS_KEY + b"\xc0", "events is null, expected a list of events"),
    ("events a number", EVENTS_KEY + b"\x07", "events is a number, expected a list of events"),
    ("events a text", EVENTS_KEY + pack("rows"), "events is a string, expected a list of events"),
    ("events a map", EVENTS_KEY + pack({"0": ROW}), "events is an object, expected a list of events"),
    ("events a timestamp", EVENTS_KEY + TIMESTAMP, "expected a list of events"),
    ("events an extension", EVENTS_KEY + EXTENSION, "expected a list of events"),
    ("no events", EVENTS_KEY + b"\x90", "events is empty, expected at least 1 event"),
    ("no events of 32 bits", EVENTS_KEY + b"\xdd\x00\x00\x00\x00", "events is empty, expected at least 1 event"),
    ("one event without its list", EVENTS_KEY + WRITTEN_ROW, "events[0] is a number, expected a list of 5 numbers"),
    ("an empty event", _rows(b"\x90"), "events[0] has 0 features, expected 5"),
    ("a short event", _rows(pack(ROW[:4])), "events[0] has 4 features, expected 5"),
    ("a long event", _rows(pack([*ROW, 6.0])), "events[0] has 6 features, expected 5"),
    ("ragged events of the right total", _rows(pack(ROW[:4]), pack([*ROW, 6.0])), "events[0] has 4 features"),
    ("a short event after good ones", _rows(WRITTEN_ROW, FLOAT_ROW, pack(ROW[:4])), "events[2] has 4 features"),
    ("a short event in the second block", pack({"events": [*[ROW] * 4500, [1.0], ROW]}), "events[4500] has 1 features"),
    (
        "NaN in the second block",
        pack({"events": [*[ROW] * 4500, ROW]})[:-8] + struct.pack(">d", NAN),
        "events[4500][4]",
    ),
    ("an event nil", _rows(WRITTEN_ROW, b"\xc0"), "events[1] is null, expected a list of 5 numbers"),
    ("an event a map", _rows(pack({"features": ROW})), "events[0] is an object, expected a list of 5 numbers"),
    ("an event a text", _rows(pack("1, 2, 3, 4, 5")), "events[0] is a string, expected a list of 5 numbers"),
    ("an event bytes", _rows(pack(RAW.write("events", sample_events(1)))), "events[0] is "),
    ("an event an extension", _rows(WRITTEN_ROW, EXTENSION), "events[1] is "),
    ("the other route's key", FEATURES_KEY + WRITTEN_ROW, 'unknown key "features", expected "events"'),
    ("an empty key", b"\x81\xa0" + pack([ROW]), 'unknown key "", expected "events"'),
    ("a further key behind", pack({"events": [ROW], "id": 1}), 'unknown key "id", expected "events"'),
    ("a further key before", pack({"id": 1, "events": [ROW]}), 'unknown key "id", expected "events"'),
    ("many further keys", pack({f"k{n}": n for n in range(20_000)}), 'unknown key "k0"'),
    ("the key twice", b"\x82" + _rows(WRITTEN_ROW)[1:] * 2, "more than once"),
    ("the key twice, first wrong", b"\x82\xa6events\x07" + _rows(WRITTEN_ROW)[1:], "events"),
    ("the key twice, binary", b"\x82" + MSGPACK_BINARY.write("events", sample_events(2))[1:] * 2, "events"),
    ("a key that is not UTF-8", b"\x81\xa6\xffvents" + pack([ROW]), NOT_MSGPACK),
    ("a text that is not UTF-8", EVENTS_KEY + b"\xa1\xff", "events is a string, expected a list of events"),
    ("cut in the map", b"\xde\x00", NOT_MSGPACK),
    ("cut in the key", EVENTS_KEY[:4], NOT_MSGPACK),
    ("cut after the key", EVENTS_KEY, NOT_MSGPACK),
    ("cut in the list's length", EVENTS_KEY + b"\xdc\x00", NOT_MSGPACK),
    ("cut before the rows", EVENTS_KEY + b"\x92", NOT_MSGPACK),
    ("cut in a number", _rows(WRITTEN_ROW)[:-3], NOT_MSGPACK),
    ("cut after a row", EVENTS_KEY + b"\x92" + WRITTEN_ROW, NOT_MSGPACK),
    ("cut in a long body", pack({"events": [ROW] * 4500})[:-100], NOT_MSGPACK),
    ("bytes behind", _rows(WRITTEN_ROW) + b"\x00", NOT_MSGPACK),
    ("two documents", _rows(WRITTEN_ROW) * 2, NOT_MSGPACK),
    ("more rows than promised", EVENTS_KEY + b"\x91" + WRITTEN_ROW * 2, NOT_MSGPACK),
    ("a list that promises one row more than it has", EVENTS_KEY + b"\xdc\x00\x03" + FLOAT_ROW * 2, NOT_MSGPACK),
    ("a row that promises 2^32 - 1 numbers", _rows(b"\xdd\xff\xff\xff\xff" + pack(1.0)), NOT_MSGPACK),
    ("a map that promises 2^32 - 1 keys", b"\xdf\xff\xff\xff\xff\xa6events" + pack([ROW]), NOT_MSGPACK),
    ("a text that promises 2^32 - 1 bytes", EVENTS_KEY + b"\xdb\xff\xff\xff\xffrows", NOT_MSGPACK),
    ("a key that promises 2^32 - 1 bytes", b"\x81\xdb\xff\xff\xff\xffevents", NOT_MSGPACK),
    ("an extension that promises 2^32 - 1 bytes", EVENTS_KEY + b"\xc9\xff\xff\xff\xff\x05", NOT_MSGPACK),
    ("deep lists", b"\x91" * DEEP, "the body is a list, expected an object"),
    ("deep lists, closed", b"\x91" * DEEP + b"\xc0", "the body is a list, expected an object"),
    ("deep maps", b"\x81\xa0" * DEEP + b"\xc0", 'unknown key "", expected "events"'),
    ("deep lists for keys", b"\x81\x91" * DEEP, 'a key is a list, expected "events"'),
    ("deep lists for events", EVENTS_KEY + b"\x91" * DEEP + b"\xc0", "events[0][0] (feature0) is a list"),
    (
        "deep lists after good rows",
        EVENTS_KEY + b"\xdc\x00\x03" + WRITTEN_ROW * 2 + b"\x91" * DEEP + b"\xc0",
        "events[2][0] (feature0) is a list, expected a number",
    ),
    ("JSON", JSON.write("events", sample_events(3)), "the body is a number, expected an object"),
    (".npy", NPY.write("events", sample_events(3)), "the body is a list, expected an object"),
    ("zeros", bytes(1000), "the body is a number, expected an object"),
    *[
        (f"{name} for a number", _rows(WRITTEN_ROW, _row(written)), f"events[1][2] (feature2) {detail}")
        for name, written, detail in WRONG_NUMBERS
    ],
    *[
        (f"{name} for a number after float32", _rows(FLOAT_ROW, _row(written)), f"events[1][2] (feature2) {detail}")
        for name, written, detail in WRONG_NUMBERS[:4]
    ],
]

PACKED_ROWS = RAW.write("events", sample_events(3))

PACKED_BATCHES: list[Body] = [
    ("empty", EVENTS_KEY + b"\xc4\x00", "events is empty, expected at least 1 event"),
    ("a part of an event", EVENTS_KEY + pack(PACKED_ROWS[:19]), "events is 19 bytes, not a whole number of events"),
    ("parts of events", EVENTS_KEY + pack(PACKED_ROWS[:41]), "events is 41 bytes, not a whole number of events"),
    ("cut", MSGPACK_BINARY.write("events", sample_events(3))[:-1], f"{NOT_MSGPACK}: it ends early, at byte 69"),
    ("cut to no rows", EVENTS_KEY + b"\xc4\x14", "the body is not valid MessagePack: it ends early, at byte 10"),
    (
        "bytes behind",
        MSGPACK_BINARY.write("events", sample_events(3)) + b"\xc0",
        "the body is not valid MessagePack: trailing characters at byte 70",
    ),
    ("a text of bytes", EVENTS_KEY + b"\xd9\x3c" + PACKED_ROWS, "events is a string, expected a list of events"),
    (
        "promising 2^32 - 1 bytes",
        EVENTS_KEY + b"\xc6\xff\xff\xff\xff" + PACKED_ROWS,
        "events is 4294967295 bytes, not a whole number",
    ),
    ("in a list", _rows(pack(PACKED_ROWS)), "events[0] is "),
    (
        "NaN",
        EVENTS_KEY + pack(PACKED_ROWS[:36] + struct.pack("<f", NAN) + PACKED_ROWS[40:]),
        "events[1][4] (feature4) is nan",
    ),
    ("infinity", EVENTS_KEY + pack(struct.pack("<f", -INF) + PACKED_ROWS[4:]), "events[0][0] (feature0) is -inf"),
    (
        "NaN in the second block",
        EVENTS_KEY + pack(bytes(4500 * 20 + 8) + struct.pack("<f", NAN) + bytes(8)),
        "events[4500][2] (feature2) is nan, expected a finite number",
    ),
    ("with a further key", b"\x82" + EVENTS_KEY[1:] + pack(PACKED_ROWS) + pack("id") + b"\x01", 'unknown key "id"'),
]

EVENTS: list[Body] = [
    ("empty", b"", "the body is empty, expected 1 event"),
    ("nil", b"\xc0", "the body is null, expected an object"),
    ("a list", WRITTEN_ROW, "the body is a list, expected an object"),
    ("an extension", EXTENSION, "expected an object"),
    ("the byte that is never used", NEVER, NOT_MSGPACK),
    ("an empty map", b"\x80", 'missing key "features"'),
    ("a number for a key", b"\x81\x01" + WRITTEN_ROW, 'a key is a number, expected "features"'),
    ("bytes for a key", b"\x81\xc4\x08features" + WRITTEN_ROW, 'a key is bytes, expected "features"'),
    ("features nil", FEATURES_KEY + b"\xc0", "features is null, expected a list of 5 numbers"),
    ("features a text", FEATURES_KEY + pack("text"), "features is a string, expected a list of 5 numbers"),
    ("features a map", FEATURES_KEY + b"\x80", "features is an object, expected a list of 5 numbers"),
    ("features an extension", FEATURES_KEY + EXTENSION, "features is "),
    ("no features", FEATURES_KEY + b"\x90", "the event has 0 features, expected 5"),
    ("one too few", FEATURES_KEY + pack(ROW[:4]), "the event has 4 features, expected 5"),
    ("one too many", FEATURES_KEY + pack([*ROW, 6.0]), "the event has 6 features, expected 5"),
    ("an event in a list", FEATURES_KEY + pack([ROW]), "features[0] (feature0) is a list, expected a number"),
    ("the other route's key", _rows(WRITTEN_ROW), 'unknown key "events", expected "features"'),
    ("a further key", pack({"features": ROW, "id": 1}), 'unknown key "id", expected "features"'),
    ("the key twice", b"\x82" + (FEATURES_KEY[1:] + WRITTEN_ROW) * 2, "more than once"),
    ("the key twice, binary", b"\x82" + (FEATURES_KEY[1:] + pack(bytes(20))) * 2, "more than once"),
    ("cut in a number", FEATURES_KEY + WRITTEN_ROW[:-1], NOT_MSGPACK),
    ("bytes behind", FEATURES_KEY + WRITTEN_ROW + b"\xc0", NOT_MSGPACK),
    ("a row that promises 2^32 - 1 numbers", FEATURES_KEY + b"\xdd\xff\xff\xff\xff" + pack(1.0), NOT_MSGPACK),
    ("a map that promises 2^32 - 1 keys", b"\xdf\xff\xff\xff\xff" + FEATURES_KEY[1:] + WRITTEN_ROW, NOT_MSGPACK),
    ("deep lists", b"\x91" * 30_000 + b"\xc0", "the body is a list, expected an object"),
    ("deep lists for features", FEATURES_KEY + b"\x91" * 30_000 + b"\xc0", "features[0] (feature0) is a list"),
    ("packed, empty", FEATURES_KEY + b"\xc4\x00", "features is 0 bytes, expected one event of 5 float32 (20 bytes)"),
    ("packed, one byte short", FEATURES_KEY + pack(bytes(19)), "features is 19 bytes, expected one event"),
    ("packed, two events", FEATURES_KEY + pack(bytes(40)), "features is 40 bytes, expected one event"),
    ("packed, cut", FEATURES_KEY + b"\xc4\x14" + bytes(19), NOT_MSGPACK),
    ("packed, NaN", FEATURES_KEY + pack(bytes(8) + struct.pack("<f", NAN) + bytes(8)), "features[2] (feature2) is nan"),
    *[
        (f"{name} for a number", FEATURES_KEY + _row(written), f"features[2] (feature2) {detail}")
        for name, written, detail in WRONG_NUMBERS
    ],
]

TOO_MUCH: list[Body] = [
    ("a list that promises 2^32 - 1 rows", EVENTS_KEY + b"\xdd\xff\xff\xff\xff" + WRITTEN_ROW, str(MAX_EVENTS)),
    ("a list that promises 65535 rows", EVENTS_KEY + b"\xdc\xff\xff" + WRITTEN_ROW, str(MAX_EVENTS)),
    ("one event more than the most", pack({"events": [[0] * 5] * (MAX_EVENTS + 1)}), str(MAX_EVENTS)),
    ("one packed event more than the most", EVENTS_KEY + pack(bytes(20 * (MAX_EVENTS + 1))), str(MAX_EVENTS)),
    ("packed rows of nearly 2^32 bytes", EVENTS_KEY + b"\xc6\xff\xff\xff\xf0" + PACKED_ROWS, str(MAX_EVENTS)),
    ("one byte more than the most", EVENTS_KEY + pack(bytes(MAX_BODY_BYTES)), str(MAX_BODY_BYTES)),
]

CASES = [
    *bodies(SCORE_BATCH, MSGPACK, BATCHES),
    *bodies(SCORE_BATCH, MSGPACK, [(f"packed, {name}", body, detail) for name, body, detail in PACKED_BATCHES]),
    *bodies(SCORE_BATCH, MSGPACK, TOO_MUCH, 413),
    *bodies(SCORE, MSGPACK, EVENTS),
]

"""JSON bodies that must be refused, each with a part of the message that it gets."""

import gzip

from benchmarks.load.formats import JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW
from tests.artefacts import sample_events
from tests.service.api.bad_input import MAX_BODY_BYTES, MAX_EVENTS, SCORE, SCORE_BATCH, Body, bodies

NOT_JSON = "the body is not valid JSON"
DEEP = 100_000
DIGITS = 60_000
"""Of a number that is shown: longer ones are longer than any event may be."""


def _rows(*rows: str) -> bytes:
    """Write a batch of rows that are given as text."""
    return f'{{"events": [{", ".join(rows)}]}}'.encode()


ROW = "[1, 2, 3, 4, 5]"
WIDE_ROW = "[1.000000000000000, 2.000000000000000, 3.000000000000000, 4.000000000000000, 5.000000000000000]"

WRONG_NUMBERS = [
    ("a text", '"3"', "is a string, expected a number"),
    ("a text NaN", '"NaN"', "is a string, expected a number"),
    ("null", "null", "is null, expected a number"),
    ("true", "true", "is a boolean, expected a number"),
    ("false", "false", "is a boolean, expected a number"),
    ("a list", "[3]", "is a list, expected a number"),
    ("an empty list", "[]", "is a list, expected a number"),
    ("an object", '{"value": 3}', "is an object, expected a number"),
    ("1e400", "1e400", "is 1e400"),
    ("-1e400", "-1e400", "is -1e400"),
    ("1e39", "1e39", "is 1e39, which is not finite as float32"),
    ("the first number that float32 makes infinite", "3.4028235677973366e38", "is 3.4028235677973366e38"),
    ("a huge exponent", "1e" + "9" * 50, "is 1e999"),
    ("a huge exponent of zeros", "1e" + "0" * 40 + "400", "is 1e000"),
    ("a long integer", "7" * DIGITS, "is 7777777"),
    ("a long integer with a point", "7" * DIGITS + ".5", "is 7777777"),
    ("a long negative integer", "-" + "7" * DIGITS, "is -777777"),
]
"""What stands in the place of a number, in itself valid JSON."""

NOT_NUMBERS = [
    ("NaN", "NaN", "[2] (feature2) is nan, expected a finite number"),
    ("Infinity", "Infinity", "[2] (feature2) is inf, expected a finite number"),
    ("-Infinity", "-Infinity", "[2] (feature2) is -inf, expected a finite number"),
    ("nan", "nan", NOT_JSON),
    ("inf", "inf", NOT_JSON),
    ("-inf", "-inf", NOT_JSON),
    ("a plus", "+3", NOT_JSON),
    ("a lone minus", "-", NOT_JSON),
    ("two minuses", "--3", NOT_JSON),
    ("a leading zero", "03", NOT_JSON),
    ("a negative leading zero", "-03", NOT_JSON),
    ("nothing after the point", "3.", NOT_JSON),
    ("nothing before the point", ".3", NOT_JSON),
    ("two points", "3.3.3", NOT_JSON),
    ("nothing after the e", "3e", NOT_JSON),
    ("a lone sign after the e", "3e+", NOT_JSON),
    ("a point after the e", "3e1.5", NOT_JSON),
    ("hexadecimal", "0x3", NOT_JSON),
    ("an underscore", "3_000", NOT_JSON),
    ("a comma for a point", "3,5", "has 6 features, expected 5"),
    ("a space within", "3 000", NOT_JSON),
    ("a suffix", "3f", NOT_JSON),
    ("True", "True", NOT_JSON),
    ("undefined", "undefined", NOT_JSON),
    ("full-width digits", "\uff13", NOT_JSON),
    ("nothing", "", NOT_JSON),
    ("a comment", "/* 3 */ 3", NOT_JSON),
]
"""What stands in the place of a number and is not JSON, or not JSON by its letter."""

BATCHES: list[Body] = [
    ("empty", b"", "the body is empty, expected at least 1 event"),
    ("spaces", b" \n\t ", NOT_JSON),
    ("many spaces", b" " * DEEP, "the body "),
    ("null", b"null", "the body is null, expected an object"),
    ("true", b"true", "the body is a boolean, expected an object"),
    ("a number", b"7", "the body is a number, expected an object"),
    ("a text", b'"events"', "the body is a string, expected an object"),
    ("a list", _rows(ROW)[11:-1], "the body is a list, expected an object"),
    ("an empty object", b"{}", 'missing key "events"'),
    ("events null", b'{"events": null}', "events is null, expected a list of events"),
    ("events true", b'{"events": true}', "events is a boolean, expected a list of events"),
    ("events a number", b'{"events": 7}', "events"),
    ("events a text", b'{"events": "[[1, 2, 3, 4, 5]]"}', "events is "),
    ("events an object", b'{"events": {"0": [1, 2, 3, 4, 5]}}', "events is an object, expected a list of events"),
    ("no events", b'{"events": []}', "events is empty, expected at least 1 event"),
    ("one event without its list", b'{"events": [1, 2, 3, 4, 5]}', "events[0] is a number, expected a list"),
    ("an empty event", _rows("[]"), "events[0] has 0 features, expected 5"),
    ("many empty events", _rows(*["[]"] * 5000), "events[0] has 0 features, expected 5"),
    ("a short event", _rows("[1, 2, 3, 4]"), "events[0] has 4 features, expected 5"),
    ("a long event", _rows("[1, 2, 3, 4, 5, 6]"), "events[0] has 6 features, expected 5"),
    ("a very long event", _rows(f"[{'1,' * 50_000}1]"), "events[0] "),
    ("a short event after good ones", _rows(ROW, ROW, "[1, 2, 3, 4]"), "events[2] has 4 features, expected 5"),
    ("ragged events of the right total", _rows("[1, 2, 3, 4]", "[1, 2, 3, 4, 5, 6]"), "events[0] has 4 features"),
    ("a short event in the second block", _rows(*[ROW] * 4500, "[1]", ROW), "events[4500] has 1 features"),
    ("a short event at the end of a long body", _rows(*[WIDE_ROW] * 2500, "[1]"), "events[2500] has 1 features"),
    ("an event too deep", _rows(ROW, "[[1, 2, 3, 4, 5]]"), "events[1][0] (feature0) is a list, expected a number"),
    ("events too deep", b'{"events": [[[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]]}', "events[0][0] (feature0) is a list"),
    ("an event null", _rows(ROW, "null"), "events[1] is null, expected a list of 5 numbers"),
    ("an event true", _rows("true", ROW), "events[0] is a boolean, expected a list of 5 numbers"),
    ("an event a text", _rows(ROW, '"1, 2, 3, 4, 5"'), "events[1] is a string, expected a list of 5 numbers"),
    ("an event an object", _rows('{"features": [1, 2, 3, 4, 5]}'), "events[0] is an object, expected a list"),
    ("the other route's key", b'{"features": [1, 2, 3, 4, 5]}', 'unknown key "features", expected "events"'),
    ("a key of another case", b'{"Events": [[1, 2, 3, 4, 5]]}', 'unknown key "Events", expected "events"'),
    ("a key with a space", b'{"events ": [[1, 2, 3, 4, 5]]}', 'unknown key "events ", expected "events"'),
    ("a key with a NUL", rb'{"events\u0000": [[1, 2, 3, 4, 5]]}', "unknown key"),
    ("an empty key", b'{"": [[1, 2, 3, 4, 5]]}', 'unknown key "", expected "events"'),
    ("a very long key", b'{"%b": 1}' % (b"k" * DEEP), 'unknown key "kkk'),
    ("a further key behind", b'{"events": [[1, 2, 3, 4, 5]], "working_point": 1}', 'unknown key "working_point"'),
    ("a further key before", b'{"id": 1, "events": [[1, 2, 3, 4, 5]]}', 'unknown key "id", expected "events"'),
    ("many further keys", b"{%b}" % b",".join(b'"k%d": 1' % n for n in range(9000)), 'unknown key "k0"'),
    ("the key twice", b'{"events": [[1, 2, 3, 4, 5]], "events": [[1, 2, 3, 4, 5]]}', "more than once"),
    ("the key twice, first wrong", b'{"events": 7, "events": [[1, 2, 3, 4, 5]]}', "events"),
    ("the key twice, then wrong", b'{"events": [[1, 2, 3, 4, 5]], "events": 7}', "events"),
    (
        "the key twice, once escaped",
        rb'{"events": [[1, 2, 3, 4, 5]], "\u0065vents": [[1, 2, 3, 4, 5]]}',
        "more than once",
    ),
    ("nothing but a brace", b"{", NOT_JSON),
    ("cut in the key", b'{"eve', NOT_JSON),
    ("cut after the key", b'{"events"', NOT_JSON),
    ("cut after the colon", b'{"events":', NOT_JSON),
    ("cut after the list's bracket", b'{"events": [', NOT_JSON),
    ("cut after the row's bracket", b'{"events": [[', NOT_JSON),
    ("cut in a number", b'{"events": [[1, 2.', NOT_JSON),
    ("cut after a comma", b'{"events": [[1, 2,', NOT_JSON),
    ("cut in a row", b'{"events": [[1, 2, 3, 4, 5', NOT_JSON),
    ("cut after a row", b'{"events": [[1, 2, 3, 4, 5]', NOT_JSON),
    ("cut after a row's comma", b'{"events": [[1, 2, 3, 4, 5],', NOT_JSON),
    ("cut before the last brace", b'{"events": [[1, 2, 3, 4, 5]]', NOT_JSON),
    ("cut in a long body", _rows(*[WIDE_ROW] * 2000)[:-30], NOT_JSON),
    ("a comma at a row's end", b'{"events": [[1, 2, 3, 4, 5,]]}', NOT_JSON),
    ("a comma at the list's end", b'{"events": [[1, 2, 3, 4, 5],]}', NOT_JSON),
    ("a comma at the object's end", b'{"events": [[1, 2, 3, 4, 5]],}', "trailing comma in object at byte 29"),
    ("a comma at a row's start", b'{"events": [[,1, 2, 3, 4, 5]]}', NOT_JSON),
    ("a comma at the list's start", b'{"events": [,[1, 2, 3, 4, 5]]}', NOT_JSON),
    ("two commas", b'{"events": [[1, 2,, 3, 4, 5]]}', NOT_JSON),
    ("no comma between rows", b'{"events": [[1, 2, 3, 4, 5] [1, 2, 3, 4, 5]]}', NOT_JSON),
    ("a row closed by a brace", b'{"events": [[1, 2, 3, 4, 5}]}', NOT_JSON),
    ("an object closed by a bracket", b'{"events": [[1, 2, 3, 4, 5]]]', NOT_JSON),
    ("no colon", b'{"events" [[1, 2, 3, 4, 5]]}', NOT_JSON),
    ("a colon too many", b'{"events":: [[1, 2, 3, 4, 5]]}', NOT_JSON),
    ("single quotes", b"{'events': [[1, 2, 3, 4, 5]]}", NOT_JSON),
    ("no quotes", b"{events: [[1, 2, 3, 4, 5]]}", NOT_JSON),
    ("round brackets", b'{"events": ((1, 2, 3, 4, 5))}', NOT_JSON),
    ("a comment before", b'// all\n{"events": [[1, 2, 3, 4, 5]]}', NOT_JSON),
    ("bytes behind", b'{"events": [[1, 2, 3, 4, 5]]} x', NOT_JSON),
    ("a brace behind", b'{"events": [[1, 2, 3, 4, 5]]}}', NOT_JSON),
    ("two documents", b'{"events": [[1, 2, 3, 4, 5]]}\n{"events": [[1, 2, 3, 4, 5]]}', NOT_JSON),
    ("a NUL behind", b'{"events": [[1, 2, 3, 4, 5]]}\x00', NOT_JSON),
    ("NULs", bytes(100), NOT_JSON),
    ("a NUL within", b'{"events": [[1, 2,\x00 3, 4, 5]]}', NOT_JSON),
    ("a form feed for a space", b'{"events":\x0c[[1, 2, 3, 4, 5]]}', NOT_JSON),
    ("a no-break space", b'{"events": [[1,\xc2\xa02, 3, 4, 5]]}', NOT_JSON),
    ("a byte order mark", b'\xef\xbb\xbf{"events": [[1, 2, 3, 4, 5]]}', f"{NOT_JSON}: invalid character at byte 0"),
    ("UTF-16", _rows(ROW).decode().encode("utf-16"), f"{NOT_JSON}: invalid character at byte 0"),
    ("UTF-16 without a mark", _rows(ROW).decode().encode("utf-16-le"), NOT_JSON),
    ("UTF-32", _rows(ROW).decode().encode("utf-32"), f"{NOT_JSON}: invalid character at byte 0"),
    ("Latin-1 in a text", b'{"events": [[1, 2, "\xe9", 4, 5]]}', "events[0][2] (feature2) is a string"),
    ("Latin-1 in a key", b'{"\xe9v\xe9nements": [[1, 2, 3, 4, 5]]}', f"{NOT_JSON}: it has text that is not UTF-8"),
    ("a lone continuation byte", b'{"events": [[1, 2, \x80, 4, 5]]}', f"{NOT_JSON}: invalid character at byte 19"),
    ("an overlong bracket", b'{"events": \xc1\x9b[1, 2, 3, 4, 5]]}', f"{NOT_JSON}: invalid character at byte 11"),
    ("a surrogate in UTF-8", b'{"\xed\xa0\x80": 1}', "the body is not valid JSON: it has text that is not UTF-8"),
    (
        "half a character at the end",
        b'{"events": [[1, 2, 3, 4, 5]]}\xe2\x82',
        "the body is not valid JSON: trailing characters at byte 29",
    ),
    (
        "bytes that are no UTF-8 far behind",
        _rows(*[WIDE_ROW] * 2000)[:-3] + b"\xff]]}",
        "the body is not valid JSON: expected ',' or ']' at byte 194009",
    ),
    (
        "an escaped half character",
        rb'{"events": [[1, 2, "\ud800", 4, 5]]}',
        "the body is not valid JSON: unexpected end of escaped utf-16 surrogate pair at byte 26",
    ),
    ("a wrong escape", rb'{"events": [[1, 2, "\x41", 4, 5]]}', NOT_JSON),
    ("a control byte in a text", b'{"events": [[1, 2, "\x01", 4, 5]]}', NOT_JSON),
    ("a text without an end", b'{"events": [[1, 2, "3, 4, 5]]}', NOT_JSON),
    ("a very long text", b'{"events": "%b"}' % (b"x" * DEEP), "events is "),
    ("a very long text for a number", _rows(f'[1, "{"x" * DEEP}", 3, 4, 5]'), "events[0]"),
    ("deep lists", b"[" * DEEP, "the body is a list, expected an object"),
    ("deep lists, closed", b"[" * DEEP + b"]" * DEEP, "the body is a list, expected an object"),
    ("deep objects", b'{"events":' * 30_000, "events is an object, expected a list of events"),
    ("deep lists for events", b'{"events": ' + b"[" * DEEP, "events[0][0] (feature0) is a list, expected a number"),
    ("deep lists in a row", b'{"events": [[1, 2, ' + b"[" * DEEP, "events[0][2] (feature2) is a list"),
    ("deep lists after good rows", _rows(ROW, ROW)[:-2] + b"," + b"[" * DEEP, "events[2][0] (feature0) is a list"),
    ("deep lists behind", _rows(ROW) + b"[" * DEEP, NOT_JSON),
    ("a number of 10^5 digits", _rows(ROW, f"[{'7' * 10**5}, 2, 3, 4, 5]"), "events[1]"),
    ("an exponent of 10^5 digits", _rows(ROW, f"[1e{'9' * 10**5}, 2, 3, 4, 5]"), "events[1]"),
    ("MessagePack", MSGPACK.write("events", sample_events(3)), f"{NOT_JSON}: invalid character at byte 0"),
    (
        "packed MessagePack",
        MSGPACK_BINARY.write("events", sample_events(3)),
        f"{NOT_JSON}: invalid character at byte 0",
    ),
    ("raw rows", RAW.write("events", sample_events(3)), "the body is not valid JSON: invalid character at byte 1"),
    (".npy", NPY.write("events", sample_events(3)), f"{NOT_JSON}: invalid character at byte 0"),
    ("HTML", b"<html><body>events</body></html>", NOT_JSON),
    ("a form", b"events=1,2,3,4,5", NOT_JSON),
    ("gzip", gzip.compress(_rows(ROW), mtime=0), f"{NOT_JSON}: invalid character at byte 0"),
    *[
        (f"{name} for a number", _rows(ROW, f"[1, 2, {text}, 4, 5]"), f"events[1][2] (feature2) {detail}")
        for name, text, detail in WRONG_NUMBERS
    ],
    *[(f"{name} for a number", _rows(ROW, f"[1, 2, {text}, 4, 5]"), detail) for name, text, detail in NOT_NUMBERS],
]

EVENTS: list[Body] = [
    ("empty", b"", "the body is empty, expected 1 event"),
    ("spaces", b" \n\t ", NOT_JSON),
    ("null", b"null", "the body is null, expected an object"),
    ("a list", b"[1, 2, 3, 4, 5]", "the body is a list, expected an object"),
    ("a text", b'"features"', "the body is a string, expected an object"),
    ("an empty object", b"{}", 'missing key "features"'),
    ("features null", b'{"features": null}', "features is null, expected a list of 5 numbers"),
    ("features a number", b'{"features": 7}', "features is a number, expected a list of 5 numbers"),
    ("features a text", b'{"features": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}', "features is a string, expected a list"),
    ("features an object", b'{"features": {"feature0": 1}}', "features is an object, expected a list of 5 numbers"),
    ("no features", b'{"features": []}', "the event has 0 features, expected 5"),
    ("one too few", b'{"features": [1, 2, 3, 4]}', "the event has 4 features, expected 5"),
    ("one too many", b'{"features": [1, 2, 3, 4, 5, 6]}', "the event has 6 features, expected 5"),
    ("very many", b'{"features": [%b1]}' % (b"1," * 30_000), "the event has 30001 features, expected 5"),
    ("an event in a list", b'{"features": [[1, 2, 3, 4, 5]]}', "features[0] (feature0) is a list, expected a number"),
    ("the other route's key", b'{"events": [[1, 2, 3, 4, 5]]}', 'unknown key "events", expected "features"'),
    ("a further key", b'{"features": [1, 2, 3, 4, 5], "id": 1}', 'unknown key "id", expected "features"'),
    ("the key twice", b'{"features": [1, 2, 3, 4, 5], "features": [1, 2, 3, 4, 5]}', "more than once"),
    ("the key twice, first wrong", b'{"features": 7, "features": [1, 2, 3, 4, 5]}', "features"),
    (
        "the key twice, once escaped",
        rb'{"features": [1, 2, 3, 4, 5], "\u0066eatures": [5, 4, 3, 2, 1]}',
        "more than once",
    ),
    ("cut in the key", b'{"feat', NOT_JSON),
    ("cut in the list", b'{"features": [1, 2, 3', NOT_JSON),
    ("cut before the last brace", b'{"features": [1, 2, 3, 4, 5]', NOT_JSON),
    ("a comma at the end", b'{"features": [1, 2, 3, 4, 5,]}', NOT_JSON),
    ("bytes behind", b'{"features": [1, 2, 3, 4, 5]};', NOT_JSON),
    ("two documents", b'{"features": [1, 2, 3, 4, 5]}' * 2, NOT_JSON),
    ("a byte order mark", b'\xef\xbb\xbf{"features": [1, 2, 3, 4, 5]}', f"{NOT_JSON}: invalid character at byte 0"),
    ("UTF-16", '{"features": [1, 2, 3, 4, 5]}'.encode("utf-16"), f"{NOT_JSON}: invalid character at byte 0"),
    ("Latin-1 in a text", b'{"features": [1, 2, "\xe9", 4, 5]}', "features[2] (feature2) is a string"),
    (
        "an escaped half character",
        rb'{"features": [1, 2, "\ud800", 4, 5]}',
        "the body is not valid JSON: unexpected end of escaped utf-16 surrogate pair at byte 27",
    ),
    ("deep lists", b"[" * 30_000, "the body is a list, expected an object"),
    ("deep objects", b'{"features":' * 5000, "features is an object, expected a list of 5 numbers"),
    (
        "deep lists for features",
        b'{"features": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        "features[0] (feature0) is a list, expected a number",
    ),
    ("raw rows", RAW.write("features", sample_events(1)), "the body is not valid JSON: invalid character at byte 1"),
    *[
        (f"{name} for a number", f'{{"features": [1, 2, {text}, 4, 5]}}'.encode(), f"features[2] (feature2) {detail}")
        for name, text, detail in WRONG_NUMBERS
    ],
    *[
        (f"{name} for a number", f'{{"features": [1, 2, {text}, 4, 5]}}'.encode(), detail)
        for name, text, detail in NOT_NUMBERS
    ],
]

TOO_MUCH: list[Body] = [
    ("one event more than the most", _rows(*["[0,0,0,0,0]"] * (MAX_EVENTS + 1)), str(MAX_EVENTS)),
    ("one byte more than the most", _rows(ROW).ljust(MAX_BODY_BYTES + 1), str(MAX_BODY_BYTES)),
]

CASES = [
    *bodies(SCORE_BATCH, JSON, BATCHES),
    *bodies(SCORE_BATCH, JSON, TOO_MUCH, 413),
    *bodies(SCORE, JSON, EVENTS),
    *bodies(
        SCORE, JSON, [("too long", b'{"features": [1, 2, 3, 4, 5]}'.ljust(MAX_BODY_BYTES + 1), "expected at most")], 413
    ),
]

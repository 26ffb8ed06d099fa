"""JSON bodies that must be refused for how they are written, each with a part of the message that it gets."""

import gzip

from benchmarks.load.formats import JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW
from tests.artefacts import sample_events
from tests.service.api.bad_input import MAX_BODY_BYTES, SCORE, SCORE_BATCH, Body, bodies

NOT_JSON = "the body is not valid JSON"
DEEP = 30_000
DIGITS = 60_000
"""Of a number that is shown: longer ones are longer than any event may be."""

NOT_NUMBERS = [
    *("", "nan", "inf", "-inf", "True", "undefined", "nul", "+3", "-", "--3", "03", "-03", "00", "3.", "-3.", ".3"),
    *("-.3", "3.3.3", "3.-3", "3e", "3e+", "3E-", "3.e5", "3e1.5", "3e1e1", "0x3", "3_000", "3 000", "3f", "3;", "3:"),
    *("3/3", "3-3", "3+3", "12345678-", "\0", "3\0", "\x0b3", "3\x0c", "\xa03", "\xc2\xa03", "\xef\xbc\x93", "\x80"),
    *("/* 3 */ 3", "'3'", r'"\x41"', '"\x01"', r'"\ud800"', '"3', "(3)", "\xff"),
]
"""What is not JSON in the place of a number; letters above ASCII are the bytes of the body."""

TOO_LARGE = [
    *("1e400", "-1e400", "-1e99999999999999999999", "1e" + "9" * 50, "1e" + "0" * 40 + "400"),
    *("7" * DIGITS, "-" + "7" * DIGITS, "7" * DIGITS + ".5"),
]
"""Numbers that are not finite as float32: messages show their first digits as they were written."""

NOT_EVENTS = [
    *("[1, 2, 3, 4, 5,]", "[1, 2,, 3, 4, 5]", "[,1, 2, 3, 4, 5]", "[1 2, 3, 4, 5]", "[1, 2, 3, 4, 5}"),
    *("[1, 2, 3, 4, 5]]", "((1, 2, 3, 4, 5))"),
    *("[1, 2, 3, 4, 5] [1, 2, 3, 4, 5]", "[1, 2, 3, 4, 5],, [1, 2, 3, 4, 5]", "(1, 2, 3, 4, 5)", "/**/[1, 2, 3, 4, 5]"),
    *("[1, 2, 3, 4, 5];", "\x0c[1, 2, 3, 4, 5]", "[1, 2, 3, 4, 5]\0", "\xc1\x9b[1, 2, 3, 4, 5]"),  # an overlong bracket
    *(f"[1, 2, {text}, 4, 5]" for text in NOT_NUMBERS),
]
"""What is not JSON in the place of an event."""


WRONG_NUMBERS = [
    *((text, f" is {text[:20]}") for text in TOO_LARGE),
    *((text, f" is {found}, expected a finite number") for text, found in (("NaN", "nan"), ("-Infinity", "-inf"))),
    *((text, " is 1e39, which is not finite as float32") for text in ("1E+39", f"1{'0' * 39}")),
    *((f'"\xe9{"x" * tail}"', " is a string, expected a number") for tail in (0, DEEP)),
    *((f"1e400, NaN{tail}", " is 1e400, which is not finite as float32") for tail in ("]", "\xff", '"x"')),
    ("[" * DEEP, " is a list, expected a number"),
]
"""What is wrong in the place of a number, and what follows the number's place in the message."""


def written(key: str, value: str, place: str) -> list[Body]:
    """Write bodies that are wrong on both routes; an event's number 2 is at `place`, and `value` is a right value."""
    good = f'{{"{key}": {value}}}'
    texts = [
        *((" " * n_spaces, "the body ") for n_spaces in (1, DEEP)),
        *((good[:length], f"{NOT_JSON}: it ends early, at byte {length}") for length in range(1, len(good))),
        *(
            (good + tail, f"{NOT_JSON}: trailing characters at byte {len(good) + len(tail) - len(tail.lstrip())}")
            for tail in (" x", "}", "]", ";", "\0", "\n" + good, "\xe2\x82", "[" * DEEP)
        ),
        *((good.replace(" ", wrong), NOT_JSON) for wrong in ("\x0c", "\xc2\xa0", "\0")),
        *((good.replace(*change), NOT_JSON) for change in ((":", ""), (":", "::"), ('"', ""), ('"', "'"), ("}", "]"))),
        *(("\xef\xbb\xbf" + good, f"{NOT_JSON}: invalid character at byte 0"), ("// all\n" + good, NOT_JSON)),
        (f"{good[:-1]},}}", f"{NOT_JSON}: trailing comma in object at byte {len(good)}"),
        (f"{good[:-1]}, {good[1:]}", "more than once"),
        (f'{good[:-1]}, "\\u00{ord(key[0]):x}{key[1:]}": {value}}}', "more than once"),
        *((text, key) for text in (f'{{"{key}": 7, {good[1:]}', f'{good[:-1]}, "{key}": 7}}')),
        *(
            (f'{{"{wrong}": {value}}}', f"{NOT_JSON}: it has text that is not UTF-8")
            for wrong in ("\xe9v", "\xed\xa0\x80")
        ),
        ('{"\xc3\xa9": ?}', f'unknown key "é", expected "{key}"'),
        (f'{{"{key}": ?}}', f"{NOT_JSON}: invalid character at byte {len(key) + 5}"),
        *(("1e400", "the body "), (f'{{"{key}": 1e400}}', f"{key}")),
        *((text, "the body is a list, expected an object") for text in ("[" * DEEP, "[" * DEEP + "]" * DEEP)),
        (f'{{"{key}":' * 5_000, f"{key} is an object, expected a list"),
        *(("<html></html>", NOT_JSON), (f"{key}=1,2,3,4,5", NOT_JSON), ("\0" * 100, NOT_JSON)),
        *((good.replace("[1, 2, 3, 4, 5]", wrong), NOT_JSON) for wrong in NOT_EVENTS),
        *((good.replace("3", text), f"{place} (feature2){detail}") for text, detail in WRONG_NUMBERS),
    ]
    return [
        *((text.encode("latin-1"), detail) for text, detail in texts),
        *((good.encode(f"utf-{bits}"), f"{NOT_JSON}: invalid character at byte 0") for bits in (16, 32)),
        (good.encode("utf-16-le"), NOT_JSON),
        (gzip.compress(good.encode(), mtime=0), f"{NOT_JSON}: invalid character at byte 0"),
        *((fmt.write(key, sample_events(3)), NOT_JSON) for fmt in (MSGPACK, MSGPACK_BINARY, RAW, NPY)),
    ]


BATCHES: list[Body] = [
    (b"", "the body is empty, expected at least 1 event"),
    (b'{"events": [[1, 2, 3, 4, 5], 1e400]}', "events[1] "),
    (b'{"events": [[1, 2, 3,5, 4, 5]]}', "events[0] has 6 features, expected 5"),
    (b'{"events": [[1, 2, 3, 4, 5],]}', NOT_JSON),
    (b'{"events": [,[1, 2, 3, 4, 5]]}', NOT_JSON),
    (b'{"events": ' + b"[" * DEEP, "events[0][0] (feature0) is a list, expected a number"),
    (b'{"events": [[1, 2, 3, 4, 5], ' + b"[" * DEEP, "events[1][0] (feature0) is a list, expected a number"),
    (b'{"events": [[%b, 2, 3, 4, 5]]}' % (b"7" * 100_000), "events[0] does not end within 65536 bytes"),
    (b'{"events": [%b[1,2,\xff' % (b"[1.0,2.0,3.0,4.0,5.0]," * 4500), "at byte 99017"),
]
EVENTS: list[Body] = [
    (b"", "the body is empty, expected 1 event"),
    (b'{"features": }', NOT_JSON),
    (b'{"features": [1, 2, 3,5, 4, 5]}', "the event has 6 features, expected 5"),
    (b'{"features": ' + b"[" * DEEP, "features[0] (feature0) is a list, expected a number"),
]
TOO_LONG: list[tuple[str, bytes]] = [
    (SCORE, b'{"features": [1, 2, 3, 4, 5]}'),
    (SCORE_BATCH, b'{"events": [[1, 2, 3, 4, 5]]}'),
]

CASES = [
    *bodies(SCORE_BATCH, JSON, [*BATCHES, *written("events", "[[1, 2, 3, 4, 5]]", "events[0][2]")]),
    *bodies(SCORE, JSON, [*EVENTS, *written("features", "[1, 2, 3, 4, 5]", "features[2]")]),
    *(
        case
        for path, body in TOO_LONG
        for case in bodies(path, JSON, [(body.ljust(MAX_BODY_BYTES + 1), "expected at most")], 413)
    ),
]

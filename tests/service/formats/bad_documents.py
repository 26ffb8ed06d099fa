"""Documents that must be refused in JSON and in MessagePack alike, on both routes."""

import json
from collections.abc import Callable
from math import inf, nan
from typing import Any

import msgspec

from benchmarks.load.formats import JSON, MSGPACK
from tests.service.api.bad_input import MAX_EVENTS, SCORE, SCORE_BATCH, Case, bodies

ROW = [1.0, 2.0, 3.0, 4.0, 5.0]
LONG_TEXT = "x" * 60_000

Document = tuple[Any, str]
"""A value, and a part of the message that it gets."""

TYPES: list[Document] = [
    (None, "null"),
    (True, "a boolean"),
    (7, "a number"),
    ("[1, 2, 3, 4, 5]", "a string"),
    (LONG_TEXT, "a string"),
    ([ROW], "a list"),
    ({"0": ROW}, "an object"),
]

WRONG_NUMBERS: list[Document] = [
    *((value, f"is {found}, expected a number") for value, found in TYPES if value != 7),
    (False, "is a boolean, expected a number"),
    *((text, "is a string, expected a number") for text in ("NaN", "],[")),
    ([], "is a list, expected a number"),
    *((value, f"is {value}, expected a finite number") for value in (nan, inf, -inf)),
    *((float(text), f"is {text}, which is not finite as float32") for text in ("1e39", "-1e300")),
    (3.4028235677973366e38, "is 3.4028235677973366e38, which is not finite as float32"),  # float32 rounds it up
]

WRONG_COUNTS: list[Document] = [
    (values, f"has {len(values)} features, expected 5") for values in ([], ROW[:4], [*ROW, 6.0], [1.0] * 4_001)
]

WRONG_EVENTS: list[Document] = [
    *((value, f" is {found}, expected a list of 5 numbers") for value, found in TYPES if value != [ROW]),
    ([ROW], "[0] (feature0) is a list, expected a number"),
    *(
        ([*ROW[: place % 5], number, *ROW[place % 5 + 1 :]], f"[{place % 5}] (feature{place % 5}) {detail}")
        for place, (number, detail) in enumerate(WRONG_NUMBERS)
    ),
]
"""Events, and what the message says after the event's place."""

WRONG_BATCHES: list[Document] = [
    ([], "events is empty, expected at least 1 event"),
    (ROW, "events[0] is a number, expected a list of 5 numbers"),
    ([[ROW, ROW]], "events[0][0] (feature0) is a list, expected a number"),
    ([ROW[:4], [*ROW, 6.0]], "events[0] has 4 features, expected 5"),
    ([[]] * 5000, "events[0] has 0 features, expected 5"),
    ([*[ROW] * 4500, ROW[:1], ROW], "events[4500] has 1 features, expected 5"),
    *(([ROW, event, ROW], f"events[1]{detail}") for event, detail in WRONG_EVENTS),
    *(([ROW, ROW, event], f"events[2] {detail}") for event, detail in WRONG_COUNTS),
]


def documents(key: str, value: Any, other_key: str) -> list[Document]:
    """Make documents that are wrong around the value of their key."""
    unknown = (other_key, key.title(), f"{key} ", f"{key}\0", "", LONG_TEXT)
    return [
        *((body, f"the body is {found}, expected an object") for body, found in TYPES if found != "an object"),
        ({}, f'missing key "{key}"'),
        *(({name: value}, f"unknown key {json.dumps(name)[:60]}") for name in unknown),
        ({key: value, "id": 1}, f'unknown key "id", expected "{key}"'),
        ({"id": 1, key: value}, f'unknown key "id", expected "{key}"'),
        ({f"k{number}": 1 for number in range(3000)}, 'unknown key "k0"'),
    ]


DOCUMENTS = {
    SCORE: [
        *documents("features", ROW, "events"),
        *(({"features": event}, f"features{detail}") for event, detail in WRONG_EVENTS),
        *(({"features": event}, f"the event {detail}") for event, detail in WRONG_COUNTS),
    ],
    SCORE_BATCH: [
        *documents("events", [ROW], "features"),
        *(
            ({"events": value}, f"events is {found}, expected a list of events")
            for value, found in TYPES
            if value != [ROW]
        ),
        *(({"events": value}, detail) for value, detail in WRONG_BATCHES),
    ],
}
WRITE: list[tuple[Any, Callable[[Any], bytes]]] = [
    (JSON, lambda document: json.dumps(document).encode()),
    (MSGPACK, msgspec.msgpack.encode),
]
TOO_MANY = {"events": [[0] * 5] * (MAX_EVENTS + 1)}
CASES: list[Case] = []
for fmt, write in WRITE:
    for path, table in DOCUMENTS.items():
        CASES += bodies(path, fmt, [(write(document), detail) for document, detail in table])
    CASES += bodies(SCORE_BATCH, fmt, [(write(TOO_MANY), str(MAX_EVENTS))], 413)

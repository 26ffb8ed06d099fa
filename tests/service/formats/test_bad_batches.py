"""Wrong batches are refused with the same message however they arrive, wherever in the body the fault is."""

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.load.formats import MSGPACK, npy_bytes
from service.formats.format import BLOCK_EVENTS
from tests.artefacts import feature_names
from tests.service.api.bad_input import MAX_EVENTS, SCORE, SCORE_BATCH
from tests.service.formats import bad_arrays, bad_json, bad_msgpack, references
from tests.service.formats.references import Open, event_outcome, outcome, random_pieces, readers
from tests.service.formats.ways import (
    DOCUMENT_WAYS,
    JSON_READERS,
    OPEN_MSGPACK,
    OPEN_NPY,
    WAYS,
    Way,
    by_columns,
    compact,
    events_of,
    json_with,
    packed_floats,
    syntax_message,
)

NAMES = feature_names(5)
ROW = b"[1,2,3,4,5]"

FAR = BLOCK_EVENTS + 3
"""A row after a whole block, and in JSON after many segments."""


def refusal(opened: Open, body: bytes) -> str:
    """Give the message of a refusal, which is the same however the body arrives."""
    return references.refusal(opened, body, NAMES)


def test_every_body_of_the_tables_is_refused_by_every_reader(subtests: pytest.Subtests) -> None:
    """The message names the place for every reader of a format and however the body arrives."""
    for case in [*bad_json.CASES, *bad_msgpack.CASES, *bad_arrays.CASES]:
        [(_, media_type)] = case.headers
        if case.path == SCORE_BATCH and "one byte more" not in case.name:
            for name, opened in readers(media_type).items():
                with subtests.test(f"{case.name}, {name}"):
                    for pieces in ([case.body], [*random_pieces(case.body, 3), b""], random_pieces(case.body, 20)):
                        message = outcome(opened, pieces, NAMES, MAX_EVENTS)
                        assert isinstance(message, str)
                        assert case.detail in message
        elif case.path == SCORE:
            with subtests.test(case.name):
                message = event_outcome(case.body, media_type, NAMES)
                assert isinstance(message, str)
                assert case.detail in message


WRONG_ROWS: list[tuple[Any, str]] = [
    ([1.5] * 4, "events[{row}] has 4 features, expected 5"),
    ([1.5] * 6, "events[{row}] has 6 features, expected 5"),
    (7, "events[{row}] is a number, expected a list of 5 numbers"),
    ({}, "events[{row}] is an object, expected a list of 5 numbers"),
    ("[1,2,3,4,5]", "events[{row}] is a string, expected a list of 5 numbers"),
    ([1.5, 1.5, "],[", 1.5, 1.5], "events[{row}][2] (feature2) is a string, expected a number"),
    ([1.5, 1.5, [1.5], 1.5, 1.5], "events[{row}][2] (feature2) is a list, expected a number"),
    ([1.5, 1.5, 1.5, 1.5, float("nan")], "events[{row}][4] (feature4) is nan, expected a finite number"),
    ([1.5, 1e300, 1.5, 1.5, 1.5], "events[{row}][1] (feature1) is 1e300, which is not finite as float32"),
]


def test_a_wrong_row_is_named_wherever_it_is(subtests: pytest.Subtests) -> None:
    """The message counts the rows of the whole body, however many were read and forgotten before the wrong one."""
    rows: list[Any] = events_of(FAR + 100).tolist()
    for wrong, message in WRONG_ROWS:
        for way in DOCUMENT_WAYS:
            with subtests.test(f"{way.name}, {message}"):
                for row, n_rows in ((0, 1), (3, 50), (FAR, FAR + 100)):
                    body = way.of_rows([*rows[:row], wrong, *rows[row + 1 : n_rows]])
                    assert refusal(way.open, body) == message.format(row=row)


def test_a_number_that_is_not_finite_is_named_wherever_it_is(subtests: pytest.Subtests) -> None:
    """The message counts the rows of the whole body, and names the feature."""
    for name in ("raw", "npy <f4", "npy >f4", "npy <f8", "npy <f2", "npy by columns >f8", "msgpack float32", "packed"):
        with subtests.test(name):
            way = WAYS[name]
            for row in (0, 3, FAR):
                events = events_of(row + 50).astype(way.dtype)
                events[row, 2], events[row, 4] = np.nan, np.inf
                message = f"events[{row}][2] (feature2) is nan, expected a finite number"
                assert refusal(way.open, way.write(events)) == message


@pytest.mark.parametrize("pattern", [0x7FF0000000000001, 0xFFF4000000000000])
def test_a_signalling_nan_is_refused_without_a_warning(pattern: int) -> None:
    """The NaN for which a processor raises a flag is refused as any other, and nothing is printed."""
    events = events_of(9).astype("<f8")
    events[4, 1] = 1e99
    packed = MSGPACK.write("events", events).replace(struct.pack(">d", 1e99), struct.pack(">Q", pattern))
    events.view("<u8")[4, 1] = pattern
    for opened, body in (
        (OPEN_NPY, npy_bytes(events)),
        (OPEN_NPY, by_columns(events)),
        (OPEN_MSGPACK, packed),
    ):
        assert refusal(opened, body) == "events[4][1] (feature1) is nan, expected a finite number"


def test_rows_are_counted_one_by_one(subtests: pytest.Subtests) -> None:
    """A number too few in one row is not made up for by one too many in the next."""
    for way in DOCUMENT_WAYS:
        for row in (0, 2, BLOCK_EVENTS - 2, BLOCK_EVENTS - 1):
            with subtests.test(f"{way.name}, row {row}"):
                for short, long in ((row, row + 1), (row + 1, row)):
                    rows: list[list[float]] = events_of(row + 300).tolist()
                    rows[long].append(rows[short].pop())
                    message = f"events[{row}] has {4 if short == row else 6} features, expected 5"
                    assert refusal(way.open, way.of_rows(rows)) == message


WRONG_JSON_ROWS = [
    *(b"[1,2,3,4,05]", b"[1,2,3,4,5.]", b"[1,2,3,4,.5]", b"[1,2,3,4,+5]", b"[1,2,3,4,5e]", b"[1,2,3,4,0x5]"),
    *(b"[1,2,3,4,-]", b"[1,2,3,4,5,]", b"[1,2,3,,5]", b"[,1,2,3,4]", b"[1 2,3,4,5]", b"[1,2,3,4,5]]", b"[1,2,3,4,5}"),
    *(b"[1,2,3,4,nul]", b"[1,2,3,4,\x00]", b"[1,2,3,4,\xff]", ROW + ROW, ROW + b",," + ROW, b""),
]


@pytest.mark.parametrize("reader", JSON_READERS)
def test_broken_json_is_refused_at_its_byte_wherever_that_is(reader: str, subtests: pytest.Subtests) -> None:
    """The message counts the bytes of the whole body, however many were read and forgotten before the wrong one."""
    for wrong in WRONG_JSON_ROWS:
        with subtests.test(repr(wrong)):
            for row in (0, 3, FAR):
                body = json_with(row, wrong)
                assert refusal(JSON_READERS[reader], body) == syntax_message("JSON", body)


@pytest.mark.parametrize("reader", JSON_READERS)
def test_json_with_a_wrong_end_is_refused_at_its_byte(reader: str, subtests: pytest.Subtests) -> None:
    """A body that breaks off anywhere, or goes on after its rows, is refused where msgspec stops reading."""
    more = (b"]", b"}", b",]}", b"]]}", b"],}", b"]} x", b"]}]", b"]}\x00", b'], "id"}')
    for n_events in (1, FAR):
        body = compact(events_of(n_events))
        broken = [body[:length] for length in range(1 if n_events == 1 else len(body) - 9, len(body))]
        for wrong in [*broken, *(body.removesuffix(b"]}") + tail for tail in more)]:
            with subtests.test(f"{n_events} events, {wrong[-30:]!r}"):
                # A comma before the end of the list is seen where the next row should start.
                message = syntax_message("JSON", wrong).replace("trailing comma in array", "invalid character")
                assert refusal(JSON_READERS[reader], wrong) == message


@pytest.mark.parametrize("reader", JSON_READERS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (b"[1,2,3,4,5", "events[{row}][5] is a list, expected a number"),
        (b"1,2,3,4,5]", "events[{row}] is a number, expected a list of 5 numbers"),
        (b'[1,2,3,4,"\xc3"]', "events[{row}][4] (feature4) is a string, expected a number"),
    ],
)
def test_of_two_faults_in_json_the_first_is_named(reader: str, wrong: bytes, message: str) -> None:
    """A wrong type is named, though a later byte makes the body no JSON."""
    for row in (0, 3, FAR):
        assert refusal(JSON_READERS[reader], json_with(row, wrong)) == message.format(row=row)


@pytest.mark.parametrize("way", [WAYS["msgpack"], WAYS["msgpack float32"]], ids=lambda way: way.name)
def test_broken_messagepack_is_refused_at_its_byte_wherever_that_is(way: Way) -> None:
    """The message counts the bytes of the whole body, however many were read and forgotten before the wrong one."""
    for row in (0, 3, FAR):
        body = bytearray(way.write(events_of(row + 50)))
        row_bytes = len(body) - len(way.write(events_of(row + 49)))
        body[len(body) - 50 * row_bytes if row else 11] = 0xC1
        assert refusal(way.open, bytes(body)) == syntax_message("MessagePack", bytes(body))


def test_messagepack_rows_are_told_apart_by_their_lengths() -> None:
    """A row of another length and as many bytes is read for what it says."""
    body = bytearray(packed_floats(events_of(4)))
    body[body.index(b"\x95", 12)] = 0x94
    assert refusal(OPEN_MSGPACK, bytes(body)) == "events[0] has 4 features, expected 5"


def test_messagepack_of_another_length_than_announced_is_refused() -> None:
    """The number of rows is checked, in lists and in binary strings."""
    rows = packed_floats(events_of(9)).partition(b"\xdd\x00\x00\x00\x09")[2]
    raw = events_of(9).tobytes()
    values = [start + rows for start in (b"\x98", b"\x9a", b"\xdc\x00\x08", b"\xdd\xff\xff\xff\xff")]
    values += [b"\xc5" + struct.pack(">H", len(raw) + more) + raw for more in (-20, 20)]
    for value in values:
        message = refusal(OPEN_MSGPACK, b"\x81\xa6events" + value)
        assert message.startswith("the body is not valid MessagePack")


def test_a_second_key_is_refused(subtests: pytest.Subtests) -> None:
    """A key before the list or after it is refused by its name, and the same key again by there being two."""
    for way in DOCUMENT_WAYS:
        encode: Callable[[Any], bytes] = msgspec.msgpack.encode if "msgpack" in way.name else msgspec.json.encode
        for n_events in (1, 50, FAR):
            with subtests.test(f"{way.name}, {n_events} events"):
                events = events_of(n_events).tolist()
                named = 'unknown key "id", expected "events"'
                late = 'the first 65536 bytes are not those of a batch, expected an object with the key "events"'
                assert refusal(way.open, encode({"id": 1, "events": events})) == named
                far = "msgpack" in way.name and n_events == FAR  # MessagePack says at its start how many keys come
                assert refusal(way.open, encode({"events": events, "id": 1})) == (late if far else named)
                if "json" in way.name:
                    rows = compact(events_of(n_events))[1:-1]
                    for second in (rows, b'"events":[[1,2,3,4,5]]'):
                        message = refusal(way.open, b"{" + rows + b"," + second + b"}")
                        assert message == 'the key "events" is there more than once'


def test_a_body_that_is_too_short_or_too_long_is_refused(subtests: pytest.Subtests) -> None:
    """No format takes the start of a body for the whole, or leaves bytes unread."""
    for way in WAYS.values():
        if "json" not in way.name:
            for n_events in (1, FAR):
                with subtests.test(f"{way.name}, {n_events} events"):
                    body = way.write(events_of(n_events).astype(way.dtype))
                    for missing in (1, 2, 3, 7, 13):
                        assert refusal(way.open, body[:-missing])
                    for more in (b"\x00", b"\xc0", bytes(19)):
                        assert refusal(way.open, body + more)

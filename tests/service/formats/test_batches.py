"""Batches are read in whatever pieces they arrive: the same rows, the same refusals, and no memory but a block's."""

import json
import re
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats.format import BLOCK_EVENTS, BatchReader
from service.formats.json import JsonReader
from service.formats.table import FORMATS
from tests.artefacts import feature_names, sample_events
from tests.service.formats.encodings import MSGPACK, NPY, PACKED, RAW, Format, npy_bytes
from tests.service.formats.references import COMPILED, SlowJsonReader

Write = Callable[[NDArray[Any]], bytes]
Open = Callable[[list[str]], BatchReader]

MANY = 10_000
"""Events of more than two blocks, and in JSON of more than ten segments."""

FAR = 9000
"""A row after two whole blocks, and after many segments."""


class Way(NamedTuple):
    """A reader, and one way to write what it reads."""

    name: str
    open: Open
    write: Write
    dtype: str = "<f4"
    """What a client has the numbers as before it writes them."""


def opener(fmt: Format) -> Open:
    """Open readers of a format."""
    return lambda names: FORMATS.of_request(fmt.media_type).open_batch(names, sys.maxsize)


open_raw, open_npy, open_msgpack = opener(RAW), opener(NPY), opener(MSGPACK)


def open_slow(names: list[str]) -> BatchReader:
    """Open a reader of JSON that needs no compiler."""
    return SlowJsonReader(names, sys.maxsize)


def open_compiled(names: list[str]) -> BatchReader:
    """Open a reader of JSON that is written in C."""
    return JsonReader(names, sys.maxsize)


def packed_floats(events: NDArray[Any]) -> bytes:
    """Write rows of float32 in MessagePack, as encoders do that are told to use single precision."""
    tagged = np.empty(events.shape, [("tag", "u1"), ("value", ">f4")])
    tagged["tag"], tagged["value"] = 0xCA, events
    row_head = row_start(events.shape[1])
    return b"\x81\xa6events\xdd" + struct.pack(">I", len(events)) + b"".join(row_head + row.tobytes() for row in tagged)


def row_start(n_features: int) -> bytes:
    """Write the head of a list of this length in MessagePack."""
    return bytes([0x90 | n_features]) if n_features < 16 else b"\xdc" + struct.pack(">H", n_features)


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
    """Write an .npy file in Fortran's order."""
    return npy_bytes(np.asfortranarray(events))


def written(write: Callable[[str, NDArray[Any]], bytes]) -> Write:
    """Write a batch as a format does."""
    return lambda events: write("events", events)


RAW_WAY = Way("raw", open_raw, written(RAW.write))
NPY_WAYS = [
    *(Way(f"npy-{dtype}", open_npy, npy_bytes, dtype) for dtype in ("<f4", ">f4", "<f8", "<f2", "i1", ">i8")),
    *(Way(f"npy-columns-{dtype}", open_npy, by_columns, dtype) for dtype in ("<f4", ">f8", "<i2")),
]
MSGPACK_WAYS = [
    Way("msgpack", open_msgpack, written(MSGPACK.write)),
    Way("msgpack-float32", open_msgpack, packed_floats),
    Way("msgpack-mixed", open_msgpack, packed_mixed),
    Way("msgpack-binary", open_msgpack, written(PACKED.write)),
]
JSON_READERS: dict[str, Open] = {
    "slow": open_slow,
    **({"compiled": open_compiled} if COMPILED else {}),
}
JSON_WAYS = [
    Way(f"{name}-{write.__name__}", opened, write)
    for name, opened in JSON_READERS.items()
    for write in (compact, pretty)
]
DOCUMENT_WAYS = [*JSON_WAYS, *MSGPACK_WAYS[:3]]
WAYS = [RAW_WAY, *NPY_WAYS, *MSGPACK_WAYS, *JSON_WAYS]


def each(ways: Iterable[Way]) -> pytest.MarkDecorator:
    """Run a test for each way."""
    return pytest.mark.parametrize("way", ways, ids=lambda way: way.name)


json_readers = pytest.mark.parametrize("opened", JSON_READERS.values(), ids=JSON_READERS)


def events_of(n_events: int, n_features: int = 5) -> NDArray[np.float32]:
    """Draw events, a few of them of whole numbers, that are small enough for any type."""
    events = sample_events(n_events, n_features).clip(-100, 100)
    events[::700] = events[::700].round()
    return events


def blocks(reader: BatchReader, pieces: list[bytes]) -> list[NDArray[np.float32]]:
    """Read a body in these pieces."""
    return [
        block.copy()
        for place, piece in enumerate(pieces)
        for block in reader.feed(piece, last=place == len(pieces) - 1)
    ]


def outcome(reader: BatchReader, pieces: list[bytes]) -> NDArray[np.float32] | str:
    """Read a body in these pieces to its rows, or to the message of its refusal."""
    try:
        return np.concatenate(blocks(reader, pieces))
    except InvalidRequestError as error:
        return str(error)


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut a body at these places."""
    return [body[start:end] for start, end in pairwise([0, *sorted(places), len(body)])]


def cuttings(body: bytes, seed: int = 0) -> Iterator[list[bytes]]:
    """Cut a body at random: into a few pieces, into many, and so that the last is empty, as it is in HTTP."""
    generator = np.random.default_rng(seed)
    for n_cuts in (1, 5, 60):
        yield cut(body, generator.integers(len(body) + 1, size=n_cuts).tolist())
    yield [*cut(body, generator.integers(len(body) + 1, size=3).tolist()), b""]


def refusal(opened: Open, body: bytes, n_features: int = 5) -> str:
    """Give the message of a refusal, which is the same however the body arrives."""
    names = feature_names(n_features)
    message = outcome(opened(names), [body])
    assert isinstance(message, str)
    for pieces in cuttings(body):
        assert outcome(opened(names), pieces) == message
    return message


@each(WAYS)
@pytest.mark.parametrize("n_features", [1, 3, 15, 16, 20])
def test_a_small_body_may_be_cut_anywhere(way: Way, n_features: int) -> None:
    """Cut in two at any byte, or into single bytes, a body gives the rows that it was written from."""
    names = feature_names(n_features)
    events = events_of(3, n_features).astype(way.dtype)
    body = way.write(events)
    for place in range(len(body) + 1):
        np.testing.assert_array_equal(outcome(way.open(names), cut(body, [place])), events.astype(np.float32))
    single = cut(body, range(1, len(body)))
    np.testing.assert_array_equal(outcome(way.open(names), single), events.astype(np.float32))


@each(WAYS)
def test_a_large_body_gives_full_blocks_however_it_is_cut(way: Way) -> None:
    """All blocks are full but the last, and together they are the rows that were sent, whatever the pieces."""
    events = events_of(MANY).astype(way.dtype)
    body = way.write(events)
    for pieces in ([body], *cuttings(body)):
        given = blocks(way.open(feature_names(5)), pieces)
        assert [len(block) for block in given] == [BLOCK_EVENTS, BLOCK_EVENTS, MANY - 2 * BLOCK_EVENTS]
        np.testing.assert_array_equal(np.concatenate(given), events.astype(np.float32))


@each(WAYS)
def test_a_body_of_whole_blocks_ends_with_a_full_one(way: Way) -> None:
    """No empty block comes after the last event."""
    body = way.write(events_of(2 * BLOCK_EVENTS).astype(way.dtype))
    for pieces in ([body], [body, b""], cut(body, [len(body) // 2, len(body) - 1])):
        given = blocks(way.open(feature_names(5)), pieces)
        assert [len(block) for block in given] == [BLOCK_EVENTS, BLOCK_EVENTS]


@each(WAYS)
def test_a_block_is_given_before_the_body_has_ended(way: Way) -> None:
    """What has arrived is given away while the rest is on its way, save where only the end tells what it is."""
    body = way.write(events_of(MANY).astype(way.dtype))
    given = sum(len(block) for block in way.open(feature_names(5)).feed(body[: len(body) * 19 // 20], last=False))
    assert given == (0 if "columns" in way.name else 2 * BLOCK_EVENTS)


@pytest.mark.parametrize("map_head", [b"\x81", b"\xde\x00\x01", b"\xdf\x00\x00\x00\x01"])
@pytest.mark.parametrize("key_head", [b"\xa6", b"\xd9\x06", b"\xda\x00\x06", b"\xdb\x00\x00\x00\x06"])
def test_messagepack_has_several_heads_for_the_same(map_head: bytes, key_head: bytes) -> None:
    """Maps, texts, lists and binary strings may announce their lengths in more bytes than they need."""
    events = events_of(9)
    n_bytes = events.nbytes
    rows = packed_floats(events).partition(b"events\xdd\x00\x00\x00\x09")[2]
    values = [head + rows for head in (b"\x99", b"\xdc\x00\x09", b"\xdd\x00\x00\x00\x09")]
    heads = (b"\xc4" + bytes([n_bytes]), b"\xc5" + struct.pack(">H", n_bytes), b"\xc6" + struct.pack(">I", n_bytes))
    values += [head + events.tobytes() for head in heads]
    for value in values:
        body = map_head + key_head + b"events" + value
        np.testing.assert_array_equal(msgspec.msgpack.decode(map_head + key_head + b"events\x01")["events"], 1)
        for pieces in ([body], *(cut(body, [place]) for place in range(40)), cut(body, range(1, len(body)))):
            np.testing.assert_array_equal(outcome(open_msgpack(feature_names(5)), pieces), events)


def test_rows_of_messagepack_may_announce_their_length_in_more_bytes() -> None:
    """A row of five numbers behind a long head is a row of five numbers, wherever it stands."""
    events = events_of(20)
    rows = [msgspec.msgpack.encode(row) for row in events.tolist()]
    for long in (b"\xdc\x00\x05", b"\xdd\x00\x00\x00\x05"):
        for place in (0, 11, 19):
            changed = [*rows[:place], long + rows[place][1:], *rows[place + 1 :]]
            body = b"\x81\xa6events\xdc\x00\x14" + b"".join(changed)
            for pieces in ([body], *cuttings(body)):
                np.testing.assert_array_equal(outcome(open_msgpack(feature_names(5)), pieces), events)


def document(way: Way, rows: list[Any]) -> bytes:
    """Write rows, right or wrong, in the way's own manner."""
    if way in MSGPACK_WAYS:
        return msgspec.msgpack.encode({"events": rows})
    return json.dumps({"events": rows}, indent=1 if "pretty" in way.name else None).encode()


WRONG_ROWS = [
    ([1.5] * 4, "events[{row}] has 4 features, expected 5"),
    ([1.5] * 6, "events[{row}] has 6 features, expected 5"),
    ([], "events[{row}] has 0 features, expected 5"),
    (7, "events[{row}] is a number, expected a list of 5 numbers"),
    (None, "events[{row}] is null, expected a list of 5 numbers"),
    ({}, "events[{row}] is an object, expected a list of 5 numbers"),
    ("[1,2,3,4,5]", "events[{row}] is a string, expected a list of 5 numbers"),
    ([1.5, 1.5, "],[", 1.5, 1.5], "events[{row}][2] (feature2) is a string, expected a number"),
    ([1.5, 1.5, True, 1.5, 1.5], "events[{row}][2] (feature2) is a boolean, expected a number"),
    ([1.5, 1.5, [1.5], 1.5, 1.5], "events[{row}][2] (feature2) is a list, expected a number"),
    ([1.5, 1.5, 1.5, 1.5, float("nan")], "events[{row}][4] (feature4) is nan, expected a finite number"),
    ([float("-inf"), 1.5, 1.5, 1.5, 1.5], "events[{row}][0] (feature0) is -inf, expected a finite number"),
    ([1.5, 1e300, 1.5, 1.5, 1.5], "events[{row}][1] (feature1) is 1e300, which is not finite as float32"),
]


@each([way for way in DOCUMENT_WAYS if "pretty" not in way.name])
@pytest.mark.parametrize(("wrong", "message"), WRONG_ROWS)
def test_a_wrong_row_is_named_wherever_it_stands(way: Way, wrong: object, message: str) -> None:
    """The message counts the rows of the whole body, however many were read and forgotten before the wrong one."""
    rows: list[Any] = events_of(FAR + 100).tolist()
    for row, n_rows in ((0, 1), (0, 50), (3, 4), (3, 50), (FAR, FAR + 1), (FAR, FAR + 100)):
        body = document(way, [*rows[:row], wrong, *rows[row + 1 : n_rows]])
        assert refusal(way.open, body) == message.format(row=row)


@each([RAW_WAY, *NPY_WAYS[:3], NPY_WAYS[6], MSGPACK_WAYS[1], MSGPACK_WAYS[3]])
def test_a_number_that_is_not_finite_is_named_wherever_it_stands(way: Way) -> None:
    """The message counts the rows of the whole body, and names the feature."""
    for row in (0, 3, FAR):
        events = events_of(row + 50).astype(way.dtype)
        events[row, 2], events[row, 4] = np.nan, np.inf
        message = f"events[{row}][2] (feature2) is nan, expected a finite number"
        assert refusal(way.open, way.write(events)) == message


@pytest.mark.parametrize(
    ("way", "pattern"),
    [
        (Way("npy-<f8", open_npy, npy_bytes), 0x7FF0000000000001),
        (Way("npy-columns-<f8", open_npy, by_columns), 0xFFF4000000000000),
        (MSGPACK_WAYS[0], 0x7FF0000000000001),
    ],
    ids=lambda value: value.name if isinstance(value, Way) else hex(value),
)
def test_a_signalling_nan_is_refused_without_a_warning(way: Way, pattern: int) -> None:
    """The kind of NaN that a processor complains of is refused as any other, and nothing is printed."""
    events = events_of(9).astype("<f8")
    events.view("<u8")[4, 1] = pattern
    if way in MSGPACK_WAYS:
        number = b"\xcb" + struct.pack(">Q", pattern)
        body = way.write(np.where(np.isnan(events), 1e99, events)).replace(b"\xcb" + struct.pack(">d", 1e99), number)
    else:
        body = way.write(events)
    assert refusal(way.open, body) == "events[4][1] (feature1) is nan, expected a finite number"


@each(DOCUMENT_WAYS)
@pytest.mark.parametrize("row", [0, 2, BLOCK_EVENTS - 2, BLOCK_EVENTS - 1, FAR])
def test_rows_are_counted_one_by_one(way: Way, row: int) -> None:
    """A number too few in one row is not made up for by one too many in the next."""
    rows = events_of(row + 2000).tolist()
    rows[row + 1].append(rows[row].pop())
    assert refusal(way.open, document(way, rows)) == f"events[{row}] has 4 features, expected 5"
    rows = events_of(row + 2000).tolist()
    rows[row].append(rows[row + 1].pop(0))
    assert refusal(way.open, document(way, rows)) == f"events[{row}] has 6 features, expected 5"


def syntax_message(language: str, decode: Callable[[bytes], object], body: bytes) -> str:
    """Say where msgspec, given the whole body, finds that it is not of this language."""
    with pytest.raises(msgspec.DecodeError) as caught:
        decode(body)
    if str(caught.value) == "Input data was truncated":
        return f"the body is not valid {language}: it ends early, at byte {len(body)}"
    reason, place = re.findall(r"malformed: (.*) \(byte (\d+)\)", str(caught.value))[0]
    # What follows a document of JSON starts a byte before the one that msgspec tells.
    start = int(place) - (language == "JSON" and reason == "trailing characters")
    return f"the body is not valid {language}: {reason} at byte {start}"


@pytest.mark.parametrize("write", [packed_floats, written(MSGPACK.write)], ids=["float32", "float64"])
@pytest.mark.parametrize("row", [0, 3, FAR])
def test_broken_messagepack_is_refused_at_its_byte_wherever_that_is(write: Write, row: int) -> None:
    """The message counts the bytes of the whole body, however many were read and forgotten before the wrong one."""
    body = bytearray(write(events_of(row + 50)))
    row_bytes = (len(body) - len(write(events_of(row + 49)))) if row != 0 else 0
    body[len(body) - 50 * row_bytes if row else 11] = 0xC1
    assert refusal(open_msgpack, bytes(body)) == syntax_message("MessagePack", msgspec.msgpack.decode, bytes(body))


@each([MSGPACK_WAYS[1]])
def test_rows_of_one_length_are_not_enough(way: Way) -> None:
    """MessagePack's rows of other heads and as many bytes are read for what they say."""
    body = bytearray(way.write(events_of(4)))
    start = body.index(b"\x95", 12)
    body[start] = 0x94
    assert "expected" in refusal(way.open, bytes(body)) or "not valid" in refusal(way.open, bytes(body))


def json_message(body: bytes) -> str:
    """Say where msgspec, given the whole body, finds that it is no JSON."""
    return syntax_message("JSON", msgspec.json.decode, body)


@json_readers
@pytest.mark.parametrize(
    "wrong",
    [
        b"[1,2,3,4,05]",
        b"[1,2,3,4,5.]",
        b"[1,2,3,4,.5]",
        b"[1,2,3,4,+5]",
        b"[1,2,3,4,5e]",
        b"[1,2,3,4,0x5]",
        b"[1,2,3,4,-]",
        b"[1,2,3,4,5,]",
        b"[1,2,3,,5]",
        b"[,1,2,3,4]",
        b"[1 2,3,4,5]",
        b"[1,2,3,4,5]]",
        b"[1,2,3,4,5}",
        b"[1,2,3,4,nul]",
        b"[1,2,3,4,\x00]",
        b"[1,2,3,4,\xff]",
        b"[1,2,3,4,5][1,2,3,4,5]",
        b"[1,2,3,4,5],,[1,2,3,4,5]",
        b"",
    ],
)
def test_broken_json_is_refused_at_its_byte_wherever_that_is(opened: Open, wrong: bytes) -> None:
    """The message counts the bytes of the whole body, however many were read and forgotten before the wrong one."""
    for row in (0, 3, FAR):
        rows = [msgspec.json.encode(event) for event in events_of(row + 2).tolist()]
        body = b'{"events": [' + b", ".join([*rows[:row], wrong, *rows[row + 1 :]]) + b"]}"
        assert refusal(opened, body) == json_message(body)


@json_readers
@pytest.mark.parametrize("n_events", [1, MANY])
def test_a_truncated_json_body_is_refused_at_its_end(opened: Open, n_events: int) -> None:
    """Wherever a body breaks off, the message tells the byte."""
    body = compact(events_of(n_events))
    for length in (*range(1, 30), *range(len(body) - 30, len(body))):
        assert refusal(opened, body[:length]) == json_message(body[:length])


@json_readers
@pytest.mark.parametrize("n_events", [1, MANY])
@pytest.mark.parametrize("tail", [b"]", b"}", b",]}", b"]]}", b"],}", b"]} x", b"]}]", b"]}\x00", b'], "id"}'])
def test_json_with_a_wrong_end_is_refused_at_its_byte(opened: Open, n_events: int, tail: bytes) -> None:
    """What follows the last row is read as strictly as the rows."""
    body = compact(events_of(n_events)).removesuffix(b"]}") + tail
    # A comma before the end of the list is seen where the next row should start.
    assert refusal(opened, body) == json_message(body).replace("trailing comma in array", "invalid character")


@json_readers
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (b"[1,2,3,4,5", "events[{row}][5] is a list, expected a number"),
        (b"1,2,3,4,5]", "events[{row}] is a number, expected a list of 5 numbers"),
        (b'[1,2,3,4,"\xc3"]', "events[{row}][4] (feature4) is a string, expected a number"),
    ],
)
def test_a_wrong_type_is_found_before_what_is_no_json(opened: Open, wrong: bytes, message: str) -> None:
    """The first fault is named, though a later one makes the body no JSON."""
    for row in (0, 3, FAR):
        rows = [msgspec.json.encode(event) for event in events_of(row + 2).tolist()]
        body = b'{"events": [' + b", ".join([*rows[:row], wrong, *rows[row + 1 :]]) + b"]}"
        assert refusal(opened, body) == message.format(row=row)


@each(DOCUMENT_WAYS)
@pytest.mark.parametrize("n_events", [1, 50, MANY])
def test_a_second_key_is_refused(way: Way, n_events: int) -> None:
    """A key after the list, or before it, is refused by its name, or by there being two."""
    encode: Callable[[Any], bytes] = msgspec.msgpack.encode if way in MSGPACK_WAYS else msgspec.json.encode
    events = events_of(n_events).tolist()
    named = 'unknown key "id", expected "events"'
    late = 'the first 65536 bytes are not those of a batch, expected an object with the key "events"'
    assert refusal(way.open, encode({"id": 1, "events": events})) == named
    far = way in MSGPACK_WAYS and n_events == MANY  # MessagePack says at its start how many keys come
    assert refusal(way.open, encode({"events": events, "id": 1})) == (late if far else named)


@json_readers
@pytest.mark.parametrize("n_events", [1, 50, MANY])
def test_json_with_its_key_twice_is_refused(opened: Open, n_events: int) -> None:
    """No list of events is dropped for another: a key that is there twice is refused."""
    rows = compact(events_of(n_events)).removeprefix(b"{").removesuffix(b"}")
    for second in (rows, b'"events":[[1,2,3,4,5]]', b'"events":[]'):
        message = refusal(opened, b"{" + rows + b"," + second + b"}")
        if len(second) > len(b'"events":[]'):
            assert message == 'the key "events" is there more than once'


def test_messagepack_with_its_key_twice_is_refused() -> None:
    """What JSON may not say, MessagePack may not either."""
    item = packed_floats(events_of(9)).removeprefix(b"\x81")
    for head in (b"\x82", b"\xde\x00\x02", b"\xdf\x00\x00\x00\x02"):
        message = refusal(open_msgpack, head + item + item)
        assert message == 'the key "events" is there more than once'


@each([way for way in WAYS if way not in JSON_WAYS])
@pytest.mark.parametrize("n_events", [1, MANY])
def test_a_truncated_body_is_refused(way: Way, n_events: int) -> None:
    """No format takes the start of a body for the whole."""
    body = way.write(events_of(n_events).astype(way.dtype))
    for missing in (1, 2, 3, 7, 13):
        assert refusal(way.open, body[:-missing])


@each([way for way in WAYS if way not in JSON_WAYS])
@pytest.mark.parametrize("n_events", [1, MANY])
def test_a_body_with_more_at_its_end_is_refused(way: Way, n_events: int) -> None:
    """No format leaves bytes unread."""
    body = way.write(events_of(n_events).astype(way.dtype))
    for more in (b"\x00", b"\xc0", bytes(19)):
        assert refusal(way.open, body + more)


def test_messagepack_that_promises_other_rows_than_it_holds_is_refused() -> None:
    """The number of rows is checked, in lists and in binary strings."""
    rows = packed_floats(events_of(9)).partition(b"\xdd\x00\x00\x00\x09")[2]
    raw = events_of(9).tobytes()
    for start in (b"\x98", b"\x9a", b"\xdc\x00\x08", b"\xdd\xff\xff\xff\xff"):
        message = refusal(open_msgpack, b"\x81\xa6events" + start + rows)
        assert message.startswith("the body is not valid MessagePack")
    for length in (len(raw) - 20, len(raw) + 20):
        message = refusal(open_msgpack, b"\x81\xa6events\xc5" + struct.pack(">H", length) + raw)
        assert message.startswith("the body is not valid MessagePack")
    assert refusal(open_msgpack, b"\x81\xa6events\xc5" + struct.pack(">H", len(raw) - 1) + raw) == (
        "events is 179 bytes, not a whole number of events of 5 float32 (20 bytes each)"
    )
    for empty in (b"\x90", b"\xdc\x00\x00", b"\xc4\x00"):
        assert refusal(open_msgpack, b"\x81\xa6events" + empty) == "events is empty, expected at least 1 event"


PIECE_BYTES = 256 * 1024


def endless(way: Way, n_pieces: int) -> Iterator[bytes]:
    """Write a body of many pieces of PIECE_BYTES without ever having it as a whole: one batch, again and again."""
    events = events_of(4000, 14)
    n_rows = len(events)
    row_head = row_start(14)
    if way.name == "raw":
        head, rows, between, tail = b"", events.tobytes(), b"", b""
    elif way.name == "msgpack":
        rows = b"".join(map(msgspec.msgpack.encode, events.tolist()))
        assert rows.startswith(row_head)
        head, between, tail = b"\x81\xa6events\xdd", b"", b""
    elif way.name == "msgpack-binary":
        head, rows, between, tail = b"\x81\xa6events\xc6", events.tobytes(), b"", b""
    elif way.name == "npy-<f4":
        head, rows, between, tail = b"npy", events.tobytes(), b"", b""
    else:
        rows = compact(events).removeprefix(b'{"events":[').removesuffix(b"]}")
        head, between, tail = b'{"events":[', b",", b"]}"
    n_times = n_pieces * PIECE_BYTES // len(rows)
    if way.name == "msgpack":
        head += struct.pack(">I", n_times * n_rows)
    elif way.name == "msgpack-binary":
        head += struct.pack(">I", n_times * len(rows))
    elif way.name == "npy-<f4":
        head = npy_bytes(np.empty((n_times * n_rows, 14), np.float32))[:128]
    held = head
    for time in range(n_times):
        held += rows + (between if time + 1 < n_times else tail)
        while len(held) > PIECE_BYTES:
            yield held[:PIECE_BYTES]
            held = held[PIECE_BYTES:]
    yield held


@each([way for way in WAYS if way.name in {"raw", "npy-<f4", "msgpack", "msgpack-binary"} or "compact" in way.name])
def test_memory_does_not_grow_with_the_body(way: Way) -> None:
    """A body of 30 MB takes less than 4 MB to read, however many rows went before."""
    pieces = list(endless(way, 120))
    assert sum(map(len, pieces)) > 30e6
    events = events_of(4000, 14)
    reader = way.open(feature_names(14))
    n_read, right = 0, True
    tracemalloc.start()
    try:
        for place, piece in enumerate(pieces):
            for block in reader.feed(piece, last=place == len(pieces) - 1):
                right &= np.array_equal(block[0], events[n_read % len(events)])
                n_read += len(block)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()
    assert right
    assert n_read % len(events) == 0


def test_space_at_the_end_is_not_kept() -> None:
    """However much space follows the rows, it takes no memory, and the bytes after it are still counted."""
    start, space = compact(events_of(3)).removesuffix(b"]}"), b" \n" * 100_000
    for tail, right in ((b"}", True), (b"}" + space, True), (b"x", False), (b"}" + space + b"]", False)):
        body = start + b"]" + space + tail
        if right:
            for pieces in ([body], *cuttings(body)):
                np.testing.assert_array_equal(outcome(open_compiled(feature_names(5)), pieces), events_of(3))
        else:
            assert refusal(open_compiled, body) == json_message(body)
    reader = open_compiled(feature_names(5))
    tracemalloc.start()
    try:
        n_given = sum(1 for piece in [start + b"]", *[space] * 50] for _ in reader.feed(piece, last=False))
        [rows] = reader.feed(b"}", last=True)
        assert (n_given, len(rows)) == (0, 3)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


@each(WAYS)
def test_damaged_bodies_are_read_or_refused(way: Way) -> None:
    """However a body is damaged, it gives finite rows or a refusal, and the same ones when it arrives in pieces."""
    generator = np.random.default_rng(len(way.name))
    good = way.write(events_of(12).astype(way.dtype))
    names = feature_names(5)
    n_read = n_refused = 0
    for _ in range(250):
        body = damaged(good, generator)
        whole = outcome(way.open(names), [body])
        pieces = cut(body, generator.integers(len(body) + 1, size=generator.integers(1, 8)).tolist())
        parts = outcome(way.open(names), pieces)
        if isinstance(whole, str):
            n_refused += 1
            assert isinstance(parts, str), body
        else:
            n_read += 1
            assert whole.shape[1:] == (5,)
            assert np.isfinite(whole).all()
            np.testing.assert_array_equal(parts, whole)
    assert n_refused > 20
    assert n_read > 5


def damaged(good: bytes, generator: np.random.Generator) -> bytes:
    """Change, drop, double or move some bytes of a body."""
    body = bytearray(good)
    for _ in range(generator.integers(1, 4)):
        start, length = int(generator.integers(len(body))), int(generator.integers(1, 9))
        match generator.integers(5):
            case 0:
                body[start] = generator.integers(256)
            case 1:  # likely to be read: another digit, or the like
                body[start] = good[generator.integers(len(good))]
            case 2:
                del body[start : start + length]
            case 3:
                body[start:start] = body[start : start + length]
            case _:
                body += body[start : start + length]
    return bytes(body) or b"\x00"

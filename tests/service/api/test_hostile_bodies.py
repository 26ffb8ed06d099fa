"""A long wrong body is refused early and in little memory, and an announced length takes no memory."""

import json
import struct
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial

import pytest

from benchmarks.load.formats import JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW, Format
from service.errors import BodyTooLargeError, InvalidRequestError, ServiceError, TooManyEventsError
from service.formats.format import EVENT_BYTES
from service.formats.table import FORMATS
from tests.artefacts import feature_names, sample_events
from tests.service.formats.bad_arrays import npy, npy_header
from tests.service.formats.bad_json import NOT_JSON

MIB = 2**20
LONG = 4 * MIB
PIECE_BYTES = 65_536
NAMES = feature_names(5)
ROW = b"[1,2,3,4,5]"
MANY = b"\x00\x80\x00\x00"
LATE = f'the first {EVENT_BYTES} bytes are not those of a batch, expected an object with the key "events"'


def filled(start: bytes, unit: bytes, end: bytes = b"") -> bytes:
    """Write a long body of one thing again and again."""
    return start + unit * ((LONG - len(start) - len(end)) // len(unit)) + end


HOSTILE: list[tuple[str, Format, bytes, str]] = [
    ("another key", JSON, filled(b'{"id":[', ROW + b",", ROW + b"]}"), 'unknown key "id", expected "events"'),
    ("twice", JSON, filled(b'{"events":[' + ROW + b'],"events":[', ROW + b",", ROW + b"]}"), 'the key "events" is'),
    ("a list", JSON, filled(b"[", ROW + b",", ROW + b"]"), "the body is a list, expected an object"),
    ("a text", JSON, filled(b'"', b"x", b'"'), LATE),
    ("deep lists", JSON, filled(b"", b"["), "the body is a list, expected an object"),
    ("space", JSON, filled(b"", b" "), LATE),
    ("a long row", JSON, filled(b'{"events":[[', b"1,", b"1]]}"), f"events[0] does not end within {EVENT_BYTES} bytes"),
    ("a long text", JSON, filled(b'{"events":"', b"x", b'"}'), LATE),
    (
        "brackets behind",
        JSON,
        filled(b'{"events":[' + ROW + b"]}", b"]"),
        f"{NOT_JSON}: trailing characters at byte 24",
    ),
    ("a list", MSGPACK, filled(b"\xdd" + MANY, b"\x80"), "the body is a list, expected an object"),
    ("two keys", MSGPACK, filled(b"\x82\xa6events\xdd\0\x20\0\0", b"\x90"), LATE.replace("262144", "65536")),
    ("another key", MSGPACK, filled(b"\x81\xa2id\xdd" + MANY, b"\x01"), 'unknown key "id"'),
    ("a long row", MSGPACK, filled(b"\x81\xa6events\x91\xdd" + MANY, b"\x01"), "events[0] does not end"),
    ("deep lists", MSGPACK, filled(b"\x81\xa6events", b"\x91"), "events[0][0] (feature0) is a list, expected a number"),
    ("empty rows", MSGPACK, filled(b"\x81\xa6events\xdd" + MANY, b"\x90"), "events[0] has 0 features"),
    ("no rows", MSGPACK, filled(b"\x81\xa6events\xdd" + MANY, b"\x01"), "events[0] is a number, expected a list"),
]


def read(media_type: str, body: bytes, max_events: int = sys.maxsize) -> int:
    """Read a batch in pieces as they come from a socket, and count its events."""
    reader = FORMATS.of_request(media_type).open_batch(NAMES, max_events)
    return sum(
        len(block)
        for start in range(0, len(body), PIECE_BYTES)
        for block in reader.feed(body[start : start + PIECE_BYTES], start + PIECE_BYTES >= len(body))
    )


def refuse(media_type: str, body: bytes, message: str) -> None:
    """Check that a batch is refused with a message that starts so."""
    with pytest.raises(InvalidRequestError) as caught:
        read(media_type, body)
    assert str(caught.value).startswith(message)


def peak_bytes(work: Callable[[], object]) -> int:
    """Do something, and give the most memory that it had beyond what was there."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_long_wrong_body_is_refused_early(subtests: pytest.Subtests) -> None:
    """What is wrong with a long body is named from its start: less is read and kept than the body has."""
    for name, fmt, body, message in HOSTILE:
        with subtests.test(f"{fmt.media_type} {name}"):
            assert peak_bytes(partial(refuse, fmt.media_type, body, message)) < 10 * MIB


def test_a_good_body_of_any_spelling_takes_little_memory(subtests: pytest.Subtests) -> None:
    """A batch is read row by row however its key is written, whatever space is before it and whatever its numbers."""
    for start in (b'{"events":[', b" " * 2000 + b'{"events" : [', rb'{"\u0065vents":['):
        body = filled(start, ROW + b",", ROW + b"]}")
        with subtests.test(start[-20:].decode()):
            assert peak_bytes(partial(read, JSON.media_type, body)) < 4 * MIB
    n_rows = 60_000
    body = b"\x81\xa6events\xdd" + struct.pack(">I", n_rows) + b"\x95\x01\x02\x03\x04\x05" * n_rows
    with subtests.test("MessagePack's shortest numbers"):
        assert peak_bytes(partial(read, MSGPACK.media_type, body)) < 4 * MIB
        assert read(MSGPACK.media_type, body) == n_rows


HEADS = {
    "list": (MSGPACK, b"\x81\xa6events\xdd\xff\xff\xff\xff"),
    "binary": (MSGPACK, b"\x81\xa6events\xc6\xff\xff\xff\xf0"),
    "npy": (NPY, npy(npy_header(shape="(1000000000, 5)"), b"")),
}


def test_one_event_more_than_the_most_is_refused(subtests: pytest.Subtests) -> None:
    """The most events are read, and one more is refused in every format, at the head where that announces it."""
    most = 5000
    for fmt in (JSON, MSGPACK, MSGPACK_BINARY, RAW, NPY):
        with subtests.test(fmt.media_type):
            assert read(fmt.media_type, fmt.write("events", sample_events(most)), most) == most
            with pytest.raises(TooManyEventsError, match=f"more than {most} events, expected at most {most}"):
                read(fmt.media_type, fmt.write("events", sample_events(most + 1)), most)
    for name, (fmt, head) in HEADS.items():
        with subtests.test(f"head, {name}"):
            reader = FORMATS.of_request(fmt.media_type).open_batch(NAMES, most)
            with pytest.raises(TooManyEventsError, match=f"more than {most} events"):
                list(reader.feed(head, last=False))


@pytest.mark.parametrize("unit", [b"1,", b"[],", b" ", b'"",'])
def test_one_event_is_never_long(unit: bytes) -> None:
    """A body for one event that no event fills is refused by its length, unread."""
    body = filled(b'{"features":[', unit, b"1]}")

    def refuse() -> None:
        with pytest.raises(BodyTooLargeError, match=f"the body is {len(body)} bytes, expected at most {EVENT_BYTES}"):
            FORMATS.of_request(JSON.media_type).read_event(body, NAMES)

    assert peak_bytes(refuse) < MIB


@pytest.mark.parametrize("media_type", [one.media_type for one in FORMATS.all])
def test_a_slow_client_costs_no_more_than_a_fast_one(media_type: str) -> None:
    """A long part of an event that comes byte by byte is not read again at each of them."""
    text = json.dumps({"events": [[1, 2, 3, 4, 5]]}).replace("3", "3." + "0" * 20_000).encode()
    body = {JSON.media_type: text, MSGPACK.media_type: b"\x81\xa6events\x91\x95" + b"\x91" * 900}.get(
        media_type, bytes(20_000)
    )
    reader = FORMATS.of_request(media_type).open_batch(NAMES, sys.maxsize)
    n_events = 0
    try:
        for place in range(len(body)):
            for block in reader.feed(body[place : place + 1], place == len(body) - 1):
                n_events += len(block)
    except ServiceError:
        assert media_type in (MSGPACK.media_type, NPY.media_type)
    else:
        assert n_events == {JSON.media_type: 1, RAW.media_type: 1000}[media_type]

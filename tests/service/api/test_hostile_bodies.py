"""No body takes more than a few megabytes or a moment to be refused, and no promise in one takes memory."""

import json
import struct
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from service.errors import BodyTooLargeError, InvalidRequestError, ServiceError, TooManyEventsError
from service.formats import table as wire
from service.formats.blocks import EVENT_BYTES
from tests.artefacts import feature_names, sample_events
from tests.service.formats.encodings import JSON, MSGPACK, NPY, PACKED, RAW, Format, npy_bytes

MIB = 2**20
LONG = 8 * MIB
PIECE_BYTES = 65_536
NAMES = feature_names(5)
ROW = b"[1,2,3,4,5]"


def filled(start: bytes, unit: bytes, end: bytes = b"") -> bytes:
    """Write a long body of one thing again and again."""
    return start + unit * ((LONG - len(start) - len(end)) // len(unit)) + end


HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "another key": (wire.JSON, filled(b'{"id":[', ROW + b",", ROW + b"]}"), 'unknown key "id", expected "events"'),
    "the key twice": (
        wire.JSON,
        filled(b'{"events":[' + ROW + b'],"events":[', ROW + b",", ROW + b"]}"),
        'the key "events" is',
    ),
    "a list": (wire.JSON, filled(b"[", ROW + b",", ROW + b"]"), "the body is a list, expected an object"),
    "a text": (wire.JSON, filled(b'"', b"x", b'"'), "the body is a text, expected an object"),
    "deep lists": (
        wire.JSON,
        filled(b"", b"["),
        "the body is not valid JSON for this service: it is nested too deeply",
    ),
    "space": (wire.JSON, filled(b"", b" "), f"the body starts with {EVENT_BYTES} bytes of space"),
    "a long row": (
        wire.JSON,
        filled(b'{"events":[[', b"1,", b"1]]}"),
        f"events[0] does not end within {EVENT_BYTES} bytes",
    ),
    "a long text": (wire.JSON, filled(b'{"events":"', b"x", b'"}'), "events is a text, expected a list of events"),
    "brackets behind": (
        wire.JSON,
        filled(b'{"events":[' + ROW + b"]}", b"]"),
        "the body is not valid JSON: Extra data at byte 24",
    ),
    "packed, a list": (
        wire.MSGPACK,
        filled(b"\xdd\x00\x80\x00\x00", b"\x80"),
        "the body is a list, expected an object",
    ),
    "packed, two keys": (wire.MSGPACK, filled(b"\x82\xa6events\xdd\x00\x20\x00\x00", b"\x90"), "the body has 2 keys"),
    "packed, another key": (wire.MSGPACK, filled(b"\x81\xa2id\xdd\x00\x80\x00\x00", b"\x01"), 'unknown key "id"'),
    "packed, a long row": (
        wire.MSGPACK,
        filled(b"\x81\xa6events\x91\xdd\x00\x80\x00\x00", b"\x01"),
        "events[0] does not end",
    ),
    "packed, deep lists": (
        wire.MSGPACK,
        filled(b"\x81\xa6events", b"\x91"),
        "the body is not valid MessagePack for this service",
    ),
    "packed, empty rows": (
        wire.MSGPACK,
        filled(b"\x81\xa6events\xdd\x00\x80\x00\x00", b"\x90"),
        "events[0] has 0 features",
    ),
    "packed, no rows": (
        wire.MSGPACK,
        filled(b"\x81\xa6events\xdd\x00\x80\x00\x00", b"\x01"),
        "events[0] is 1, expected a list",
    ),
}


def read(media_type: str, body: bytes, max_events: int | None = None) -> int:
    """Read a batch in pieces as they come from a socket, and count its events."""
    reader = wire.BatchReaders(NAMES, max_events).open(media_type)
    return sum(
        len(block)
        for start in range(0, len(body), PIECE_BYTES)
        for block in reader.feed(body[start : start + PIECE_BYTES], start + PIECE_BYTES >= len(body))
    )


def peak_bytes(work: Callable[[], object]) -> int:
    """Do something, and give the most memory that it had beyond what was there."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_long_wrong_body_is_refused_early(name: str) -> None:
    """What is wrong with a long body is said from its start: less is read and kept than the body has."""
    media_type, body, message = HOSTILE[name]

    def refuse() -> None:
        with pytest.raises(InvalidRequestError) as caught:
            read(media_type, body)
        assert str(caught.value).startswith(message)

    assert peak_bytes(refuse) < 12 * MIB


@pytest.mark.parametrize("start", [b'{"events":[', b" " * 2000 + b'{"events" : [', rb'{"\u0065vents":['])
def test_a_head_of_any_spelling_takes_no_memory(start: bytes) -> None:
    """A good batch is read row by row however its key is written and whatever space is before it."""
    n_rows = (LONG - len(start)) // (len(ROW) + 1) + 1
    body = filled(start, ROW + b",", ROW + b"]}")
    assert peak_bytes(lambda: read(wire.JSON, body)) < 4 * MIB
    assert abs(read(wire.JSON, body) - n_rows) <= 1


def test_numbers_of_several_types_take_no_memory() -> None:
    """Rows of MessagePack's shortest numbers are read some at a time, not as millions of objects."""
    n_rows = MIB // 6
    body = b"\x81\xa6events\xdd" + struct.pack(">I", n_rows) + b"\x95\x01\x02\x03\x04\x05" * n_rows
    assert peak_bytes(lambda: read(wire.MSGPACK, body)) < 4 * MIB
    assert read(wire.MSGPACK, body) == n_rows


@pytest.mark.parametrize("fmt", [JSON, MSGPACK, PACKED, RAW, NPY], ids=["json", "msgpack", "packed", "raw", "npy"])
def test_one_event_more_than_the_most_is_refused(fmt: Format) -> None:
    """The most events are read, and one more is refused as too many, in every format."""
    most = 5000
    assert read(fmt.media_type, fmt.write("events", sample_events(most)), most) == most
    with pytest.raises(TooManyEventsError, match=f"more than {most} events, expected at most {most}"):
        read(fmt.media_type, fmt.write("events", sample_events(most + 1)), most)


@pytest.mark.parametrize(
    ("media_type", "head"),
    [
        (wire.MSGPACK, b"\x81\xa6events\xdd\xff\xff\xff\xff"),
        (wire.MSGPACK, b"\x81\xa6events\xc6\xff\xff\xff\xf0"),
        (wire.NPY, npy_bytes(np.zeros((1, 5), "<f4"))[:128].replace(b"(1, 5), }" + b" " * 9, b"(1000000000, 5), }")),
    ],
    ids=["list", "binary", "npy"],
)
def test_a_promise_of_too_many_is_refused_at_the_head(media_type: str, head: bytes) -> None:
    """A head that announces more events than the most is refused before any data has come."""
    reader = wire.BatchReaders(NAMES, 1000).open(media_type)
    with pytest.raises(TooManyEventsError, match="more than 1000 events"):
        list(reader.feed(head, last=False))


@pytest.mark.parametrize("unit", [b"1,", b"[],", b" ", b'"",'])
def test_one_event_is_never_long(unit: bytes) -> None:
    """A body for one event that no event fills is refused by its length, unread."""
    body = filled(b'{"features":[', unit, b"1]}")

    def refuse() -> None:
        with pytest.raises(BodyTooLargeError, match=f"the body is {len(body)} bytes, expected at most {EVENT_BYTES}"):
            wire.EventReader(NAMES).read(body, wire.JSON)

    assert peak_bytes(refuse) < MIB


TWICE = [
    (wire.JSON, b'{"features":[1,2,3,4,5],"features":[1,2,3,4,5]}'),
    (wire.JSON, rb'{"features":[1,2,3,4,5],"\u0066eatures":[1,2,3,4,5]}'),
    (wire.JSON, b'{"features":[],"features":[1,2,3,4,5]}'),
    (wire.MSGPACK, b"\x82" + b"\xa8features\x95\x01\x02\x03\x04\x05" * 2),
    (wire.MSGPACK, b"\xde\x00\x02" + (b"\xa8features\xc4\x14" + bytes(20)) * 2),
]


@pytest.mark.parametrize(("media_type", "body"), TWICE)
def test_an_event_given_twice_is_refused(media_type: str, body: bytes) -> None:
    """No event is dropped for another of the same key, however either key is written."""
    with pytest.raises(InvalidRequestError, match='the key "features" is there more than once'):
        wire.EventReader(NAMES).read(body, media_type)


@pytest.mark.parametrize("media_type", wire.MEDIA_TYPES)
def test_a_slow_client_costs_no_more_than_a_fast_one(media_type: str) -> None:
    """A long part of an event that comes byte by byte is not read again at each of them."""
    text = json.dumps({"events": [[1, 2, 3, 4, 5]]}).replace("3", "3." + "0" * 20_000).encode()
    body = {wire.JSON: text, wire.MSGPACK: b"\x81\xa6events\x91\x95" + b"\x91" * 900}.get(media_type, bytes(20_000))
    reader = wire.BatchReaders(NAMES).open(media_type)
    n_events = 0
    try:
        for place in range(len(body)):
            for block in reader.feed(body[place : place + 1], place == len(body) - 1):
                n_events += len(block)
    except ServiceError:
        assert media_type in (wire.MSGPACK, wire.NPY)
    else:
        assert n_events == {wire.JSON: 1, wire.RAW: 1000}[media_type]

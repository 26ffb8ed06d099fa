"""Memory does not grow with a body: a wrong one is refused early, and an announced length takes no memory."""

import json
import re
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks.load import formats as clients
from benchmarks.load.formats import JSON, MSGPACK, NPY, RAW, Format
from service.errors import InvalidRequestError, TooManyEventsError
from service.formats.format import EVENT_BYTES
from service.formats.table import FORMATS
from tests.artefacts import feature_names, sample_events
from tests.service.api.bad_input import SCORE
from tests.service.formats.encodings import ENCODINGS, JSON_READERS, compact, events_of, syntax_message
from tests.service.formats.long_bodies import LONG_BODIES, ROW, filled
from tests.service.formats.references import MANY, Open, event_outcome, outcome, random_pieces, refusal

MIB = 2**20
LONG_BYTES = 4 * MIB
PIECE_BYTES = 65_536
NAMES = feature_names(5)


@contextmanager
def at_most_bytes(n_bytes: float) -> Iterator[None]:
    """Check that what is done takes no more memory than this."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < n_bytes
    finally:
        tracemalloc.stop()


def pieces_of(body: bytes) -> list[bytes]:
    """Cut a body as it comes from a socket."""
    return [body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES)]


def read(opened: Open, pieces: list[bytes], n_features: int = 5, max_events: int = MANY) -> int:
    """Read a batch, and count its events."""
    reader = opened(feature_names(n_features), max_events)
    return sum(
        len(block) for place, piece in enumerate(pieces) for block in reader.feed(piece, place == len(pieces) - 1)
    )


def open_batch(fmt: Format) -> Open:
    """Return what opens a reader of a format."""
    return FORMATS.of_request(fmt.media_type).open_batch


@pytest.mark.parametrize("name", LONG_BODIES)
def test_a_long_wrong_body_is_refused_early(name: str) -> None:
    """What is wrong with a long body is named from its start: less is read and kept than the body has."""
    path, fmt, write, message = LONG_BODIES[name]
    body = write(LONG_BYTES)
    if path == SCORE:
        with at_most_bytes(MIB):
            found = event_outcome(body, fmt.media_type, NAMES)
        assert isinstance(found, str)
        assert message in found
        return
    reader, pieces = open_batch(fmt)(NAMES, 10**7), pieces_of(body)
    with at_most_bytes(10 * MIB), pytest.raises((InvalidRequestError, TooManyEventsError), match=re.escape(message)):
        sum(len(block) for piece in pieces for block in reader.feed(piece, last=False))
    assert reader.n_bytes <= EVENT_BYTES + 2 * PIECE_BYTES


@pytest.mark.parametrize("name", ["json compact slow", "json compact compiled", "msgpack", "msgpack mixed"])
def test_a_fault_at_the_end_is_found_without_an_object_for_each_number(name: str) -> None:
    """Explaining a refusal takes no more memory than reading the events does."""
    if name not in ENCODINGS:
        pytest.skip("_json_rows.c was not built: it needs a C compiler and Python.h")
    rows = [[row + 0.5, 2.25, 3.125, 4.5, 5] for row in range(20_000)]
    pieces = pieces_of(ENCODINGS[name].of_rows([*rows, [1, 2, 3, 4, "x"]]))
    with at_most_bytes(2 * MIB), pytest.raises(InvalidRequestError, match=r"^events\[20000\]\[4\] .* is a string"):
        read(ENCODINGS[name].open, pieces)


@pytest.mark.parametrize(
    "name",
    [
        *("raw", "npy <f4", "msgpack", "msgpack binary", "json compact compiled"),
        pytest.param("json compact slow", marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_the_body(name: str) -> None:
    """A body of 12 MB takes less than 4 MB to read, however many rows went before."""
    if name not in ENCODINGS:
        pytest.skip("_json_rows.c was not built: it needs a C compiler and Python.h")
    encoding, events = ENCODINGS[name], events_of(4000, 14)
    n_times = 12_000_000 // len(encoding.write(events)) + 1
    pieces = pieces_of(encoding.write(np.tile(events, (n_times, 1))))
    with at_most_bytes(4e6):
        assert read(encoding.open, pieces, 14) == n_times * len(events)


def test_a_good_body_of_any_spelling_takes_little_memory(subtests: pytest.Subtests) -> None:
    """A batch is read row by row however its key is written, whatever space is before it and whatever its numbers."""
    n_rows = 60_000
    integers = b"\x81\xa6events\xdd" + struct.pack(">I", n_rows) + b"\x95\x01\x02\x03\x04\x05" * n_rows
    spellings = [
        (JSON, filled(start, ROW, b"[1,2,3,4,5]]}")(LONG_BYTES))
        for start in (b" " * 2000 + b'{"events" : [', rb'{"\u0065vents":[')
    ]
    for fmt, body in [*spellings, (MSGPACK, integers)]:
        pieces = pieces_of(body)
        with subtests.test(repr(body[:20])), at_most_bytes(4 * MIB):
            assert read(open_batch(fmt), pieces) >= n_rows


def test_space_at_the_end_is_not_kept() -> None:
    """However much space follows the rows, it takes no memory, and the bytes after it are still counted."""
    opened = [*JSON_READERS.values()][-1]
    start, space = compact(events_of(3)).removesuffix(b"]}") + b"]", b" \n" * 100_000
    for tail in (b"}", b"}" + space):
        body = start + space + tail
        for pieces in ([body], [*random_pieces(body, 5), b""]):
            np.testing.assert_array_equal(outcome(opened, pieces, NAMES), events_of(3))
    for tail in (b"x", b"}" + space + b"]"):
        body = start + space + tail
        assert refusal(opened, body, NAMES) == syntax_message("JSON", body)
    with at_most_bytes(2e6):
        assert read(opened, [start, *[space] * 50, b"}"]) == 3


HEADS = {
    "list": (MSGPACK, b"\x81\xa6events\xdd\xff\xff\xff\xff"),
    "binary": (MSGPACK, b"\x81\xa6events\xc6\xff\xff\xff\xf0"),
    "npy": (NPY, clients.npy_bytes(np.zeros((10**6, 5), "i1"))[:128]),
}


def test_one_event_more_than_the_most_is_refused(subtests: pytest.Subtests) -> None:
    """The most events are read, and one more is refused in every format, at the head where that announces it."""
    most = 5000
    refused = pytest.raises(TooManyEventsError, match=f"more than {most} events, expected at most {most}")
    for fmt in clients.ENCODINGS:
        with subtests.test(fmt.name):
            assert read(open_batch(fmt), [fmt.write("events", sample_events(most))], max_events=most) == most
            with refused:
                read(open_batch(fmt), [fmt.write("events", sample_events(most + 1))], max_events=most)
    for name, (fmt, head) in HEADS.items():
        with subtests.test(f"head, {name}"), refused:
            read(open_batch(fmt), [head, b""], max_events=most)


@pytest.mark.parametrize("media_type", [one.media_type for one in FORMATS.all])
def test_a_slow_client_costs_no_more_than_a_fast_one(media_type: str) -> None:
    """A long part of an event that comes byte by byte is not read again at each of them."""
    text = json.dumps({"events": [[1, 2, 3, 4, 5]]}).replace("3", "3." + "0" * 20_000).encode()
    body = {JSON.media_type: text, MSGPACK.media_type: b"\x81\xa6events\x91\x95" + b"\x91" * 900}.get(
        media_type, bytes(20_000)
    )
    pieces = [body[place : place + 1] for place in range(len(body))]
    found = outcome(FORMATS.of_request(media_type).open_batch, pieces, NAMES)
    if media_type in (MSGPACK.media_type, NPY.media_type):
        assert isinstance(found, str)
    else:
        assert len(found) == {JSON.media_type: 1, RAW.media_type: 1000}[media_type]

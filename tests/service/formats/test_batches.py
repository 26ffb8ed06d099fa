"""Batches are read in whatever pieces they arrive: the same rows, the same refusals, and no memory but a block's."""

import struct
import tracemalloc

import msgspec
import numpy as np
import pytest

from service.formats.format import BLOCK_EVENTS
from tests.artefacts import feature_names
from tests.service.formats.references import MANY, blocks, cut, outcome, random_pieces, refusal
from tests.service.formats.ways import (
    JSON_READERS,
    OPEN_MSGPACK,
    WAYS,
    compact,
    events_of,
    packed_floats,
    repeated,
    syntax_message,
)

NAMES = feature_names(5)


def test_a_small_body_may_be_cut_anywhere(subtests: pytest.Subtests) -> None:
    """Cut in two at any byte, or into single bytes, a body gives the rows that it was written from."""
    for n_features in (1, 5, 16):
        names = feature_names(n_features)
        for way in WAYS.values():
            with subtests.test(f"{way.name}, {n_features} features"):
                events = events_of(2, n_features).astype(way.dtype)
                body = way.write(events)
                for places in (*([place] for place in range(len(body) + 1)), range(1, len(body))):
                    assert np.array_equal(outcome(way.open, cut(body, places), names), events.astype("<f4"))


@pytest.mark.parametrize("n_events", [BLOCK_EVENTS, 2 * BLOCK_EVENTS + 900])
def test_a_large_body_gives_full_blocks_however_it_is_cut(n_events: int, subtests: pytest.Subtests) -> None:
    """All blocks are full but the last, none is empty, and together they are the rows that were sent."""
    for way in WAYS.values():
        with subtests.test(way.name):
            events = events_of(n_events).astype(way.dtype)
            body = way.write(events)
            for pieces in ([body], [*random_pieces(body, 5), b""], cut(body, [len(body) - 1])):
                given = blocks(way.open, pieces, NAMES)
                full, rest = divmod(n_events, BLOCK_EVENTS)
                assert [len(block) for block in given] == [BLOCK_EVENTS] * full + [rest] * (rest > 0)
                np.testing.assert_array_equal(np.concatenate(given), events.astype("<f4"))


def test_a_block_is_given_before_the_body_has_ended(subtests: pytest.Subtests) -> None:
    """What has arrived is given away while the rest is on its way, save where only the end tells what it is."""
    for way in WAYS.values():
        with subtests.test(way.name):
            body = way.write(events_of(BLOCK_EVENTS + 900).astype(way.dtype))
            given = way.open(NAMES, MANY).feed(body[: len(body) * 19 // 20], last=False)
            assert sum(map(len, given)) == (0 if "columns" in way.name else BLOCK_EVENTS)


def test_messagepack_may_write_lengths_in_more_bytes_than_they_need() -> None:
    """Maps, texts, lists, rows and binary strings are read behind any form of their length."""
    events = events_of(9)
    size, rows = events.nbytes, packed_floats(events).partition(b"events\xdd\x00\x00\x00\x09")[2]
    values = [head + rows for head in (b"\x99", b"\xdc\x00\x09", b"\xdd\x00\x00\x00\x09")]
    heads = (b"\xc4" + bytes([size]), b"\xc5" + struct.pack(">H", size), b"\xc6" + struct.pack(">I", size))
    values += [head + events.tobytes() for head in heads]
    maps, keys = (b"\x81", b"\xde\x00\x01", b"\xdf\x00\x00\x00\x01"), (b"\xa6", b"\xd9\x06", b"\xda\x00\x06")
    written = [one + key + b"events" + value for one in maps for key in (*keys, b"\xdb\0\0\0\6") for value in values]
    single = [msgspec.msgpack.encode(row) for row in events.tolist()]
    for long in (b"\xdc\x00\x05", b"\xdd\x00\x00\x00\x05"):
        for place in (0, 5, 8):
            changed = [*single[:place], long + single[place][1:], *single[place + 1 :]]
            written.append(b"\x81\xa6events\x99" + b"".join(changed))
    for body in written:
        for pieces in ([body], *(cut(body, [place]) for place in range(40)), cut(body, range(1, len(body)))):
            np.testing.assert_array_equal(outcome(OPEN_MSGPACK, pieces, NAMES), events)


BODY_BYTES = 12_000_000


@pytest.mark.parametrize(
    "name",
    [
        *("raw", "npy <f4", "msgpack", "packed", "json compact compiled"),
        pytest.param("json compact slow", marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_the_body(name: str) -> None:
    """A body of 12 MB takes less than 4 MB to read, however many rows went before."""
    if name not in WAYS:
        pytest.skip("_json_rows.c was not built: it needs a C compiler and Python.h")
    events = events_of(4000, 14)
    pieces = list(repeated(WAYS[name], events, BODY_BYTES // events.nbytes + 1))
    assert sum(map(len, pieces)) > BODY_BYTES
    reader = WAYS[name].open(feature_names(14), MANY)
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
    opened = [*JSON_READERS.values()][-1]
    start, space = compact(events_of(3)).removesuffix(b"]}"), b" \n" * 100_000
    for tail, right in ((b"}", True), (b"}" + space, True), (b"x", False), (b"}" + space + b"]", False)):
        body = start + b"]" + space + tail
        if right:
            for pieces in ([body], [*random_pieces(body, 5), b""]):
                np.testing.assert_array_equal(outcome(opened, pieces, NAMES), events_of(3))
        else:
            assert refusal(opened, body, NAMES) == syntax_message("JSON", body)
    reader = opened(NAMES, MANY)
    tracemalloc.start()
    try:
        n_given = sum(1 for piece in [start + b"]", *[space] * 50] for _ in reader.feed(piece, last=False))
        [rows] = reader.feed(b"}", last=True)
        assert (n_given, len(rows)) == (0, 3)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()

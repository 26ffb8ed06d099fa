"""Batches give the same rows in whatever pieces they arrive, block by block."""

import struct

import msgspec
import numpy as np
import pytest

from service.formats.format import BLOCK_EVENTS
from tests.artefacts import feature_names
from tests.service.formats.encodings import (
    ENCODINGS,
    OPEN_MSGPACK,
    events_of,
    msgpack_float32,
)
from tests.service.formats.references import MANY, blocks, cut, outcome, random_pieces

NAMES = feature_names(5)


def test_a_small_body_may_be_cut_anywhere(subtests: pytest.Subtests) -> None:
    """Cut in two at any byte, or into single bytes, a body gives the rows that it was written from."""
    for n_features in (1, 16):
        names = feature_names(n_features)
        for encoding in ENCODINGS.values():
            with subtests.test(f"{encoding.name}, {n_features} features"):
                events = events_of(2, n_features).astype(encoding.dtype)
                body = encoding.write(events)
                for places in (*([place] for place in range(len(body) + 1)), range(1, len(body))):
                    assert np.array_equal(outcome(encoding.open, cut(body, places), names), events.astype("<f4"))


@pytest.mark.parametrize("n_events", [BLOCK_EVENTS, 2 * BLOCK_EVENTS + 900])
def test_a_large_body_gives_full_blocks_however_it_is_cut(n_events: int, subtests: pytest.Subtests) -> None:
    """All blocks are full but the last, none is empty, and together they are the rows that were sent."""
    for encoding in ENCODINGS.values():
        with subtests.test(encoding.name):
            events = events_of(n_events).astype(encoding.dtype)
            body = encoding.write(events)
            for pieces in ([body], [*random_pieces(body, 5), b""], cut(body, [len(body) - 1])):
                given = blocks(encoding.open, pieces, NAMES)
                full, rest = divmod(n_events, BLOCK_EVENTS)
                assert [len(block) for block in given] == [BLOCK_EVENTS] * full + [rest] * (rest > 0)
                np.testing.assert_array_equal(np.concatenate(given), events.astype("<f4"))


def test_a_block_is_given_before_the_body_has_ended(subtests: pytest.Subtests) -> None:
    """Rows that have arrived are given before the rest arrives, except where all columns are needed."""
    for encoding in ENCODINGS.values():
        with subtests.test(encoding.name):
            body = encoding.write(events_of(BLOCK_EVENTS + 900).astype(encoding.dtype))
            given = encoding.open(NAMES, MANY).feed(body[: len(body) * 19 // 20], last=False)
            assert sum(map(len, given)) == (0 if "columns" in encoding.name else BLOCK_EVENTS)


def test_messagepack_may_write_lengths_in_more_bytes_than_they_need() -> None:
    """Maps, texts, lists, rows and binary strings are read behind any form of their length."""
    events = events_of(9)
    size, rows = events.nbytes, msgpack_float32(events).partition(b"events\xdd\x00\x00\x00\x09")[2]
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
        for pieces in ([body], cut(body, range(1, len(body)))):
            np.testing.assert_array_equal(outcome(OPEN_MSGPACK, pieces, NAMES), events)

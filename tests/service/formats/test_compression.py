"""Compressed bodies are inflated to the same bytes wherever they are cut, in parts of bounded length."""

import gzip
import zlib
from collections.abc import Callable, Sequence
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequestError
from service.formats.compression import INFLATED_BYTES, Encoding, Inflater, compress
from tests.service.formats.references import cut, pieces_of

WAYS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
BODIES = st.binary(max_size=300) | st.integers(0, 5 * INFLATED_BYTES).map(bytes)


def inflate(encoding: Encoding, pieces: Sequence[bytes]) -> bytes:
    """Inflate a body in these pieces, and check the parts that it comes in."""
    inflater, parts = Inflater(encoding), []
    for place, piece in enumerate(pieces):
        given = list(inflater.inflate(piece, place == len(pieces) - 1))
        assert [last for _, last in given[:-1]] == [False] * (len(given) - 1)
        assert all(len(part) <= INFLATED_BYTES for part, _ in given)
        parts += given
    assert [last for _, last in parts] == [False] * (len(parts) - 1) + [True]
    return b"".join(part for part, _ in parts)


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(body=BODIES, cuts=st.lists(st.floats(0, 1), max_size=5), encoding=st.sampled_from(get_args(Encoding)))
def test_bodies_are_inflated_in_any_pieces(body: bytes, cuts: list[float], encoding: Encoding) -> None:
    """As they were, also when each byte arrives alone, and nothing comes with the last piece."""
    sent = WAYS[encoding](body)
    assert inflate(encoding, pieces_of(sent, cuts)) == body
    assert inflate(encoding, [*cut(sent, range(1, len(sent))), b""]) == body


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(
    body=st.binary(min_size=1, max_size=300),
    place=st.floats(0, 0.99),
    byte=st.integers(1, 255),
    more=st.binary(max_size=3),
    encoding=st.sampled_from(get_args(Encoding)),
)
def test_damaged_streams_are_refused(body: bytes, place: float, byte: int, more: bytes, encoding: Encoding) -> None:
    """Or give what Python's zlib gives, where the damage is in what does not matter."""
    sent = bytearray(WAYS[encoding](body))
    sent[int(place * len(sent))] ^= byte
    for pieces in ([bytes(sent) + more], cut(bytes(sent) + more, range(1, len(sent) + len(more)))):
        try:
            given = inflate(encoding, pieces)
        except InvalidRequestError:
            continue
        assert not more or given != body


@pytest.mark.parametrize("encoding", get_args(Encoding))
def test_responses_are_compressed_in_bounded_pieces(encoding: Encoding) -> None:
    """To what any client inflates."""
    body = [b"a" * 200_000, b"", b"end"]
    assert inflate(encoding, [b"".join(compress(encoding, iter(body)))]) == b"".join(body)

"""Requests to infer: whatever the order of their keys and wherever they are cut, they are read as json reads them."""

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.formats.format import BLOCK_EVENTS
from service.formats.infer_documents import MAX_KEYS, TEXT_BYTES
from service.formats.infer_numbers import FLAT_BYTES
from service.formats.infer_reader import InferReader
from tests.artefacts import sample_events
from tests.service.formats.infer_references import (
    N,
    SlowInferReader,
    blocks_outcome,
    check,
    outcome,
    reference,
    whole_outcome,
)
from tests.service.formats.references import cut, pieces_of

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(10**20), 10**20)
OTHER_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just('"data": [1, 2, 3]'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "a", ""]), inner, max_size=3),
    max_leaves=6,
)
OTHER_KEYS = st.dictionaries(st.text(max_size=3).map("x".__add__), OTHER_VALUES, max_size=3)


@st.composite
def documents(draw: st.DrawFn, *, binary: bool) -> tuple[bytes, int | None]:
    """Draw a right request with keys in any order, unknown ones among them, and the bytes of its JSON."""
    n_events = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(NUMBERS, min_size=N, max_size=N), min_size=n_events, max_size=n_events))
    data = np.array(rows, "<f4").tobytes()
    listed = rows if draw(st.booleans()) else [number for row in rows for number in row]
    where: dict[str, Any] = {"parameters": {"binary_data_size": len(data)}} if binary else {"data": listed}
    tensor = {"name": "features", "shape": [n_events, N], "datatype": "FP32", **where, **draw(OTHER_KEYS)}
    document = {"inputs": [shuffled(draw, tensor)], **draw(OTHER_KEYS)}
    if draw(st.booleans()):
        document["id"] = draw(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=5))
    if draw(st.booleans()):
        document["outputs"] = [{"name": "anomaly_score", "data": [[1, 2, 3]]}]
    text = json.dumps(
        shuffled(draw, document),
        indent=draw(st.sampled_from([None, 0, 2])),
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([None, (",", ":"), (" , ", " :\t")])),
    ).encode()
    return (text + data, len(text)) if binary else (text, draw(st.sampled_from([None, len(text)])))


def shuffled(draw: st.DrawFn, given: dict[str, Any]) -> dict[str, Any]:
    """Put the keys of an object in another order."""
    return {key: given[key] for key in draw(st.permutations(list(given)))}


CUTS = st.lists(st.floats(0, 1), max_size=6)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(body=documents(binary=False) | documents(binary=True), cuts=CUTS)
def test_right_requests_are_read_in_any_pieces(body: tuple[bytes, int | None], cuts: list[float]) -> None:
    """The rows and the identifier are those of the reference, by each way of reading."""
    data, json_bytes = body
    reference(data, json_bytes)
    assert not isinstance(outcome([data], json_bytes), str), outcome([data], json_bytes)
    check(data, pieces_of(data, cuts), json_bytes)
    check(data, cut(data, range(1, len(data))), json_bytes)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(
    body=documents(binary=False) | documents(binary=True),
    cuts=CUTS,
    damage=st.lists(st.tuples(st.floats(0, 1), st.sampled_from(b'"[]{},:\\ 0-.eN\xff')), min_size=1, max_size=3),
    longer=st.integers(-3, 3),
)
def test_damaged_requests_are_refused_or_read_as_they_are(
    body: tuple[bytes, int | None], cuts: list[float], damage: list[tuple[float, int]], longer: int
) -> None:
    """With other bytes in places, what is taken is what json reads, whole and in pieces alike."""
    data, json_bytes = bytearray(body[0]), body[1]
    for place, byte in damage:
        data[min(int(place * len(data)), len(data) - 1)] = byte
    if json_bytes is not None:
        json_bytes = max(json_bytes + longer, 0)
    check(bytes(data), pieces_of(bytes(data), cuts), json_bytes)


@pytest.mark.parametrize("layout", ["nested", "flat", "binary", "alone"])
@pytest.mark.parametrize("n_events", [BLOCK_EVENTS - 1, BLOCK_EVENTS, BLOCK_EVENTS + 1, 3 * BLOCK_EVENTS + 7])
def test_long_requests_are_read_in_any_pieces(layout: str, n_events: int) -> None:
    """Lists of numbers that are longer than what is read at once, cut at and around such lengths."""
    events = sample_events(n_events, N)
    data: Any = events.tolist() if layout == "nested" else events.ravel().tolist()
    tensor: dict[str, Any] = {"name": "features", "shape": [n_events, N], "datatype": "FP32"}
    binary = layout in {"binary", "alone"}
    tensor |= {"parameters": {"binary_data_size": events.nbytes}} if binary else {"data": data}
    text = b"" if layout == "alone" else json.dumps({"inputs": [tensor]}).encode()
    body, json_bytes = (text + events.tobytes(), len(text)) if binary else (text, None)
    places = random.Random(n_events)
    for cuts in ([], [FLAT_BYTES - 1], [FLAT_BYTES, FLAT_BYTES + 1], [places.randrange(len(body)) for _ in range(40)]):
        for kind in (InferReader, SlowInferReader):
            read = outcome(cut(body, [place for place in cuts if place < len(body)]), json_bytes, kind=kind)
            assert not isinstance(read, str), read
            np.testing.assert_array_equal(read[1], events)
    blocks = blocks_outcome(body, json_bytes)
    assert not isinstance(blocks, str), blocks
    np.testing.assert_array_equal(blocks[1], events)
    assert isinstance(blocks_outcome(body, json_bytes, n_events - 1), str)
    at_once = whole_outcome(body, json_bytes)
    if isinstance(at_once, str):  # too many to be read at once
        assert n_events > BLOCK_EVENTS
    else:
        np.testing.assert_array_equal(at_once[1], events)


def test_what_surrounds_the_numbers_is_bounded() -> None:
    """More of it is refused as soon as it is there, however it arrives, as are many lists with the input's key."""
    good = json.dumps({"inputs": [{"name": "features", "shape": [1, N], "datatype": "FP32", "data": [0.5] * N}]})
    for start, end, words in (
        ('{"x": "', "", f"the first {TEXT_BYTES} bytes of the JSON have no data of inputs[0]"),
        ('{"inputs": [{"x": "', "", "have no data of inputs[0]"),
        (good[:-1] + ', "x": "', "", "bytes or more of JSON follow the data"),
    ):
        body = f"{start}{'y' * (2 * TEXT_BYTES)}{end}".encode()
        for pieces in ([body], cut(body, range(0, len(body), 777)), [*cut(body, [TEXT_BYTES + 100]), b""]):
            given = outcome(pieces, None)
            assert isinstance(given, str)
            assert words in given
    many = '{"x": [' + ",".join(['{"data": [1]}'] * MAX_KEYS) + "], " + good[1:]
    assert "more than" in str(outcome([many.encode()], None))
    few = many.replace('{"data": [1]},', "", 1)
    assert not isinstance(outcome([few.encode()], None), str)


@pytest.mark.parametrize("end", [",", "]"])
def test_spaces_among_numbers_are_no_fault(end: str) -> None:
    """As many as an event may be long, before a comma or the end of the list."""
    numbers = ["0.5"] * (2 * N)
    numbers[-1 if end == "]" else 1] += " " * (3 * FLAT_BYTES)
    text = (
        '{"inputs": [{"name": "features", "shape": [2, 3], "datatype": "FP32", "data": [' + ",".join(numbers) + "]}]}"
    )
    body = text.encode()
    for pieces in ([body], cut(body, [len(body) // 3]), cut(body, range(0, len(body), 5000))):
        read = outcome(pieces, None)
        assert not isinstance(read, str), read
        np.testing.assert_array_equal(read[1], np.full((2, N), 0.5))

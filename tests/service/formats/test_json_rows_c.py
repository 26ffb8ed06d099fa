"""Rows read in C have the numbers of Python's own `float`, and stop where the reader in Python stops."""

import re
from itertools import product
from random import Random
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

try:
    from service.formats._json_rows import END, FULL, MORE, ODD, read_event, read_flat_rows, read_rows
except ImportError:
    pytest.skip("_json_rows.c was not built: it needs a C compiler and Python.h", allow_module_level=True)

from service.formats import json as json_format
from service.formats.json import read_event_slowly, read_rows_slowly
from tests.service.formats import bad_json
from tests.service.formats.json_rows import SHAPES, mutations, to_float32

ODD_VALUES: Final = [
    *bad_json.NOT_NUMBERS,
    *(text for text, _ in bad_json.WRONG_NUMBERS),
    *("null", "true", '"1"', "[]", "[1]", "{}", "9" * 40),
]
ODD_ROWS: Final = [
    *("]", ",", "[]", "[1]", "[1,2,3]", "[1,2,]", "[,1,2]", "[1,,2]", "[1 2]", "1,2", "(1,2)", "[1,2}", "[[1,2]]"),
    *("[1,2][3,4]", "[1,2]}", "[1,2];", "null", '"a"', "{}", "\0[1,2]", "[1,2]\0"),
]


def empty_block(capacity: int, n_features: int) -> NDArray[np.float32]:
    """Make a block full of NaN."""
    return np.full((capacity, n_features), np.nan, np.float32)


def read_once(data: bytes, n_features: int) -> tuple[list[bytes], int, int]:
    """Read rows, as bytes; with the offset and the state."""
    block = empty_block(len(data) // 2 + 1, n_features)
    n_rows, stop, state = read_rows(data, 0, block, 0)
    return [row.tobytes() for row in block[:n_rows]], stop, state


@pytest.mark.parametrize("n_texts", [1200, pytest.param(12_000, marks=pytest.mark.slow)])
def test_numbers_are_rounded_as_python_and_numpy_round_them(n_texts: int, subtests: pytest.Subtests) -> None:
    """Each text becomes np.float32(float(text)), bit for bit, by both readers."""
    for shape, draw in SHAPES.items():
        with subtests.test(shape):
            random = Random(shape)
            texts = [draw(random) for _ in range(n_texts)]
            expected = to_float32([float(text) for text in texts]).reshape(-1, 6)
            assert np.isfinite(expected).all()
            rows = [texts[place : place + 6] for place in range(0, n_texts, 6)]
            data = ("[" + "],[".join(",".join(row) for row in rows) + "]]").encode()
            for read in (read_rows, read_rows_slowly):
                block = empty_block(len(rows), 6)
                assert read(data, 0, block, 0) == (len(rows), len(data), END)
                np.testing.assert_array_equal(block.view(np.uint32), expected.view(np.uint32))


def test_a_number_is_the_same_at_the_very_end_of_the_data() -> None:
    """Where too few bytes are left for the quick way, the slow way gives the same number."""
    random = Random(1)
    for shape in SHAPES.values():
        text = shape(random).encode()
        last_rows, _, state = read_once(b"[" + text + b"]]", 1)
        assert state == END
        assert last_rows == read_once(b"[" + text + b"]" + b" " * 40 + b"]", 1)[0]


def test_zero_keeps_its_sign() -> None:
    """So does what is too small for a float32."""
    for zero in ("0", "0.0", "0e5", "0." + "0" * 30, "1e-400", "1e-99999999999999999999"):
        data = f"[{zero},-{zero}]]{' ' * 40}".encode()
        for read in (read_rows, read_rows_slowly):
            block = empty_block(1, 2)
            read(data, 0, block, 0)
            assert block.tobytes() == np.array([0.0, -0.0], np.float32).tobytes()


def test_long_numbers_are_read() -> None:
    """A million digits are a number like any other, if what they say is finite."""
    texts = ["0." + "1" * 10**6, "1" * 10**6 + "e-1000000", "-" + "0." + "0" * 10**6 + "25e1000000"]
    rows, _, state = read_once(("[" + ",".join(texts) + "]]").encode(), 3)
    assert state == END
    assert rows == [to_float32([float(text) for text in texts]).tobytes()]


def test_reading_starts_and_ends_where_it_is_told() -> None:
    """It fills the block from `filled` on, and ends at the end of the list or after the comma behind the last row."""
    block = empty_block(3, 2)
    assert read_rows(b"[1,2],[3,4]]}", 0, block, 0) == (2, 12, END)
    np.testing.assert_array_equal(block[:2], [[1, 2], [3, 4]])
    data, block = b"[1,2],[3,4],[5,6]]", empty_block(2, 2)
    assert read_rows(data, 0, block, 0) == (2, 12, FULL)
    assert read_rows(data, 12, block, 2) == (0, 12, FULL)
    assert read_rows(data, 12, block, 1) == (1, 18, END)
    np.testing.assert_array_equal(block, [[1, 2], [5, 6]])
    assert read_rows(data, 0, empty_block(0, 2), 0) == (0, 0, FULL)
    assert read_rows(b"[1]]", 4, empty_block(1, 1), 0) == (0, 4, MORE)
    assert read_rows(b"", 0, empty_block(1, 1), 0) == (0, 0, MORE)


def test_flat_rows_have_the_numbers_of_rows() -> None:
    """Cut anywhere, the whole rows are read, and reading goes on at the first that was not."""
    for shape, draw in SHAPES.items():
        random = Random(shape)
        texts = [draw(random) for _ in range(12)]
        expected = to_float32([float(text) for text in texts]).reshape(-1, 3)
        data = f"{texts[0]} ,\n{' , '.join(texts[1:])} ]".encode()
        for end in range(len(data) + 1):
            block = empty_block(4, 3)
            n_rows, start, state = read_flat_rows(data[:end], 0, block, 0)
            assert state == (END if end == len(data) else FULL if n_rows == 4 else MORE)
            assert n_rows == data[:end].count(b",") // 3 + (state == END)
            if state == MORE:
                assert read_flat_rows(data, start, block, n_rows) == (4 - n_rows, len(data), END)
            np.testing.assert_array_equal(block.view(np.uint32), expected.view(np.uint32))


def test_what_is_no_list_of_whole_flat_rows_is_odd(subtests: pytest.Subtests) -> None:
    """The offset is that of the row; the rows before it are read."""
    for odd in (*filter(None, ODD_VALUES), "1]", "]", ",1,2]", "1,,2]", "1 2]", "1,2}", "[1,2]", "1,2;"):
        with subtests.test(repr(odd[:40])):
            for before in ("", "-2.5, 3,"):
                data = f"{before}{odd}".encode() + b" " * 40
                assert read_flat_rows(data, 0, empty_block(3, 2), 0) == (len(before) > 0, len(before), ODD)


def test_a_value_that_is_no_finite_number_is_odd_wherever_it_is(subtests: pytest.Subtests) -> None:
    """The offset is that of its row; the rows before it are read."""
    for value in ODD_VALUES:
        with subtests.test(repr(value[:40])):
            for n_features, n_before, after in product((1, 2, 3), (0, 1), (",[4,5]]", "]" + " " * 40)):
                before = ("[" + ",".join(["-2.5"] * n_features) + "],") * n_before
                for place in range(n_features):
                    values = ["1.5"] * n_features
                    values[place] = value
                    data = f"{before}[{','.join(values)}]{after}".encode("latin-1")
                    rows, stop, state = read_once(data, n_features)
                    assert (len(rows), stop, state) == (n_before, len(before.encode()), ODD)


def test_what_is_no_row_of_the_right_length_is_odd(subtests: pytest.Subtests) -> None:
    """Also the end of the list where a row must be: after a comma, or at once."""
    for row in ODD_ROWS:
        with subtests.test(repr(row)):
            for before in ("", "[3,4],"):
                rows, stop, state = read_once(f"{before}{row},[5,6]]".encode(), 2)
                assert (len(rows), stop, state) == (len(before) // 6, len(before), ODD)


@pytest.mark.parametrize("space", ["", " ", " \t\r\n"])
def test_a_document_cut_anywhere_gives_the_same_rows(space: str) -> None:
    """With any white space between the tokens, a first part is incomplete, and its rest gives the other rows."""
    text = "[1.5,-20,3e-1],[0,-0.0,123456789.5],[1E+2,7,12345678.12345678901234567890]]"
    tokens = re.findall(r"[^\[\],]+|[\[\],]", text)
    data = (space + space.join(tokens)).encode()
    whole, _, _ = read_once(data, 3)
    expected = [[1.5, -20, 3e-1], [0, -0.0, 123456789.5], [1e2, 7, 12345678.12345678901234567890]]
    assert whole == [to_float32(row).tobytes() for row in expected]
    for cut in range(len(data)):
        first, stop, state = read_once(data[:cut], 3)
        assert state == MORE
        second, _, state = read_once(data[stop:], 3)
        assert state == END
        assert first + second == whole


@pytest.mark.parametrize("n_lists", [5000, pytest.param(40_000, marks=pytest.mark.slow)])
def test_the_two_readers_stop_for_the_same_reasons(n_lists: int) -> None:
    """The reader in Python gives the same rows, offsets and states, except that an incomplete row is odd to it."""
    assert (json_format.MORE, json_format.FULL, json_format.END, json_format.ODD) == (MORE, FULL, END, ODD)
    for data, n_features in mutations(Random(3), n_lists):
        fast, slow = empty_block(2, n_features), empty_block(2, n_features)
        *counts, state = read_rows(data, 0, fast, 0)
        *slow_counts, slow_state = read_rows_slowly(data, 0, slow, 0)
        assert counts == slow_counts, data
        assert slow_state == (ODD if state == MORE else state), data
        assert fast[: counts[0]].tobytes() == slow[: counts[0]].tobytes(), data


@pytest.mark.parametrize("n_lists", [5000, pytest.param(40_000, marks=pytest.mark.slow)])
def test_the_two_readers_of_one_event_give_the_same(n_lists: int) -> None:
    """A list becomes the row that it is in a list of rows, whatever follows, or neither reader takes it."""
    for data, n_features in mutations(Random(4), n_lists):
        fast, slow = empty_block(3, n_features), empty_block(3, n_features)
        end = read_event(data, 0, fast, 1)
        assert end == read_event_slowly(data, 0, slow, 1), data
        assert np.isnan(fast[[0, 2]]).all()
        if end >= 0:
            assert fast[1].tobytes() == slow[1].tobytes(), data
        row, _, _ = read_once(data, n_features)
        assert (end >= 0) >= bool(row), data
        assert not row or row[0] == fast[1].tobytes(), data


def test_one_event_ends_where_something_else_follows() -> None:
    """It gives the offset of what follows the list and its space, and -1 where there is none of the right length."""
    block = empty_block(1, 2)
    for data, end in [(b"[1,2]}", 5), (b" [1 ,2] \n}", 9), (b"[1,2]", 5), (b"[1,2]x", 5), (b"[1]", -1), (b"", -1)]:
        assert read_event(data, 0, block, 0) == end
        assert read_event_slowly(data, 0, block, 0) == end
    for start, place in ((-1, 0), (7, 0), (0, -1), (0, 1)):
        with pytest.raises(ValueError, match=r"start is|filled is"):
            read_event(b"[1,2]}", start, block, place)


def test_wrong_arguments_are_an_error(subtests: pytest.Subtests) -> None:
    """A block of another kind and a place outside are named, with what may be; nothing is read."""
    data, block = b"[1,2]]", empty_block(2, 2)
    wrong: list[tuple[type[Exception], str, tuple[Any, ...]]] = [
        *((ValueError, "float32", (data, 0, np.zeros((2, 2), dtype), 0)) for dtype in (float, ">f4", np.int32)),
        (ValueError, "two dimensions", (data, 0, np.zeros(4, np.float32), 0)),
        (ValueError, "a column", (data, 0, np.zeros((2, 0), np.float32), 0)),
        (ValueError, "C-contiguous", (data, 0, np.zeros((2, 4), np.float32)[:, ::2], 0)),
        (ValueError, "C-contiguous", (data, 0, np.zeros((2, 2), np.float32, order="F"), 0)),
        (ValueError, "writable", (data, 0, np.frombuffer(bytes(16), np.float32).reshape(2, 2), 0)),
        *((ValueError, "start is .*, 6", (data, start, block, 0)) for start in (-1, 7)),
        *((ValueError, "filled is .*, 2", (data, 0, block, filled)) for filled in (-1, 3)),
        (TypeError, "must be bytes, not str", ("[1]]", 0, block, 0)),
        (TypeError, "bytes-like object is required", (data, 0, [[0.0]], 0)),
        (TypeError, "interpreted as an integer", (data, 0.5, block, 0)),
    ]
    for error, message, arguments in wrong:
        with subtests.test(f"{message} {arguments!r}"), pytest.raises(error, match=message):
            read_rows(*arguments)

"""Rows read in C are those that Python's own `float` and a regular expression read."""

import json
import re
import struct
from collections.abc import Callable, Iterator
from itertools import product
from random import Random
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

try:
    from service.formats._json_rows import END, FULL, MORE, ODD, read_rows
except ImportError:
    pytest.skip("_json_rows.c was not built: it needs a C compiler and Python.h", allow_module_level=True)

from service.formats import json as json_format
from service.formats.json import read_rows_slowly

SPACE: Final = rb"[ \t\n\r]*"
NUMBER: Final = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
ODD_VALUES: Final = [
    *("", "01", "-01", "00", "1.", "-1.", ".5", "-.5", "+1", "1e", "1e+", "1E-", "1.e5", "1.5.5", "1e5.0", "1e5e5"),
    *("-", "--1", "1-2", "1+2", "1/2", "1.-5", "NaN", "Infinity", "-Infinity", "nan", "inf", "null", "true", "0x10"),
    *('"1"', "[]", "[1]", "{}", "1 2", "1_0", "1\0", "\0", "\x0b1", "1\x0c", "\xa01", "1;", "1:", "é", "12345678-"),
    *("1e39", "-1e39", "3.4028235677973366e38", "1e400", "-1e99999999999999999999", "9" * 40, "9" * 5000),
]


def empty_block(capacity: int, n_features: int) -> NDArray[np.float32]:
    """Make a block full of NaN."""
    return np.full((capacity, n_features), np.nan, np.float32)


def read_once(data: bytes, n_features: int) -> tuple[list[bytes], int, int]:
    """Read rows, as bytes; with the offset and the state."""
    block = empty_block(len(data) // 2 + 1, n_features)
    n_rows, stop, state = read_rows(data, 0, block, 0)
    return [row.tobytes() for row in block[:n_rows]], stop, state


def read_slowly(data: bytes, n_features: int) -> tuple[list[bytes], int, int]:
    """Read rows as the module should: a complete row matches the pattern, and what could become one is incomplete."""
    numbers_text = rb",".join([SPACE + NUMBER + SPACE] * n_features)
    pattern = re.compile(SPACE + rb"\[" + numbers_text + rb"\]" + SPACE + rb"[,\]]")
    rows: list[bytes] = []
    stop = 0
    while row := pattern.match(data, stop):
        numbers = to_float32([float(text) for text in re.findall(NUMBER, row.group())])
        if not np.isfinite(numbers).all():
            return rows, stop, ODD
        rows.append(numbers.tobytes())
        stop = row.end()
        if row.group().endswith(b"]"):
            return rows, stop, END
    rest = data[stop:]
    endings = product((b"", b"0", b"[0"), (b",0" * n for n in range(n_features)), (b"],", b","))
    if not any(pattern.fullmatch(rest + b"".join(ending)) for ending in endings):
        return rows, stop, ODD
    complete = [float(number.group()) for number in re.finditer(NUMBER, rest) if number.end() < len(rest)]
    return rows, stop, MORE if np.isfinite(to_float32(complete)).all() else ODD


def to_float32(numbers: list[float]) -> NDArray[np.float32]:
    """Round numbers; the large ones become infinite."""
    with np.errstate(over="ignore"):
        return np.array(numbers, np.float64).astype(np.float32)


def digits(random: Random, n: int) -> str:
    """Draw n digits."""
    return "".join(random.choices("0123456789", k=n))


def integer(random: Random, n: int) -> str:
    """Draw an integer of n digits, without leading zeros."""
    return random.choice("123456789") + digits(random, n - 1)


def finite(random: Random, form: str) -> float:
    """Draw a number from all bit patterns of a float."""
    while True:
        value: float = struct.unpack(form, random.randbytes(struct.calcsize(form)))[0]
        if abs(value) < 1e38:
            return value


def halfway(random: Random, form: str, change: Callable[[str], str]) -> str:
    """Write, digit by digit, the point half-way between a float and the next, of an ordinary size, and change it."""
    mantissa, exponent = (24, random.randint(-20, 30)) if form == "<f" else (53, random.randint(-40, 40))
    odd = (random.getrandbits(mantissa - 1) | 1 << (mantissa - 1)) * 2 + 1
    shift = exponent - mantissa
    if shift >= 0:
        return change(f"{odd << shift}.0")
    tens = f"{odd * 5**-shift:0{1 - shift}d}"
    return change(f"{tens[:shift]}.{tens[shift:]}")


SHAPES: Final[dict[str, Callable[[Random], str]]] = {
    "short decimals": lambda r: f"{r.choice(['', '-'])}{r.randrange(2000)}.{digits(r, r.randint(1, 6))}",
    "float32, shortest": lambda r: str(np.float32(r.gauss(0, 500))),
    "float32, all bits": lambda r: repr(finite(r, "<f")),
    "float64, all bits": lambda r: repr(finite(r, "<d")),
    "float64, ordinary": lambda r: repr(r.gauss(0, 1) * 10 ** r.randint(-6, 6)),
    "17 digits": lambda r: f"{r.gauss(0, 1):.17g}",
    "1 to 40 digits": lambda r: f"{integer(r, r.randint(1, 20))}.{digits(r, r.randint(1, 20))}",
    "exponents": lambda r: f"{r.randint(-9, 9)}.{digits(r, r.randint(1, 24))}{r.choice('eE')}{r.randint(-400, 37)}",
    "signed exponents": lambda r: f"{integer(r, r.randint(1, 9))}e{r.choice(['+', '-', ''])}{r.randint(0, 29):03d}",
    "leading zeros": lambda r: f"0.{'0' * r.randint(0, 30)}{digits(r, r.randint(1, 20))}",
    "zeros": lambda r: f"{r.choice(['', '-'])}0.{'0' * r.randint(1, 30)}e{r.randint(-999, 999)}",
    "integers": lambda r: r.choice(["", "-"]) + integer(r, r.randint(1, 38)),
    "near 2^24": lambda r: str(r.randint(2**24, 2**27)),
    "near the largest": lambda r: f"3.402823{r.randint(0, 4)}{digits(r, r.randint(0, 12))}e38",
    "near the smallest": lambda r: f"{r.randint(0, 20)}.{digits(r, 9)}e-{r.randint(36, 46)}",
    "half-way, float32": lambda r: halfway(r, "<f", str),
    "half-way, float64": lambda r: halfway(r, "<d", str),
    "just above half-way": lambda r: halfway(r, r.choice(["<f", "<d"]), lambda text: text + "000001"),
    "just below half-way": lambda r: halfway(r, "<f", lambda text: text[:-1] + "4" + "9" * r.randint(1, 30)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_are_rounded_as_python_and_numpy_round_them(shape: str) -> None:
    """Each text becomes np.float32(float(text)), bit for bit, by both readers; 12 000 texts of each shape."""
    random = Random(shape)
    texts = [SHAPES[shape](random) for _ in range(12_000)]
    expected = to_float32([float(text) for text in texts]).reshape(-1, 6)
    assert np.isfinite(expected).all()
    rows = [texts[place : place + 6] for place in range(0, len(texts), 6)]
    data = ("[" + "],[".join(",".join(row) for row in rows) + "]]").encode()
    block = empty_block(len(rows), 6)
    assert read_rows(data, 0, block, 0) == (len(rows), len(data), END)
    np.testing.assert_array_equal(block.view(np.uint32), expected.view(np.uint32))
    slow = empty_block(len(rows), 6)
    assert read_rows_slowly(data, 0, slow, 0) == (len(rows), len(data), END)
    np.testing.assert_array_equal(slow.view(np.uint32), expected.view(np.uint32))


def test_a_number_is_the_same_at_the_very_end_of_the_data() -> None:
    """Where too few bytes are left for the quick way, the slow way gives the same number."""
    random = Random(1)
    for shape in SHAPES.values():
        text = shape(random).encode()
        last_rows, _, state = read_once(b"[" + text + b"]]", 1)
        assert state == END
        assert last_rows == read_once(b"[" + text + b"]" + b" " * 40 + b"]", 1)[0]


@pytest.mark.parametrize("zero", ["0", "0.0", "0e5", "0." + "0" * 30, "1e-400", "1e-99999999999999999999"])
def test_zero_keeps_its_sign(zero: str) -> None:
    """So does what is too small for a float32."""
    data = f"[{zero},-{zero}]]{' ' * 40}".encode()
    rows, _, _ = read_once(data, 2)
    assert rows == [np.array([0.0, -0.0], np.float32).tobytes()]
    slow = empty_block(1, 2)
    read_rows_slowly(data, 0, slow, 0)
    assert slow.tobytes() == rows[0]


def test_long_numbers_are_read() -> None:
    """A million digits are a number like any other, if what they say is finite."""
    texts = ["0." + "1" * 10**6, "1" * 10**6 + "e-1000000", "-" + "0." + "0" * 10**6 + "25e1000000"]
    rows, _, state = read_once(("[" + ",".join(texts) + "]]").encode(), 3)
    assert state == END
    assert rows == [to_float32([float(text) for text in texts]).tobytes()]


def test_the_end_of_the_list_ends_the_reading() -> None:
    """What comes after is not looked at."""
    block = empty_block(3, 2)
    assert read_rows(b"[1,2],[3,4]]}", 0, block, 0) == (2, 12, END)
    np.testing.assert_array_equal(block[:2], [[1, 2], [3, 4]])


def test_a_full_block_ends_the_reading_after_a_comma() -> None:
    """The next block goes on there, and a block that was full already takes nothing."""
    data = b"[1,2],[3,4],[5,6]]"
    block = empty_block(2, 2)
    assert read_rows(data, 0, block, 0) == (2, 12, FULL)
    assert read_rows(data, 12, block, 2) == (0, 12, FULL)
    assert read_rows(data, 12, block, 1) == (1, 18, END)
    np.testing.assert_array_equal(block, [[1, 2], [5, 6]])
    assert read_rows(data, 0, empty_block(0, 2), 0) == (0, 0, FULL)


def test_rows_before_the_filled_ones_stay() -> None:
    """Reading starts in the block at `filled`."""
    block = empty_block(4, 1)
    block[0] = 7
    assert read_rows(b"x[1],[2]]", 1, block, 1) == (2, 9, END)
    np.testing.assert_array_equal(block, [[7], [1], [2], [np.nan]])


@pytest.mark.parametrize("n_features", [1, 2, 3])
@pytest.mark.parametrize("n_before", [0, 1])
@pytest.mark.parametrize("after", [",[4,5]]", "]" + " " * 40])
@pytest.mark.parametrize("value", ODD_VALUES)
def test_a_value_that_is_no_finite_number_is_odd_wherever_it_stands(
    value: str, after: str, n_before: int, n_features: int
) -> None:
    """The offset is that of its row; the rows before it are read."""
    before = ("[" + ",".join(["-2.5"] * n_features) + "],") * n_before
    for place in range(n_features):
        values = ["1.5"] * n_features
        values[place] = value
        data = f"{before}[{','.join(values)}]{after}".encode()
        rows, stop, state = read_once(data, n_features)
        assert (len(rows), stop, state) == (n_before, len(before.encode()), ODD)


@pytest.mark.parametrize(
    "row",
    [
        *("]", ",", "[]", "[1]", "[1,2,3]", "[1,2,]", "[,1,2]", "[1,,2]", "[1 2]", "1,2", "(1,2)", "[1,2}", "[[1,2]]"),
        *("[1,2][3,4]", "[1,2]}", "[1,2];", "null", '"a"', "{}", "\0[1,2]", "[1,2]\0"),
    ],
)
def test_what_is_no_row_of_the_right_length_is_odd(row: str) -> None:
    """Also the end of the list where a row must be: after a comma, or at once."""
    for before in ("", "[3,4],"):
        data = f"{before}{row},[5,6]]".encode()
        rows, stop, state = read_once(data, 2)
        assert (len(rows), stop, state) == (len(before) // 6, len(before), ODD)


def test_white_space_may_stand_between_all_tokens() -> None:
    """JSON's four, as many as there are; no other."""
    tokens = ["[", "1.5", ",", "-2e3", "]", ",", "[", "0", ",", "4", "]", "]"]
    data = " \t\r\n".join(["", *tokens]).encode()
    assert read_once(data, 2) == (
        [np.array(row, np.float32).tobytes() for row in ([1.5, -2000], [0, 4])],
        len(data),
        END,
    )


@pytest.mark.parametrize("space", ["", " ", "\r\n\t "])
def test_a_document_cut_anywhere_gives_the_same_rows(space: str) -> None:
    """The first part is incomplete, and its rest, with the second part after it, gives the other rows."""
    text = "[1.5,-20,3e-1],[0,-0.0,123456789.5],[1E+2,7,12345678.12345678901234567890]]"
    tokens = re.findall(r"[^\[\],]+|[\[\],]", text)
    data = (space + space.join(tokens)).encode()
    whole, _, _ = read_once(data, 3)
    for cut in range(len(data)):
        first, stop, state = read_once(data[:cut], 3)
        assert state == MORE
        second, _, state = read_once(data[stop:], 3)
        assert state == END
        assert first + second == whole


def mutations(random: Random) -> Iterator[tuple[bytes, int]]:
    """Write lists of rows, most of them with a few bytes changed, most of them cut; with their number of features."""
    names = list(SHAPES)
    for _ in range(20_000):
        n_features = random.randint(1, 3)
        rows = [[SHAPES[random.choice(names)](random) for _ in range(n_features)] for _ in range(random.randint(1, 4))]
        separators = random.choice([(",", ":"), (", ", ": ")])
        data = bytearray(json.dumps(rows, separators=separators).replace('"', "").encode()[1:])
        for _ in range(random.choice([0, 1, 1, 2, 5])):
            place = random.randrange(len(data) + 1)
            new = random.choices(b"[],.-+eE0123456789 \n\0x\xff", k=random.randint(0, 2))
            data[place : place + random.randint(0, 2)] = bytes(new)
        length = random.choice([len(data), random.randint(0, len(data))])
        yield bytes(data[:length]), n_features


def test_changed_and_cut_lists_are_read_as_the_pattern_reads_them() -> None:
    """Rows, offset and state are the same, whatever the bytes."""
    for data, n_features in mutations(Random(2)):
        assert read_once(data, n_features) == read_slowly(data, n_features), data


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros((2, 2)), "float32"),
        (np.zeros((2, 2), ">f4"), "float32"),
        (np.zeros((2, 2), np.int32), "float32"),
        (np.zeros(4, np.float32), "two dimensions"),
        (np.zeros((2, 0), np.float32), "a column"),
        (np.zeros((2, 4), np.float32)[:, ::2], "C-contiguous"),
        (np.zeros((2, 2), np.float32, order="F"), "C-contiguous"),
        (np.frombuffer(bytes(16), np.float32).reshape(2, 2), "writable"),
    ],
)
def test_a_block_of_another_kind_is_an_error(block: NDArray[Any], message: str) -> None:
    """Nothing is read into it."""
    with pytest.raises(ValueError, match=message):
        read_rows(b"[1,2]]", 0, block, 0)


@pytest.mark.parametrize(("start", "filled"), [(-1, 0), (7, 0), (0, -1), (0, 3)])
def test_a_place_outside_is_an_error(start: int, filled: int) -> None:
    """The message says which, and what it may be."""
    with pytest.raises(ValueError, match="start is .*, 6" if filled == 0 else "filled is .*, 2"):
        read_rows(b"[1,2]]", start, empty_block(2, 2), filled)


@pytest.mark.parametrize(
    "arguments", [("[1]]", 0, empty_block(1, 1), 0), (b"[1]]", 0, [[0.0]], 0), (b"[1]]", 0.5, empty_block(1, 1), 0)]
)
def test_arguments_of_another_type_are_an_error(arguments: tuple[Any, ...]) -> None:
    """As they are for any function."""
    with pytest.raises(TypeError):
        read_rows(*arguments)


def test_the_places_at_the_end_are_none_outside() -> None:
    """An empty rest has no row."""
    assert read_rows(b"[1]]", 4, empty_block(1, 1), 0) == (0, 4, MORE)
    assert read_rows(b"", 0, empty_block(1, 1), 0) == (0, 0, MORE)


def test_the_two_readers_stop_for_the_same_reasons() -> None:
    """The reader in Python gives the same rows, offsets and states, except that an incomplete row is odd to it."""
    assert (json_format.MORE, json_format.FULL, json_format.END, json_format.ODD) == (MORE, FULL, END, ODD)
    for data, n_features in mutations(Random(3)):
        fast, slow = empty_block(2, n_features), empty_block(2, n_features)
        *counts, state = read_rows(data, 0, fast, 0)
        *slow_counts, slow_state = read_rows_slowly(data, 0, slow, 0)
        assert counts == slow_counts, data
        assert slow_state == (ODD if state == MORE else state), data
        assert fast[: counts[0]].tobytes() == slow[: counts[0]].tobytes(), data

"""Strategies of Hypothesis: bodies in every legal spelling, and damaged ones."""

import math
import struct
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.load.formats import JSON, MSGPACK, NPY, RAW
from service.formats.format import Rows
from tests.fuzz.damage import damage
from tests.service.formats.references import N

finite = st.one_of(
    st.floats(-1e4, 1e4),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(-1e38, 1e38),
    st.integers(-(10**6), 10**6).map(float),
    st.sampled_from([0.0, -0.0, 1e-45, 3.4028234e38, 2.0**24 + 1, 5e-324, 1e-40]),
)
events = st.lists(st.lists(finite, min_size=N, max_size=N), min_size=1, max_size=12)
space = st.text(" \t\n\r", max_size=3)
cuts = st.lists(st.floats(0, 1), max_size=6)


def digits(value: float) -> st.SearchStrategy[str]:
    """Write a number in one of the spellings of JSON that all mean it."""
    spellings = [
        st.just(repr(value).replace("inf", "1e400")),
        st.just(f"{value:.17e}"),
        st.just(f"{value:.17E}".replace("E+", "E")),
    ]
    if 1e-5 < abs(value) < 1e15:
        spellings.append(st.just(f"{value:.40f}"))
    if value.is_integer() and abs(value) < 1e15:
        spellings += [st.just(f"{value:.0f}"), st.integers(0, 30).map(lambda n: f"{value:.0f}." + "0" * (n + 1))]
    return st.one_of(spellings)


@st.composite
def key(draw: st.DrawFn, name: str) -> str:
    """Write a key with some of its letters escaped."""
    upper = draw(st.booleans())
    written = [draw(st.sampled_from([c, f"\\u{ord(c):04{'X' if upper else 'x'}}"])) for c in name]
    return '"' + "".join(written) + '"'


@st.composite
def json_list(draw: st.DrawFn, parts: list[str]) -> str:
    """Write a JSON list of parts that are written already."""
    spaced = [draw(space) + part + draw(space) for part in parts]
    return "[" + ",".join(spaced) + "]"


@st.composite
def json_body(draw: st.DrawFn, name: str) -> tuple[bytes, Rows]:
    """Write a batch in JSON, or one event."""
    values = draw(events if name == "events" else events.map(lambda rows: rows[:1]))
    rows = [draw(json_list([draw(digits(value)) for value in row])) for row in values]
    value = draw(json_list(rows)) if name == "events" else rows[0]
    tokens = ["", "{", draw(key(name)), ":", value, "}", ""]
    return draw(space).join(tokens).encode(), np.array(values).astype(np.float32)


def packed_numbers(value: float) -> st.SearchStrategy[bytes]:
    """Write a number in one of the types of MessagePack that all hold it."""
    spellings = [b"\xcb" + struct.pack(">d", value)]
    if float(np.float32(value)) == value:
        spellings.append(b"\xca" + struct.pack(">f", value))
    if value.is_integer() and abs(value) < 2**60 and math.copysign(1, value) > 0:
        whole = int(value)
        spellings += [bytes([whole])] if whole < 128 else []
        spellings += [
            bytes([tag]) + whole.to_bytes(size)
            for tag, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8))
            if whole < 256**size
        ]
    if value.is_integer() and abs(value) < 2**60 and value != 0:
        whole = int(value)
        spellings += [bytes([whole & 0xFF])] if -32 <= whole < 0 else []
        spellings += [
            bytes([tag]) + whole.to_bytes(size, signed=True)
            for tag, size in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8))
            if -(256**size) // 2 <= whole < 256**size // 2
        ]
    return st.sampled_from(spellings)


def head(tags: tuple[int, int, int], most: int, length: int) -> st.SearchStrategy[bytes]:
    """Write the start of a list, a map or a text in one of its lengths."""
    spellings = [bytes([tags[0] | length])] if length <= most else []
    return st.sampled_from([*spellings, bytes([tags[1]]) + length.to_bytes(2), bytes([tags[2]]) + length.to_bytes(4)])


LIST, MAP = (0x90, 0xDC, 0xDD), (0x80, 0xDE, 0xDF)
TEXTS = [(0xD9, 1), (0xDA, 2), (0xDB, 4)]


@st.composite
def packed_key(draw: st.DrawFn, name: str) -> bytes:
    """Write a map of one up to its value."""
    starts = [bytes([0xA0 | len(name)]), *(bytes([tag]) + len(name).to_bytes(size) for tag, size in TEXTS)]
    return draw(head(MAP, 15, 1)) + draw(st.sampled_from(starts)) + name.encode()


@st.composite
def packed_row(draw: st.DrawFn, row: list[float]) -> bytes:
    """Write a row in MessagePack."""
    return draw(head(LIST, 15, len(row))) + b"".join([draw(packed_numbers(value)) for value in row])


@st.composite
def packed_rows(draw: st.DrawFn, rows: list[list[float]]) -> bytes:
    """Write the value of a batch: mixed rows, rows all alike, or the bytes of float32."""
    match draw(st.integers(0, 2)):
        case 0:
            return draw(head(LIST, 15, len(rows))) + b"".join([draw(packed_row(row)) for row in rows])
        case 1:
            numbers = [b"\x93" + b"".join(b"\xcb" + struct.pack(">d", value) for value in row) for row in rows]
            return draw(head(LIST, 15, len(rows))) + b"".join(numbers)
        case _:
            return draw(binary(np.array(rows).astype("<f4").tobytes()))


@st.composite
def binary(draw: st.DrawFn, data: bytes) -> bytes:
    """Write a binary string."""
    sizes = ([(0xC4, 1)] if len(data) < 256 else []) + [(0xC5, 2), (0xC6, 4)]
    tag, size = draw(st.sampled_from(sizes))
    return bytes([tag]) + len(data).to_bytes(size) + data


@st.composite
def msgpack_body(draw: st.DrawFn, name: str) -> tuple[bytes, Rows]:
    """Write a batch in MessagePack, or one event."""
    values = draw(events if name == "events" else events.map(lambda rows: rows[:1]))
    rows = np.array(values).astype(np.float32)
    single = st.one_of(packed_row(values[0]), binary(rows[:1].astype("<f4").tobytes()))
    return draw(packed_key(name)) + draw(packed_rows(values) if name == "events" else single), rows


DTYPES: Final = ["<f4", ">f4", "<f8", ">f8", "<f2", "|i1", "|u1", "<i2", ">u2", "<i4", "<u4", ">i8", "<u8", "=f4"]


@st.composite
def npy_array(draw: st.DrawFn, array: NDArray[Any]) -> bytes:
    """Write an array as .npy by hand: either quote, any order of keys, any space, either version."""
    order = draw(st.booleans()) and array.ndim == 2
    quote, gap = draw(st.sampled_from("'\"")), st.text(" \t\n", max_size=2)
    shape = "(" + ", ".join(map(str, array.shape)) + ("," if array.ndim == 1 or draw(st.booleans()) else "") + ")"
    items = {"descr": f"{quote}{array.dtype.str}{quote}", "fortran_order": str(order), "shape": shape}
    names = draw(st.permutations(list(items)))
    text = ",".join(f"{draw(gap)}{quote}{name}{quote}{draw(gap)}:{draw(gap)}{items[name]}{draw(gap)}" for name in names)
    text = "{" + text + draw(st.sampled_from(["", ",", ", "])) + "}" + draw(st.sampled_from(["", "\n", "  \n"]))
    version, size = draw(st.sampled_from([(b"\x01\x00", 2), (b"\x02\x00", 4)]))
    written = b"\x93NUMPY" + version + len(text).to_bytes(size, "little") + text.encode()
    return written + array.tobytes(order="F" if order else "C")


def to_dtype(values: Any, dtype: str) -> NDArray[Any]:
    """Make an array of a dtype of numbers that it holds."""
    array = np.array(values)
    if np.dtype(dtype).kind == "f":
        return array.clip(-6e4, 6e4).astype(dtype) if dtype == "<f2" else array.astype(dtype)
    limits = np.iinfo(dtype)
    return array.clip(max(limits.min, -(2**52)), min(limits.max, 2**52)).astype(dtype)


@st.composite
def npy_body(draw: st.DrawFn, name: str) -> tuple[bytes, Rows]:
    """Write a batch as .npy, or one event."""
    array = to_dtype(draw(events), draw(st.sampled_from(DTYPES)))
    array = array if name == "events" else array[0]
    return draw(npy_array(array)), array.astype(np.float32).reshape(-1, N)


raw_events = events.map(lambda rows: np.array(rows).astype(np.float32)).map(
    lambda rows: (rows.astype("<f4").tobytes(), rows)
)

BATCHES: Final = {
    JSON.media_type: json_body("events"),
    MSGPACK.media_type: msgpack_body("events"),
    NPY.media_type: npy_body("events"),
    RAW.media_type: raw_events,
}
SINGLES: Final = {
    JSON.media_type: json_body("features"),
    MSGPACK.media_type: msgpack_body("features"),
    NPY.media_type: npy_body("features"),
}


PARTS: Final = [b",", b"]", b"[", b"}", b'"', b"1", b"-", b"e", b".", b"\x00", b"\xc1", b" "]


def damaged(good: st.SearchStrategy[tuple[bytes, Rows]]) -> st.SearchStrategy[bytes]:
    """Damage a good body."""
    written, changes = good.map(lambda pair: pair[0]), st.integers(1, 3)
    return st.builds(damage, written, st.randoms(use_true_random=False), st.just(PARTS), changes)

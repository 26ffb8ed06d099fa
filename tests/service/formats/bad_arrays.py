"""Raw and .npy bodies that must be refused, each with a part of the message that it gets."""

import io
import pickle
import struct
from math import inf, nan
from typing import Any

import numpy as np

from benchmarks.load.formats import NPY, RAW, npy_bytes
from tests.artefacts import sample_events
from tests.service.api.bad_input import MAX_BODY_BYTES, MAX_EVENTS, SCORE, SCORE_BATCH, Body, bodies

NOT_NPY = "the body is not an .npy file of version 1 or 2"
ROWS = sample_events(4)
DATA = ROWS.tobytes()


def with_number(row: int, column: int, value: float, n_events: int = 4, dtype: str = "<f4") -> np.ndarray[Any, Any]:
    """Draw events with one number that is this."""
    events = sample_events(n_events).astype(dtype)
    events[row, column] = value
    return events


def npy(header: str | bytes, data: bytes = DATA, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """Write an .npy file with this header, whose length may be given as another."""
    text = header if isinstance(header, bytes) else header.encode("latin-1")
    size = len(text) if length is None else length
    prefix = struct.pack("<H" if version == (1, 0) else "<I", size)
    return b"\x93NUMPY" + bytes(version) + prefix + text + data


def npy_header(descr: str = "'<f4'", order: str = "False", shape: str = "(4, 5)", more: str = "") -> str:
    """Write a header whose values are given as Python text."""
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}{more}}}\n"


def npz() -> bytes:
    """Write an archive of arrays."""
    stream = io.BytesIO()
    np.savez(stream, events=ROWS)
    return stream.getvalue()


RAW_BATCHES: list[Body] = [
    (b"", "the body is empty, expected at least 1 event"),
    *(
        (bytes(length), f"the body is {length} bytes, not a whole number of events of 5 float32 (20 bytes each)")
        for length in (1, 76, 79, 81)
    ),
    (with_number(2, 3, nan).tobytes(), "events[2][3] (feature3) is nan, expected a finite number"),
    (b"\x01\x00\x80\x7f" + DATA[4:], "events[0][0] (feature0) is nan, expected a finite number"),  # a signalling NaN
    (with_number(0, 4, inf).tobytes(), "events[0][4] (feature4) is inf, expected a finite number"),
    (with_number(3, 0, -inf).tobytes(), "events[3][0] (feature0) is -inf, expected a finite number"),
    (with_number(4500, 1, nan, 4501).tobytes(), "events[4500][1] (feature1) is nan, expected a finite number"),
    (with_number(0, 0, nan).tobytes() + b"\x00", "is "),
    (b"\xff" * 100, "events[0][0] (feature0) is nan, expected a finite number"),
]
RAW_EVENTS: list[Body] = [
    (b"", "the body is empty, expected 1 event"),
    *(
        (bytes(length), f"the body is {length} bytes, expected one event of 5 float32 (20 bytes)")
        for length in (1, 19, 21, 40, 60_000)
    ),
    *(
        (
            with_number(0, column, value, 1).tobytes(),
            f"features[{column}] (feature{column}) is {value}, expected a finite",
        )
        for column, value in ((2, nan), (0, inf), (4, -inf))
    ),
]

LONG_HEADER = npy_header().rstrip("\n").ljust(60_000) + "\n"
NOT_HEADERS = [
    *("", " " * 64 + "\n", "(" * 9000 + ")" * 900, "-" * 9000 + "1", "__import__('os').abort()", LONG_HEADER),
    *("['<f4', False, (4, 5)]", npy_header() + "\x00", npy_header()[:-10], "\xff\xfe" * 30),
    *("{'descr': '<f4', 'fortran_order': False}", npy_header(more=", 'pickled': True")),
    *(npy_header(order=order) for order in ("0", "'C'")),
    *(npy_header(descr=descr) for descr in ("'<f3'", "'os.abort()'", "4")),
    *(npy_header(shape=shape) for shape in ("20", "[4, 5]", "(4.0, 5.0)", "('4', '5')")),
]
OTHER_DTYPES = [
    *(
        (ROWS.astype(dtype), shown)
        for dtype, shown in ((str, "<U"), (bytes, "|S"), (complex, "complex128"), (bool, "bool"))
    ),
    *((ROWS.astype(dtype), dtype) for dtype in ("datetime64[s]", "timedelta64[s]", "float128", "object")),
    (np.zeros(4, [("a", "<f4"), ("b", "<f4")]), ""),
    (np.zeros((4, 5), "V4"), "|V4"),
]
HEADERS: list[Body] = [
    *((npy(header), NOT_NPY) for header in NOT_HEADERS),
    *((npy(npy_header(), version=version), NOT_NPY) for version in ((0, 0), (1, 1), (3, 0), (255, 255))),
    (npy(LONG_HEADER, version=(2, 0)), NOT_NPY),
    *((npy_bytes(ROWS)[:length], NOT_NPY) for length in (1, 4, 6, 7, 8, 9, 10, 40, 127)),
    (b"\x93NUMPI" + npy_bytes(ROWS)[6:], NOT_NPY),
    (npy(npy_header(), length=65_535), NOT_NPY),
    (npy(npy_header(), version=(2, 0), length=2**32 - 1), NOT_NPY),
    # NumPy reads headers of Python 2 with a warning, which a client could make the service print.
    *(
        (npy(npy_header(shape=shape)), f"{NOT_NPY}: Reading `.npy` or `.npz` file required additional header parsing")
        for shape in ("(4L, 5L)", "(4, 5 L)", "(4,\n5L)")
    ),
    *((npy_bytes(array), f"the array's dtype is {shown}") for array, shown in OTHER_DTYPES),
    (npy(npy_header(descr="'|O'")), "the array's dtype is object, expected float32, float64 or an integer type"),
    (npy(npy_header(descr="('<f4', (5,))", shape="(4,)")), "the array's dtype is "),
    (pickle.dumps(ROWS), NOT_NPY),
    (npz(), NOT_NPY),
]
"""What is wrong on both routes."""

WRONG_SHAPES = {
    SCORE_BATCH: ["()", "(5,)", "(1, 4, 5)", "(4, 4)", "(4, 10)", "(5, 4)", "(-4, 5)", "(-4, -5)"],
    SCORE: ["()", "(1, 5)", "(4,)", "(0,)", "(-5,)", f"({10**18},)"],
}
NPY_BATCHES: list[Body] = [
    (b"", "the body is empty, expected at least 1 event"),
    (DATA, NOT_NPY),
    *(
        (npy(npy_header(shape=shape)), f"the array's shape is {shape}, expected (n, 5)")
        for shape in WRONG_SHAPES[SCORE_BATCH]
    ),
    (npy(npy_header(shape=f"({'1, ' * 3000})")), "the array's shape is (1, 1, "),
    (npy_bytes(ROWS[:0]), "events is empty, expected at least 1 event"),
    *(
        (npy(npy_header(order=order), bytes(held)), f"the array holds {held} bytes, expected 80 for its shape (4, 5)")
        for order in ("False", "True")
        for held in (0, 79, 81)
    ),
    *(
        (npy_bytes(with_number(1, 0, nan, dtype=dtype)), "events[1][0] (feature0) is nan, expected a finite number")
        for dtype in ("<f4", ">f4", "<f8", "<f2")
    ),
    (npy_bytes(np.asfortranarray(with_number(2, 3, nan))), "events[2][3] (feature3) is nan, expected a finite number"),
    (npy_bytes(with_number(0, 4, inf)), "events[0][4] (feature4) is inf, expected a finite number"),
    (
        npy_bytes(with_number(0, 4, 1e39, dtype="<f8")),
        "events[0][4] (feature4) is 1e39, which is not finite as float32",
    ),
    (npy_bytes(with_number(4500, 1, nan, 4501)), "events[4500][1] (feature1) is nan, expected a finite number"),
]
NPY_EVENTS: list[Body] = [
    (b"", "the body is empty, expected 1 event"),
    *((npy(npy_header(shape=shape)), f"the array's shape is {shape}, expected (5,)") for shape in WRONG_SHAPES[SCORE]),
    *(
        (npy(npy_header(shape="(5,)"), bytes(held)), f"the array holds {held} bytes, expected 20 for its shape (5,)")
        for held in (0, 19, 21)
    ),
    (npy_bytes(with_number(0, 3, nan, 1)[0]), "features[3] (feature3) is nan, expected a finite number"),
    (npy_bytes(with_number(0, 4, 1e39, 1, "<f8")[0]), "features[4] (feature4) is 1e39, which is not finite as float32"),
]

TOO_MANY: list[Body] = [
    *((npy_bytes(np.zeros((MAX_EVENTS + 1, 5), "<f4", order=order)), str(MAX_EVENTS)) for order in ("C", "F")),
    *((npy(npy_header(shape=f"({10**digits}, 5)")), str(MAX_EVENTS)) for digits in (18, 4000, 4299)),
]
RAW_TOO_MANY: list[Body] = [
    (bytes(20 * (MAX_EVENTS + 1)), str(MAX_EVENTS)),
    (bytes(MAX_BODY_BYTES + 1), str(MAX_BODY_BYTES)),
]
CASES = [
    *bodies(SCORE_BATCH, RAW, RAW_BATCHES),
    *bodies(SCORE_BATCH, RAW, RAW_TOO_MANY, 413),
    *bodies(SCORE, RAW, RAW_EVENTS),
    *bodies(SCORE_BATCH, NPY, [*HEADERS, *NPY_BATCHES]),
    *bodies(SCORE_BATCH, NPY, TOO_MANY, 413),
    *bodies(SCORE, NPY, [*HEADERS, *NPY_EVENTS]),
]

"""Raw and .npy bodies that must be refused, each with a part of the message that it gets."""

import io
import pickle
import struct
from typing import Any

import numpy as np

from benchmarks.load.formats import NPY, RAW, npy_bytes
from tests.artefacts import sample_events
from tests.service.api.bad_input import MAX_BODY_BYTES, MAX_EVENTS, SCORE, SCORE_BATCH, Body, bodies

NOT_NPY = "the body is not an .npy file of version 1 or 2"
ROWS = sample_events(4)
DATA = ROWS.tobytes()


def _with(row: int, column: int, value: float, n_events: int = 4, dtype: str = "<f4") -> np.ndarray[Any, Any]:
    """Draw events with one number that is this."""
    events = sample_events(n_events).astype(dtype)
    events[row, column] = value
    return events


def npy(header: str | bytes, data: bytes = DATA, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """Write an .npy file by hand, with this header, which may promise another length than it has."""
    text = header if isinstance(header, bytes) else header.encode("latin-1")
    size = len(text) if length is None else length
    prefix = struct.pack("<H" if version == (1, 0) else "<I", size)
    return b"\x93NUMPY" + bytes(version) + prefix + text + data


def npy_header(descr: str = "'<f4'", order: str = "False", shape: str = "(4, 5)", more: str = "") -> str:
    """Write a header whose values are given as Python text."""
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}{more}}}\n"


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, events=ROWS)
    return stream.getvalue()


RAW_BATCHES: list[Body] = [
    ("empty", b"", "the body is empty, expected at least 1 event"),
    ("one byte", b"\x00", "the body is 1 bytes, not a whole number of events of 5 float32 (20 bytes each)"),
    ("one byte short", DATA[:-1], "the body is 79 bytes, not a whole number of events"),
    ("one byte long", DATA + b"\x00", "the body is 81 bytes, not a whole number of events"),
    ("one number short", DATA[:-4], "the body is 76 bytes, not a whole number of events"),
    ("NaN", RAW.write("", _with(2, 3, np.nan)), "events[2][3] (feature3) is nan, expected a finite number"),
    ("a signalling NaN", b"\x01\x00\x80\x7f" + DATA[4:], "events[0][0] (feature0) is nan, expected a finite number"),
    ("infinity", RAW.write("", _with(0, 4, np.inf)), "events[0][4] (feature4) is inf, expected a finite number"),
    ("negative infinity", RAW.write("", _with(3, 0, -np.inf)), "events[3][0] (feature0) is -inf, expected a finite"),
    ("NaN in the second block", RAW.write("", _with(4500, 1, np.nan, 4501)), "events[4500][1] (feature1) is nan"),
    ("NaN and a part of an event", RAW.write("", _with(0, 0, np.nan)) + b"\x00", "is "),
    ("all ones", b"\xff" * 100, "events[0][0] (feature0) is nan, expected a finite number"),
]

RAW_EVENTS: list[Body] = [
    ("empty", b"", "the body is empty, expected 1 event"),
    ("one byte", b"\x00", "the body is 1 bytes, expected one event of 5 float32 (20 bytes)"),
    ("one byte short", DATA[:19], "the body is 19 bytes, expected one event"),
    ("one byte long", DATA[:21], "the body is 21 bytes, expected one event"),
    ("two events", DATA[:40], "the body is 40 bytes, expected one event"),
    ("many events", bytes(60_000), "the body is 60000 bytes, expected one event"),
    ("NaN", RAW.write("", _with(0, 2, np.nan, 1)), "features[2] (feature2) is nan, expected a finite number"),
    ("infinity", RAW.write("", _with(0, 0, np.inf, 1)), "features[0] (feature0) is inf, expected a finite number"),
    ("negative infinity", RAW.write("", _with(0, 4, -np.inf, 1)), "features[4] (feature4) is -inf, expected a finite"),
]

HEADERS: list[Body] = [
    ("magic alone", b"\x93NUMPY", NOT_NPY),
    ("cut in the magic", b"\x93NUM", NOT_NPY),
    ("another magic", b"\x93NUMPI" + npy_bytes(ROWS)[6:], NOT_NPY),
    ("no version", b"\x93NUMPY\x01", NOT_NPY),
    ("version 0", npy(npy_header(), version=(0, 0)), NOT_NPY),
    ("version 3", npy(npy_header(), version=(3, 0)), NOT_NPY),
    ("version 1.1", npy(npy_header(), version=(1, 1)), NOT_NPY),
    ("version 255", npy(npy_header(), version=(255, 255)), NOT_NPY),
    ("cut in the header's length", npy_bytes(ROWS)[:9], NOT_NPY),
    ("cut in the header", npy_bytes(ROWS)[:40], NOT_NPY),
    ("a header of no bytes", npy("", b""), NOT_NPY),
    ("a header of spaces", npy(" " * 64 + "\n"), NOT_NPY),
    ("a header longer than the body", npy(npy_header(), length=65_535), NOT_NPY),
    ("a header of 2^32 - 1 bytes", npy(npy_header(), version=(2, 0), length=2**32 - 1), NOT_NPY),
    ("a long header", npy(npy_header().rstrip("\n").ljust(60_000) + "\n"), NOT_NPY),
    ("a long header of version 2", npy(npy_header().rstrip("\n").ljust(60_000) + "\n", version=(2, 0)), NOT_NPY),
    ("a deep header", npy("(" * 9000 + ")" * 900), NOT_NPY),
    ("a deep header of minuses", npy("-" * 9000 + "1"), NOT_NPY),
    ("a header that is code", npy("__import__('os').abort()"), NOT_NPY),
    ("a header that is a list", npy("['<f4', False, (4, 5)]"), NOT_NPY),
    ("a header with a NUL", npy(npy_header() + "\x00"), NOT_NPY),
    ("a header of bytes above ASCII", npy(b"\xff\xfe" * 30), NOT_NPY),
    ("a header that is cut", npy(npy_header()[:-10]), NOT_NPY),
    ("a header of Python 2", npy(npy_header(shape="(4L, 5L)")), NOT_NPY),
    ("no shape", npy("{'descr': '<f4', 'fortran_order': False}"), NOT_NPY),
    ("a further key", npy(npy_header(more=", 'pickled': True")), NOT_NPY),
    ("order a number", npy(npy_header(order="0")), NOT_NPY),
    ("order a text", npy(npy_header(order="'C'")), NOT_NPY),
    ("a dtype that is none", npy(npy_header(descr="'<f3'")), NOT_NPY),
    ("a dtype that is code", npy(npy_header(descr="'os.abort()'")), NOT_NPY),
    ("a dtype that is a number", npy(npy_header(descr="4")), NOT_NPY),
    ("shape a number", npy(npy_header(shape="20")), NOT_NPY),
    ("shape a list", npy(npy_header(shape="[4, 5]")), NOT_NPY),
    ("shape of floats", npy(npy_header(shape="(4.0, 5.0)")), NOT_NPY),
    ("shape of texts", npy(npy_header(shape="('4', '5')")), NOT_NPY),
    ("objects", npy_bytes(ROWS)[:10] + npy_bytes(ROWS)[10:].replace(b"'<f4'", b"'|O' "), "dtype is object"),
    ("objects, pickled", npy_bytes(ROWS.astype(object)), "dtype is object, expected float32, float64 or an integer"),
    ("a pickle", pickle.dumps(ROWS), NOT_NPY),
    ("an .npz", _npz(), NOT_NPY),
    ("texts", npy_bytes(ROWS.astype(str)), "dtype is <U"),
    ("byte strings", npy_bytes(ROWS.astype(bytes)), "dtype is |S"),
    ("complex numbers", npy_bytes(ROWS.astype(complex)), "dtype is complex128"),
    ("booleans", npy_bytes(ROWS > 0), "dtype is bool"),
    ("dates", npy_bytes(ROWS.astype("datetime64[s]")), "dtype is datetime64[s]"),
    ("time differences", npy_bytes(ROWS.astype("timedelta64[s]")), "dtype is timedelta64[s]"),
    ("long doubles", npy_bytes(ROWS.astype(np.longdouble)), "dtype is float128"),
    ("records", npy_bytes(np.zeros(4, [("a", "<f4"), ("b", "<f4")])), "dtype is "),
    ("voids", npy_bytes(np.zeros((4, 5), "V4")), "dtype is |V4"),
    ("arrays in an array", npy(npy_header(descr="('<f4', (5,))", shape="(4,)")), "dtype is "),
]
"""What is wrong on both routes."""

NPY_BATCHES: list[Body] = [
    ("empty", b"", "the body is empty, expected at least 1 event"),
    ("raw rows", DATA, NOT_NPY),
    ("no dimension", npy_bytes(np.array(1.0, "<f4")), "the array's shape is (), expected (n, 5)"),
    ("one dimension", npy_bytes(ROWS[0]), "the array's shape is (5,), expected (n, 5)"),
    ("three dimensions", npy_bytes(ROWS[np.newaxis]), "the array's shape is (1, 4, 5), expected (n, 5)"),
    ("very many dimensions", npy(npy_header(shape=f"({'1, ' * 3000})")), "the array's shape is (1, 1, "),
    ("too few features", npy_bytes(ROWS[:, :4].copy()), "the array's shape is (4, 4), expected (n, 5)"),
    ("too many features", npy_bytes(np.hstack([ROWS, ROWS])), "the array's shape is (4, 10), expected (n, 5)"),
    ("features for events", npy_bytes(ROWS.T.copy()), "the array's shape is (5, 4), expected (n, 5)"),
    ("no events", npy_bytes(ROWS[:0]), "events is empty, expected at least 1 event"),
    ("fewer than no events", npy(npy_header(shape="(-4, 5)")), "the array's shape is (-4, 5), expected (n, 5)"),
    ("fewer than no features", npy(npy_header(shape="(-4, -5)")), "the array's shape is (-4, -5), expected (n, 5)"),
    ("one byte short", npy_bytes(ROWS)[:-1], "the array holds 79 bytes, expected 80 for its shape (4, 5)"),
    ("one byte long", npy_bytes(ROWS) + b"\x00", "the array holds 81 bytes, expected 80 for its shape (4, 5)"),
    ("no data", npy_bytes(ROWS)[:-80], "the array holds 0 bytes, expected 80 for its shape (4, 5)"),
    ("by columns, one byte short", npy_bytes(np.asfortranarray(ROWS))[:-1], "the array holds 79 bytes, expected 80"),
    ("by columns, one byte long", npy_bytes(np.asfortranarray(ROWS)) + b"\x00", "the array holds 81 bytes"),
    ("NaN", npy_bytes(_with(2, 3, np.nan)), "events[2][3] (feature3) is nan, expected a finite number"),
    ("NaN by columns", npy_bytes(np.asfortranarray(_with(2, 3, np.nan))), "events[2][3] (feature3) is nan"),
    ("NaN in float64", npy_bytes(_with(1, 0, np.nan, dtype="<f8")), "events[1][0] (feature0) is nan"),
    ("NaN in float16", npy_bytes(_with(1, 0, np.nan, dtype="<f2")), "events[1][0] (feature0) is nan"),
    ("NaN, big-endian", npy_bytes(_with(1, 0, np.nan, dtype=">f4")), "events[1][0] (feature0) is nan"),
    ("infinity", npy_bytes(_with(0, 4, np.inf)), "events[0][4] (feature4) is inf, expected a finite number"),
    ("1e39", npy_bytes(_with(0, 4, 1e39, dtype="<f8")), "events[0][4] (feature4) is 1e39"),
    ("NaN in the second block", npy_bytes(_with(4500, 1, np.nan, 4501)), "events[4500][1] (feature1) is nan"),
]

NPY_EVENTS: list[Body] = [
    ("empty", b"", "the body is empty, expected 1 event"),
    ("no dimension", npy_bytes(np.array(1.0, "<f4")), "the array's shape is (), expected (5,)"),
    ("two dimensions", npy_bytes(ROWS[:1]), "the array's shape is (1, 5), expected (5,)"),
    ("too few features", npy_bytes(ROWS[0, :4]), "the array's shape is (4,), expected (5,)"),
    ("no features", npy_bytes(ROWS[0, :0]), "the array's shape is (0,), expected (5,)"),
    ("fewer than no features", npy(npy_header(shape="(-5,)")), "the array's shape is (-5,), expected (5,)"),
    ("10^18 features", npy(npy_header(shape=f"({10**18},)")), f"the array's shape is ({10**18},), expected (5,)"),
    ("one byte short", npy_bytes(ROWS[0])[:-1], "the array holds 19 bytes, expected 20 for its shape (5,)"),
    ("one byte long", npy_bytes(ROWS[0]) + b"\x00", "the array holds 21 bytes, expected 20 for its shape (5,)"),
    ("NaN", npy_bytes(_with(0, 3, np.nan, 1)[0]), "features[3] (feature3) is nan, expected a finite number"),
    ("1e39", npy_bytes(_with(0, 4, 1e39, 1, "<f8")[0]), "features[4] (feature4) is 1e39"),
]

TOO_MANY: list[Body] = [
    ("one event more than the most", npy_bytes(np.zeros((MAX_EVENTS + 1, 5), "<f4")), str(MAX_EVENTS)),
    ("one event more by columns", npy_bytes(np.zeros((MAX_EVENTS + 1, 5), "<f4", order="F")), str(MAX_EVENTS)),
    ("10^18 events", npy(npy_header(shape=f"({10**18}, 5)")), str(MAX_EVENTS)),
    ("10^4000 events", npy(npy_header(shape=f"({10**4000}, 5)")), str(MAX_EVENTS)),
    ("10^4299 events", npy(npy_header(shape=f"({10**4299}, 5)")), str(MAX_EVENTS)),
]

CASES = [
    *bodies(SCORE_BATCH, RAW, RAW_BATCHES),
    *bodies(SCORE_BATCH, RAW, [("one event more than the most", bytes(20 * (MAX_EVENTS + 1)), str(MAX_EVENTS))], 413),
    *bodies(SCORE_BATCH, RAW, [("one byte more than the most", bytes(MAX_BODY_BYTES + 1), str(MAX_BODY_BYTES))], 413),
    *bodies(SCORE, RAW, RAW_EVENTS),
    *bodies(SCORE_BATCH, NPY, HEADERS),
    *bodies(SCORE_BATCH, NPY, NPY_BATCHES),
    *bodies(SCORE_BATCH, NPY, TOO_MANY, 413),
    *bodies(SCORE, NPY, HEADERS),
    *bodies(SCORE, NPY, NPY_EVENTS),
]

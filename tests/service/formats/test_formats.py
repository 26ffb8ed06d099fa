"""Each format carries numbers unchanged, and refuses all else at its first fault."""

import io
import json
import struct
import sys
import tracemalloc
import warnings
from contextlib import suppress
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats import table
from service.formats.format import Format as ServedFormat
from tests.service.formats.encodings import FORMATS, JSON, MSGPACK, NPY, RAW, Format, npy_bytes

NAMES = ["mj1", "pzj1", "tau2j1"]
EVENTS = np.array([[1.5, -2.25, 3e-8], [4.0, 5.0, 6e30], [0.0, -0.0, 1.0]], np.float32)

formats = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.media_type)
documents = pytest.mark.parametrize("fmt", [JSON, MSGPACK], ids=["json", "msgpack"])


def served(fmt: Format) -> ServedFormat:
    """Give the service's format."""
    return table.FORMATS.of_request(fmt.media_type)


def decode_events(body: bytes, media_type: str, names: list[str]) -> NDArray[np.float32]:
    """Read a batch as it would arrive: whole, and again in pieces, which makes no difference."""
    whole = read_pieces([body], media_type, names)
    cuts = np.random.default_rng(len(body)).integers(len(body) + 1, size=6)
    edges = [0, *sorted(cuts.tolist()), len(body)]
    pieces = [body[start:end] for start, end in pairwise(edges)]
    np.testing.assert_array_equal(read_pieces(pieces, media_type, names), whole)
    return whole


def read_pieces(pieces: list[bytes], media_type: str, names: list[str]) -> NDArray[np.float32]:
    """Read a batch that arrives in these pieces."""
    reader = table.FORMATS.of_request(media_type).open_batch(names, sys.maxsize)
    blocks = [
        block.copy()
        for place, piece in enumerate(pieces)
        for block in reader.feed(piece, last=place == len(pieces) - 1)
    ]
    return np.concatenate(blocks)


def decode_event(body: bytes, media_type: str, names: list[str]) -> NDArray[np.float32]:
    """Read one event."""
    return table.FORMATS.of_request(media_type).read_event(body, names)


def refusal(body: bytes, fmt: Format, *, batch: bool = True) -> str:
    """Give the message with which the body is refused."""
    decode = decode_events if batch else decode_event
    with pytest.raises(InvalidRequestError) as caught:
        decode(body, fmt.media_type, NAMES)
    return str(caught.value)


def document(fmt: Format, value: Any) -> bytes:
    """Write any value as JSON, with NaN as Python has it, or as MessagePack."""
    return json.dumps(value).encode() if fmt is JSON else msgspec.msgpack.encode(value)


@formats
def test_events_arrive_as_they_were_sent(fmt: Format) -> None:
    """Each format carries a batch, and a single event, to the same float32 rows."""
    events = decode_events(fmt.write("events", EVENTS), fmt.media_type, NAMES)
    assert events.dtype == np.float32
    np.testing.assert_array_equal(events, EVENTS)
    event = decode_event(fmt.write("features", EVENTS[0]), fmt.media_type, NAMES)
    np.testing.assert_array_equal(event, EVENTS[:1])


@formats
def test_scores_arrive_as_they_were_computed(fmt: Format) -> None:
    """Each format carries float32 scores without losing a digit."""
    scores = np.array([0.1, 1 / 3, 1e-30, 3.4e38, 16_777_217.0], np.float32)
    for score in scores:
        sent = served(fmt).write_score(score[np.newaxis])
        assert np.float32(fmt.read("anomaly_score", sent)) == score
    sent = served(fmt).write_scores(scores)
    np.testing.assert_array_equal(fmt.read("anomaly_scores", sent).astype(np.float32), scores)


@formats
def test_a_reply_has_the_shape_of_its_request(fmt: Format) -> None:
    """One event's score is one number, not a list of one; a batch of one gets a list of one."""
    score = np.array([2.5], np.float32)
    single = fmt.read("anomaly_score", served(fmt).write_score(score))
    assert single.size == 1
    if fmt is not RAW:  # whose bytes have no shape
        assert single.shape == ()
    assert fmt.read("anomaly_scores", served(fmt).write_scores(score)).shape == (1,)


@documents
def test_acceptance_goes_along_where_the_format_has_names(fmt: Format) -> None:
    """JSON and MessagePack carry `accepted` when it is given."""
    scores, accepted = np.array([1, 3], np.float32), np.array([False, True])
    many = msgspec.json.decode if fmt is JSON else msgspec.msgpack.decode
    assert many(served(fmt).write_scores(scores, accepted)) == {
        "anomaly_scores": [1.0, 3.0],
        "accepted": [False, True],
    }
    assert many(served(fmt).write_score(scores[1:], accepted[1:])) == {
        "anomaly_score": 3.0,
        "accepted": True,
    }


@formats
@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_every_format_refuses_numbers_that_are_not_finite(fmt: Format, value: float, shown: str) -> None:
    """NaN and infinities are refused with their place, their feature's name and their value."""
    events = EVENTS.copy()
    events[2, 1] = value
    message = f"[1] (pzj1) is {shown}, expected a finite number"
    assert refusal(fmt.write("events", events), fmt) == "events[2]" + message
    assert refusal(fmt.write("features", events[2]), fmt, batch=False) == "features" + message


@pytest.mark.parametrize("fmt", [JSON, MSGPACK, NPY], ids=["json", "msgpack", "npy"])
def test_numbers_beyond_float32_are_refused(fmt: Format) -> None:
    """A number that float64 holds and float32 does not is refused as such."""
    events = EVENTS.astype(np.float64)
    events[1, 0] = 1e300
    expected = "events[1][0] (mj1) is 1e300, which is not finite as float32"
    assert refusal(fmt.write("events", events), fmt) == expected


@pytest.mark.parametrize("text", ["1e400", "-1E+999999999999999999999", "1" * 400, "9" * 5000, "3.5e38"])
def test_numbers_beyond_float64_are_refused_as_they_were_written(text: str) -> None:
    """A JSON number too large for any float is shown in the client's own digits, cut if long."""
    shown = text if len(text) <= 60 else text[:60] + "..."
    expected = f"[2] (tau2j1) is {shown}, which is not finite as float32"
    event = f"[1, 2, {text}]"
    assert refusal(f'{{"features": {event}}}'.encode(), JSON, batch=False) == f"features{expected}"
    assert refusal(f'{{"events": [[1, 2, 3], {event}, {event}]}}'.encode(), JSON) == f"events[1]{expected}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"1e400", "the body cannot be read: Number out of range"),
        (b'{"events": 1e400}', "the body cannot be read: Number out of range - at `$.events`"),
        (b'{"events": [[1, 2, 3], 1e400]}', "events[1] cannot be read: Number out of range"),
    ],
)
def test_a_number_too_large_where_none_may_stand_is_refused(body: bytes, message: str) -> None:
    """What msgspec says of such a number is passed on, with its place."""
    assert refusal(body, JSON) == message


def test_of_two_faults_the_first_is_named() -> None:
    """A number too large is refused as it was written, whatever comes after it."""
    for after in (b"3], [1, 2, NaN]]}", b"NaN]]}", b"\xff]]}", b'"x"', b""):
        expected = "events[0][1] (pzj1) is 1e400, which is not finite as float32"
        assert refusal(b'{"events": [[1, 1e400, ' + after, JSON) == expected


@documents
def test_a_fault_at_the_end_of_many_events_is_found_without_an_object_for_each_number(fmt: Format) -> None:
    """Explaining a refusal takes little more memory than reading the events does, wherever the fault is."""
    rows = [[row + 0.5, 2.25, 3.125] for row in range(20_000)]
    good, wrong = (document(fmt, {"events": [*rows, [1.0, 2.0, last]]}) for last in (3.0, "x"))
    tracemalloc.start()
    try:
        decode_events(good, fmt.media_type, NAMES)
        reading = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert refusal(wrong, fmt) == "events[20000][2] (tau2j1) is a string, expected a number"
        assert tracemalloc.get_traced_memory()[1] < 2.5 * reading
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text", ["1e-400", "-0", "-0.0", "1" + "0" * 38, "3.4028235e38", "1E5", "18446744073709551616"]
)
def test_numbers_that_float32_can_round_are_read(text: str) -> None:
    """Whatever has a finite float32 is a number: zeros, underflow, large integers."""
    event = decode_event(b'{"features": [1, 2, %b]}' % text.encode(), JSON.media_type, NAMES)
    assert event[0, 2] == np.float32(float(text))


@documents
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("abc", "a string"),
        ("1.5", "a string"),
        (None, "null"),
        (True, "a boolean"),
        ([1.0], "a list"),
        ({}, "an object"),
        ("x" * 100, "a string"),
    ],
)
def test_what_is_no_number_is_refused(fmt: Format, value: object, shown: str) -> None:
    """Strings, nulls, booleans, lists and objects are refused with place, name and value, long ones cut."""
    rows: list[list[object]] = [[1.0, 2.0, 3.0], [1.0, value, 3.0]]
    expected = f"[1] (pzj1) is {shown}, expected a number"
    assert refusal(document(fmt, {"events": rows}), fmt) == "events[1]" + expected
    assert refusal(document(fmt, {"features": rows[1]}), fmt, batch=False) == "features" + expected


@documents
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"events": [[1, 2, 3], [1, 2]]}, "events[1] has 2 features, expected 3"),
        ({"events": [[1, 2, 3, 4]]}, "events[0] has 4 features, expected 3"),
        ({"events": [[1, 2], [1, 2]]}, "events[0] has 2 features, expected 3"),
        ({"events": [[]]}, "events[0] has 0 features, expected 3"),
        ({"events": []}, "events is empty, expected at least 1 event"),
        ({"events": [[1, 2, 3], 7]}, "events[1] is a number, expected a list of 3 numbers"),
        ({"events": [1, 2, 3]}, "events[0] is a number, expected a list of 3 numbers"),
        ({"events": {}}, "events is an object, expected a list of events"),
        ({"events": None}, "events is null, expected a list of events"),
        ({"event": [[1, 2, 3]]}, 'unknown key "event", expected "events"'),
        ({"events": [[1, 2, 3]], "id": 1}, 'unknown key "id", expected "events"'),
        ({}, 'missing key "events"'),
        ([[1, 2, 3]], 'the body is a list, expected an object with the key "events"'),
        (7, 'the body is a number, expected an object with the key "events"'),
    ],
)
def test_a_wrong_batch_is_refused_at_its_first_fault(fmt: Format, body: object, message: str) -> None:
    """The message names the first place that is wrong, what stands there and what was expected."""
    assert refusal(document(fmt, body), fmt) == message


@documents
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"features": [1, 2]}, "the event has 2 features, expected 3"),
        ({"features": []}, "the event has 0 features, expected 3"),
        ({"features": [[1, 2, 3]]}, "features[0] (mj1) is a list, expected a number"),
        ({"features": 7}, "features is a number, expected a list of 3 numbers"),
        ({"events": [[1, 2, 3]]}, 'unknown key "events", expected "features"'),
    ],
)
def test_a_wrong_event_is_refused_at_its_first_fault(fmt: Format, body: object, message: str) -> None:
    """One event is told apart from a batch, in what it holds and in its messages."""
    assert refusal(document(fmt, body), fmt, batch=False) == message


@formats
def test_an_empty_body_is_refused(fmt: Format) -> None:
    """No format takes nothing for a batch of no events."""
    assert refusal(b"", fmt) == "the body is empty, expected at least 1 event"
    assert refusal(b"", fmt, batch=False) == "the body is empty, expected 1 event"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"events": [[1, 2, 3]', "the body is not valid JSON: it ends early, at byte 21"),
        (b'{"\xc3\xa9": ?}', 'unknown key "é", expected "events"'),
        (b'{"events": ?}', "the body is not valid JSON: invalid character at byte 11"),
        (b'{"events": [[1, 2, 3]]} x', "the body is not valid JSON: trailing characters at byte 24"),
        (b'{"events": [[1, 2, 3.]]}', "the body is not valid JSON: invalid number at byte 21"),
        (b'{"\xff": 1}', "the body is not valid JSON: it has text that is not UTF-8"),
        (b"[" * 100_000, 'the body is a list, expected an object with the key "events"'),
        (b'{"events":' + b"[" * 100_000, "events[0][0] (mj1) is a list, expected a number"),
        ('{"events": 1}'.encode("utf-16"), "the body is not valid JSON: invalid character at byte 0"),
    ],
)
def test_broken_json_is_refused_with_the_byte(body: bytes, message: str) -> None:
    """Text that is no JSON is refused with the reason and the byte at which reading stopped."""
    assert refusal(body, JSON) == message


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        b"\x81\xa6events\xdd\xff\xff\xff\xff",
        b"\x81\xa6ev\xffnts\x01",
        b"\x81\xa6events\x91\x93\x01\xc1",
        msgspec.msgpack.encode({"events": [[1, 2, 3]]}) + b"x",
    ],
)
def test_broken_messagepack_is_refused(body: bytes) -> None:
    """Bytes that are no MessagePack, or promise more than they hold, are refused with the reason."""
    assert refusal(body, MSGPACK).startswith("the body is not valid MessagePack")


def test_messagepack_has_types_that_are_no_numbers() -> None:
    """Binary strings and keys that are no text are refused like any other value."""
    assert refusal(document(MSGPACK, {"events": [[1, b"2", 3]]}), MSGPACK).startswith("events[0][1] (pzj1) is bytes")
    assert refusal(document(MSGPACK, {1: 2}), MSGPACK) == 'a key is a number, expected "events"'


def test_raw_bytes_are_whole_events() -> None:
    """Raw bodies are refused unless their length is that of some events, or of one."""
    assert refusal(b"x" * 13, RAW) == (
        "the body is 13 bytes, not a whole number of events of 3 float32 (12 bytes each)"
    )
    assert refusal(b"x" * 24, RAW, batch=False) == "the body is 24 bytes, expected one event of 3 float32 (12 bytes)"


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "i1", "u1", "<i4", ">i8", "<u8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_holds_any_real_numbers_in_any_order(dtype: str, order: str) -> None:
    """Floats and integers of any width and byte order, by rows or by columns, are read as the same numbers."""
    array = np.arange(12).reshape(4, 3).astype(dtype)
    arranged = np.asfortranarray(array) if order == "F" else array
    events = decode_events(npy_bytes(arranged), NPY.media_type, NAMES)
    np.testing.assert_array_equal(events, np.arange(12).reshape(4, 3))
    event = decode_event(npy_bytes(array[1]), NPY.media_type, NAMES)
    np.testing.assert_array_equal(event, [[3, 4, 5]])


def test_npy_of_format_version_2_is_read() -> None:
    """The newer header is as good as the old one."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, EVENTS, version=(2, 0))
    np.testing.assert_array_equal(decode_events(stream.getvalue(), NPY.media_type, NAMES), EVENTS)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 4)), "the array's shape is (2, 4), expected (n, 3)"),
        (np.zeros(3), "the array's shape is (3,), expected (n, 3)"),
        (np.zeros(()), "the array's shape is (), expected (n, 3)"),
        (np.zeros((0, 3)), "events is empty, expected at least 1 event"),
        (np.zeros((2, 3), bool), "the array's dtype is bool, expected float32, float64 or an integer type"),
        (np.zeros((2, 3), complex), "the array's dtype is complex128, expected"),
        (np.zeros((2, 3), "U3"), "the array's dtype is <U3, expected"),
        (np.zeros((2, 3), "M8[s]"), "the array's dtype is datetime64[s], expected"),
        (np.zeros(2, [("mj1", "f4")]), "the array's dtype is [('mj1', '<f4')], expected"),
        (np.zeros((2, 3), object), "the array's dtype is object, expected"),
    ],
)
def test_npy_of_another_shape_or_type_is_refused(array: NDArray[Any], message: str) -> None:
    """The message names the shape or type found and what was expected; a pickle is never opened."""
    assert refusal(npy_bytes(array), NPY).startswith(message)


def test_npy_of_one_event_has_one_dimension() -> None:
    """A batch of one is no single event."""
    assert refusal(npy_bytes(EVENTS[:1]), NPY, batch=False) == "the array's shape is (1, 3), expected (3,)"


def npy_header(text: str) -> bytes:
    """Write a .npy header by hand, without data."""
    header = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    "body",
    [
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00" + bytes(100),
        b"\x93NUMPY\x01\x00\xff\xff{",
        npy_header("{'descr': '<f4', 'fortran_order': False}"),
        npy_header("__import__('os')"),
        npy_header("(" * 100),
        npy_header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (2, 3)}"),
    ],
)
def test_a_broken_npy_file_is_refused(body: bytes) -> None:
    """Whatever is wrong with the header is the client's mistake."""
    assert refusal(body, NPY).startswith("the body is not an .npy file of version 1 or 2: ")


@pytest.mark.parametrize("shape", ["(2L, 3L)", "(2, 3 L)", "(2,\n3L)"])
def test_an_npy_header_of_python_2_is_refused(shape: str) -> None:
    """NumPy reads such a header with a warning, which a client could make the service print."""
    header = npy_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}")
    with warnings.catch_warnings(record=True) as printed:
        warnings.simplefilter("always")
        assert "it was created on Python 2. Save the file again" in refusal(header + bytes(24), NPY)
    assert not printed


@pytest.mark.parametrize("rows", [1, 3, 10**15])
def test_npy_that_promises_other_data_than_it_holds_is_refused(rows: int) -> None:
    """The data's length is checked before memory is taken for what the header promises."""
    header = npy_header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 3)}}")
    message = f"the array holds 24 bytes, expected {rows * 12} for its shape ({rows}, 3)"
    assert refusal(header + bytes(24), NPY) == message


def test_npy_with_a_negative_shape_is_refused() -> None:
    """A shape that no array has is refused like any wrong one."""
    header = npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}")
    assert refusal(header + bytes(24), NPY) == "the array's shape is (-1, 3), expected (n, 3)"


def test_random_bytes_are_read_or_refused() -> None:
    """No body, damaged at any byte, makes anything but events or a refusal."""
    generator = np.random.default_rng(0)
    for fmt in FORMATS:
        good = fmt.write("events", EVENTS)
        for _ in range(300):
            body = bytearray(good)
            for place in generator.integers(len(body), size=generator.integers(1, 4)):
                body[place] = generator.integers(256)
            with suppress(InvalidRequestError):
                events = decode_events(bytes(body), fmt.media_type, NAMES)
                assert events.shape[1:] == (3,)
                assert np.isfinite(events).all()

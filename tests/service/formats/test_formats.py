"""Each format carries numbers unchanged, and refuses all else at its first fault."""

import tracemalloc
import warnings

import msgspec
import numpy as np
import pytest

from benchmarks.load.formats import FORMATS, JSON, MSGPACK, RAW, Format
from service.formats.format import Format as ServedFormat
from service.formats.table import FORMATS as SERVED
from tests.service.formats.bad_arrays import npy, npy_header
from tests.service.formats.references import event_outcome, outcome, refusal
from tests.service.formats.ways import JSON_READERS, OPEN_NPY

EVENTS = np.array([[1.5, -2.25, 3e-8], [4.0, 5.0, 6e30], [0.0, -0.0, 1.0]], np.float32)

formats = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.media_type)
documents = pytest.mark.parametrize("fmt", [JSON, MSGPACK], ids=["json", "msgpack"])


def served(fmt: Format) -> ServedFormat:
    """Give the service's format."""
    return SERVED.of_request(fmt.media_type)


@formats
def test_numbers_arrive_as_they_were_sent(fmt: Format) -> None:
    """Each format carries a batch, and a single event, to the same float32, and scores back without losing a digit."""
    np.testing.assert_array_equal(outcome(served(fmt).open_batch, [fmt.write("events", EVENTS)]), EVENTS)
    np.testing.assert_array_equal(event_outcome(fmt.write("features", EVENTS[0]), fmt.media_type), EVENTS[:1])
    scores = np.array([0.1, 1 / 3, 1e-30, 3.4e38, 16_777_217.0], np.float32)
    for score in scores:
        assert np.float32(fmt.read("anomaly_score", served(fmt).write_score(score[np.newaxis]))) == score
    sent = fmt.read("anomaly_scores", served(fmt).write_scores(scores))
    np.testing.assert_array_equal(sent.astype(np.float32), scores)


@formats
def test_a_response_has_the_shape_of_its_request(fmt: Format) -> None:
    """One event's score is one number, not a list of one; a batch of one gets a list of one."""
    score = np.array([2.5], np.float32)
    single = fmt.read("anomaly_score", served(fmt).write_score(score))
    assert single.size == 1
    if fmt is not RAW:  # whose bytes have no shape
        assert single.shape == ()
    assert fmt.read("anomaly_scores", served(fmt).write_scores(score)).shape == (1,)


@documents
def test_documents_carry_acceptance(fmt: Format) -> None:
    """JSON and MessagePack carry `accepted` when it is given."""
    scores, accepted = np.array([1, 3], np.float32), np.array([False, True])
    decode = msgspec.json.decode if fmt is JSON else msgspec.msgpack.decode
    many, one = served(fmt).write_scores(scores, accepted), served(fmt).write_score(scores[1:], accepted[1:])
    assert decode(many) == {"anomaly_scores": [1.0, 3.0], "accepted": [False, True]}
    assert decode(one) == {"anomaly_score": 3.0, "accepted": True}


@pytest.mark.parametrize("text", ["1e400", "-1E+999999999999999999999", "1" * 400, "9" * 5000, "3.5e38"])
def test_numbers_beyond_float64_are_refused_as_they_were_written(text: str) -> None:
    """A JSON number too large for any float is shown in the client's own digits, cut if long."""
    shown = text if len(text) <= 60 else text[:60] + "..."
    expected = f"[2] (tau2j1) is {shown}, which is not finite as float32"
    event = f"[1, 2, {text}]"
    assert event_outcome(f'{{"features": {event}}}'.encode(), JSON.media_type) == f"features{expected}"
    for opened in JSON_READERS.values():
        assert refusal(opened, f'{{"events": [[1, 2, 3], {event}, {event}]}}'.encode()) == f"events[1]{expected}"


NUMBERS_THAT_FLOAT32_ROUNDS = ["1e-400", "-0", "-0.0", "1" + "0" * 38, "3.4028235e38", "1E5", "18446744073709551616"]


def test_numbers_that_float32_can_round_are_read(subtests: pytest.Subtests) -> None:
    """Whatever has a finite float32 is a number: zeros, underflow, large integers."""
    for text in NUMBERS_THAT_FLOAT32_ROUNDS:
        with subtests.test(text):
            event = event_outcome(b'{"features": [1, 2, %b]}' % text.encode(), JSON.media_type)
            np.testing.assert_array_equal(event, np.array([[1, 2, float(text)]], np.float32))


BROKEN_JSON = [
    (b"1e400", "the body cannot be read: Number out of range"),
    (b'{"events": 1e400}', "the body cannot be read: Number out of range - at `$.events`"),
    (b'{"events": [[1, 2, 3], 1e400]}', "events[1] cannot be read: Number out of range"),
    (b'{"events": [[1, 2, 3]', "the body is not valid JSON: it ends early, at byte 21"),
    (b'{"\xc3\xa9": ?}', 'unknown key "é", expected "events"'),
    (b'{"events": ?}', "the body is not valid JSON: invalid character at byte 11"),
    (b'{"events": [[1, 2, 3]]} x', "the body is not valid JSON: trailing characters at byte 24"),
    (b'{"events": [[1, 2, 3.]]}', "the body is not valid JSON: invalid number at byte 21"),
    *[
        (b'{"events": [[1, 1e400, ' + after, "events[0][1] (pzj1) is 1e400, which is not finite as float32")
        for after in (b"3], [1, 2, NaN]]}", b"NaN]]}", b"\xff]]}", b'"x"', b"")
    ],
]


def test_broken_json_is_refused_at_its_first_fault(subtests: pytest.Subtests) -> None:
    """The whole message has the reason and the place at which reading stopped, whatever comes after."""
    for body, message in BROKEN_JSON:
        for reader, opened in JSON_READERS.items():
            with subtests.test(f"{body!r}, {reader}"):
                assert outcome(opened, [body]) == message


@documents
def test_a_fault_at_the_end_of_many_events_is_found_without_an_object_for_each_number(fmt: Format) -> None:
    """Explaining a refusal takes little more memory than reading the events does, wherever the fault is."""
    encode = msgspec.json.encode if fmt is JSON else msgspec.msgpack.encode
    rows = [[row + 0.5, 2.25, 3.125] for row in range(20_000)]
    good, wrong = (encode({"events": [*rows, [1.0, 2.0, last]]}) for last in (3.0, "x"))
    tracemalloc.start()
    try:
        outcome(served(fmt).open_batch, [good])
        reading = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        message = outcome(served(fmt).open_batch, [wrong])
        assert message == "events[20000][2] (tau2j1) is a string, expected a number"
        assert tracemalloc.get_traced_memory()[1] < 2.5 * reading
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", ["(2L, 3L)", "(2, 3 L)", "(2,\n3L)"])
def test_an_npy_header_of_python_2_is_refused(shape: str) -> None:
    """NumPy reads such a header with a warning, which a client could make the service print."""
    with warnings.catch_warnings(record=True) as printed:
        warnings.simplefilter("always")
        message = refusal(OPEN_NPY, npy(npy_header(shape=shape), bytes(24)))
        assert "it was created on Python 2. Save the file again" in message
    assert not printed


@pytest.mark.parametrize("rows", [1, 3, 10**15])
def test_npy_of_another_length_than_announced_is_refused(rows: int) -> None:
    """The data's length is checked before memory is taken for what the header announces."""
    message = f"the array holds 24 bytes, expected {rows * 12} for its shape ({rows}, 3)"
    assert refusal(OPEN_NPY, npy(npy_header(shape=f"({rows}, 3)"), bytes(24))) == message

"""Arrays are cut into requests that hold every event once, in order, and what cannot be sent is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from service.client import EventsError
from service.client.parts import Part, as_events, cut, rows_of

count = st.integers(1, 10**6)


@given(st.integers(1, 5000), count, count, count)
def test_parts_cover_all_events_in_order(n_events: int, row_bytes: int, max_events: int, max_bytes: int) -> None:
    """Each part begins where the one before ended, and exceeds neither limit but with its only event."""
    parts = list(cut(n_events, row_bytes, max_events, max_bytes))
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == n_events
    for part in parts:
        size = part.stop - part.start
        assert 0 < size <= max_events
        assert size * row_bytes <= max_bytes or size == 1


def rows_from_1(events: ArrayLike) -> bytes:
    """Return the bytes of all events but the first."""
    array = as_events(events)
    return rows_of(array, Part(0, 1, len(array))).tobytes()


def test_what_cannot_be_sent(subtests: pytest.Subtests) -> None:
    """Shapes, types and numbers are refused before anything is sent, with the event's place in the whole array."""
    nan, large = np.ones((3, 2)), np.ones((3, 2))
    nan[2, 1], large[1, 0] = np.nan, 1e300
    for events, message in (
        ([1.0, 2.0], "events have shape (2,), expected (n, n_features); a single event is events[numpy.newaxis]"),
        (np.ones((2, 3, 4)), "events have shape (2, 3, 4), expected (n, n_features)"),
        (np.ones((0, 14)), "events have shape (0, 14), expected at least one event"),
        ([["a"]], "events are <U1, expected numbers"),
        ([[1.0], [1.0, 2.0]], "events are not an array: "),
        (nan, "events[2][1] is nan, expected a number that is finite in float32"),
        (large, "events[1][0] is 1e+300, expected a number that is finite in float32"),
    ):
        with subtests.test(message=message), pytest.raises(EventsError) as raised:
            rows_from_1(events)
        assert str(raised.value).startswith(message)


def test_rows_are_little_endian_float32_in_c_order() -> None:
    """Arrays of any numeric type, byte order and layout become the bytes that the service reads."""
    expected = np.arange(12, dtype="<f4").reshape(4, 3)
    for array in (expected.astype(">f8"), np.asfortranarray(expected), expected.astype(int), expected.astype("f2")):
        assert rows_from_1(array) == expected[1:].tobytes()

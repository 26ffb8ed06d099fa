"""Each timeout of a connection, by clocks that are told the time."""

import pytest

from service.errors import NotReadyError, RequestTimeoutError, ServiceError
from service.server.timeouts import FROZEN_S, LINGER_S, LINGER_SILENCE_S, PACE_GRACE_S, Clocks, Timeouts

HEADER_S, STALL_S, REQUEST_S, KEEP_ALIVE_S = 10.0, 20.0, 100.0, 50.0


@pytest.fixture
def clocks() -> Clocks:
    """Begin with a connection on which a byte has just arrived."""
    return Clocks(Timeouts(HEADER_S, STALL_S, REQUEST_S, KEEP_ALIVE_S))


def check_error(error: ServiceError | None, kind: type[ServiceError], words: str) -> None:
    """Check that this is an error with these words."""
    assert isinstance(error, kind)
    assert words in str(error)


def test_a_head_has_its_time_however_it_arrives(clocks: Clocks) -> None:
    """Bytes that arrive meanwhile give it no more."""
    began_s = clocks.message_s
    clocks.received_s = began_s + HEADER_S
    assert clocks.head_error(began_s + HEADER_S) is None
    check_error(clocks.head_error(began_s + HEADER_S + 0.1), RequestTimeoutError, f"longer than {HEADER_S} s")


def test_a_body_may_neither_stall_nor_drip(clocks: Clocks) -> None:
    """A pause has its limit, and so has the whole request, until it is answered."""
    began_s = clocks.request_s
    assert clocks.request_error(began_s + STALL_S, arriving=True) is None
    stalled = clocks.request_error(began_s + STALL_S + 0.1, arriving=True)
    check_error(stalled, RequestTimeoutError, f"no byte of the body arrived for {STALL_S} s")
    assert clocks.request_error(began_s + STALL_S + 0.1, arriving=False) is None
    late_s = clocks.received_s = began_s + REQUEST_S + 0.1
    check_error(
        clocks.request_error(late_s, arriving=True), RequestTimeoutError, f"longer than {REQUEST_S} s to arrive"
    )
    check_error(clocks.request_error(late_s, arriving=False), NotReadyError, f"longer than {REQUEST_S} s; send it")


def test_a_body_has_a_pace(clocks: Clocks) -> None:
    """After a moment the fraction that arrived is at least that of the request's time, if the worker reads it."""
    began_s = clocks.request_s
    clocks.received_s = began_s + 1
    assert clocks.pace_error(began_s + PACE_GRACE_S, 0.0) is None
    assert clocks.pace_error(began_s + REQUEST_S / 2, 0.5) is None
    check_error(clocks.pace_error(began_s + REQUEST_S / 2, 0.49), RequestTimeoutError, "arrives too slowly")
    clocks.excuse(began_s + REQUEST_S / 2, head=False)
    assert clocks.pace_error(began_s + REQUEST_S / 2, 0.49) is None


def test_a_reader_may_neither_stall_nor_sip(clocks: Clocks) -> None:
    """What takes some of the response now and then has the request's time for all of it, and a pause its limit."""
    began_s = clocks.request_s
    assert not clocks.reader_stalled(1000, began_s)
    assert not clocks.reader_stalled(1000, began_s + STALL_S)
    assert not clocks.reader_stalled(999, began_s + STALL_S + 0.1)
    assert not clocks.reader_stalled(999, began_s + 2 * STALL_S)
    assert clocks.reader_stalled(999, began_s + 2 * STALL_S + 0.2)
    assert not clocks.reader_stalled(998, began_s + REQUEST_S + STALL_S)
    assert clocks.reader_stalled(997, began_s + REQUEST_S + STALL_S + 0.1)
    assert not clocks.reader_stalled(0, began_s + REQUEST_S + STALL_S + 0.1)


def test_what_is_discarded_has_its_time(clocks: Clocks) -> None:
    """The rest of a body, and what comes in a lingering close, in silence and in all."""
    began_s = clocks.message_s
    assert not clocks.discard_expired(began_s + STALL_S)
    assert clocks.discard_expired(began_s + STALL_S + 0.1)
    clocks.received_s = began_s + REQUEST_S
    assert not clocks.discard_expired(began_s + REQUEST_S)
    assert clocks.discard_expired(began_s + REQUEST_S + 0.1)
    clocks.begin_linger()
    lingers_s = clocks.received_s
    assert not clocks.linger_expired(lingers_s + LINGER_SILENCE_S)
    assert clocks.linger_expired(lingers_s + LINGER_SILENCE_S + 0.1)
    clocks.received_s = lingers_s + LINGER_S
    assert not clocks.linger_expired(lingers_s + LINGER_S)
    assert clocks.linger_expired(lingers_s + LINGER_S + 0.1)


def test_an_unused_connection_has_the_time_of_a_head(clocks: Clocks) -> None:
    """And one that was used its own, from when it was first seen idle."""
    began_s = clocks.message_s
    assert not clocks.idle_expired(began_s + 1, used=True)
    assert not clocks.idle_expired(began_s + 1 + HEADER_S, used=False)
    assert clocks.idle_expired(began_s + 1.1 + HEADER_S, used=False)
    assert not clocks.idle_expired(began_s + 1 + KEEP_ALIVE_S, used=True)
    assert clocks.idle_expired(began_s + 1.1 + KEEP_ALIVE_S, used=True)


def test_after_a_freeze_everything_has_its_time_anew(clocks: Clocks) -> None:
    """Where timeouts were not checked for long, no client is at fault; later silence is a fault again."""
    now_s = clocks.message_s
    assert not clocks.were_frozen(now_s + FROZEN_S)
    clocks.reader_stalled(1000, now_s)
    clocks.idle_expired(now_s, used=True)
    now_s += 1000 * FROZEN_S
    assert clocks.were_frozen(now_s)
    assert not clocks.were_frozen(now_s + FROZEN_S)
    assert clocks.head_error(now_s) is None
    assert clocks.request_error(now_s, arriving=True) is None
    assert clocks.request_error(now_s, arriving=False) is None
    assert not clocks.reader_stalled(1000, now_s)
    assert not clocks.discard_expired(now_s)
    assert not clocks.linger_expired(now_s)
    assert not clocks.idle_expired(now_s, used=True)
    assert clocks.head_error(now_s + HEADER_S + 0.1) is not None
    assert clocks.request_error(now_s + STALL_S + 0.1, arriving=True) is not None
    assert clocks.reader_stalled(1000, now_s + STALL_S + 0.1)
    assert clocks.idle_expired(now_s + KEEP_ALIVE_S + 0.1, used=True)

"""What connections hold together is bounded, and parsed in slices between other work."""

import asyncio
import time
from functools import partial

from service.server.buffers import PARSING_S, SLOW_S, Flow, PipelinedRequests, ReadAhead, UnsentResponses
from tests.service.inference.loops import on_a_loop, pass_iterations

N_SLICES = 20


class Connection:
    """Holds slices, each of which takes long to parse."""

    def __init__(self, read_ahead: ReadAhead, parsed: list["Connection"], begun: bool = False) -> None:
        self.n_left = N_SLICES
        self._read_ahead = read_ahead
        self._parsed = parsed
        self._begun = begun
        read_ahead.append(self, begun=begun)

    def parse_held(self) -> None:
        """Parse a slice."""
        time.sleep(PARSING_S)
        self._parsed.append(self)
        self.n_left -= 1
        if self.n_left:
            self._read_ahead.append(self, begun=self._begun)


@on_a_loop
async def test_slices_are_parsed_between_other_work_and_in_turn() -> None:
    """A slice that takes long is alone in an iteration of the loop; then comes that of the next connection."""
    read_ahead = ReadAhead(1000)
    parsed: list[Connection] = []
    first, second = (Connection(read_ahead, parsed) for _ in range(2))
    for n_parsed in range(2 * N_SLICES):
        assert parsed == [first, second] * (n_parsed // 2) + [first] * (n_parsed % 2)
        await pass_iterations(1)
    assert (first.n_left, second.n_left) == (0, 0)


@on_a_loop
async def test_every_second_slice_is_of_a_message_that_has_begun() -> None:
    """However many others wait, and however many messages have begun."""
    for n_begun in (1, 5):
        read_ahead = ReadAhead(1000)
        parsed: list[Connection] = []
        begun, others = ([Connection(read_ahead, parsed, kind) for _ in range(n_begun)] for kind in (True, False))
        await pass_iterations(2 * N_SLICES * n_begun)
        n_slices = 2 * N_SLICES * n_begun
        assert parsed == [one for pair in zip(begun, others, strict=True) for one in pair] * N_SLICES
        assert len(parsed) == n_slices


@on_a_loop
async def test_pipelined_requests_start_a_few_in_an_iteration() -> None:
    """In the order in which they came, those that come meanwhile included."""
    pipelined, started = PipelinedRequests(), list[int]()
    most = PipelinedRequests.MAX_STARTED
    for number in range(2 * most):
        pipelined.append(partial(started.append, number))
    assert not started
    await pass_iterations(1)
    assert started == list(range(most))
    pipelined.append(partial(started.append, 2 * most))
    await pass_iterations(1)
    assert started == list(range(2 * most))
    await pass_iterations(1)
    assert started == list(range(2 * most + 1))


def test_the_limit_of_what_waits_is_the_most_that_may() -> None:
    """One byte more exceeds it."""
    read_ahead = ReadAhead(1000)
    read_ahead.n_bytes = 1000
    assert not read_ahead.exceeded
    read_ahead.n_bytes += 1
    assert read_ahead.exceeded


class Transport(asyncio.Transport):
    """Tells what it has to send, whether it reads and whether it was cut off."""

    def __init__(self, n_bytes: int = 0) -> None:
        super().__init__()
        self.n_bytes = n_bytes
        self.reads, self.aborted = True, False

    def get_write_buffer_size(self) -> int:
        """Return the bytes that the client has not taken."""
        return self.n_bytes

    def pause_reading(self) -> None:
        """Read no more."""
        self.reads = False

    def resume_reading(self) -> None:
        """Read again."""
        self.reads = True

    def abort(self) -> None:
        """Cut the client off."""
        self.aborted = True


def test_the_slowest_client_loses_its_response_where_they_are_too_much() -> None:
    """One that has just got its own is given a moment, and one that has taken its own counts no more."""
    unsent = UnsentResponses(1000)
    done, fast, slow = (Transport(n_bytes) for n_bytes in (1000, 600, 600))
    unsent.add(done)
    unsent.remove(done)
    for transport in (fast, slow):
        unsent.add(transport)
    assert not any(one.aborted for one in (done, fast, slow))
    fast.n_bytes, slow.n_bytes = 500, 590
    time.sleep(1.1 * SLOW_S)
    newest = Transport(1)
    unsent.add(newest)
    assert [one.aborted for one in (done, fast, slow, newest)] == [False, False, True, False]


def test_what_was_taken_of_a_response_does_not_count() -> None:
    """What is left of all of them has a limit, and one alone may be longer than that."""
    unsent = UnsentResponses(1000)
    taken = [Transport(400), Transport(400)]
    for transport in taken:
        unsent.add(transport)
        transport.n_bytes = 20
    time.sleep(1.1 * SLOW_S)
    unsent.add(newest := Transport(900))
    for transport in taken:
        unsent.remove(transport)
    newest.n_bytes = 5000
    time.sleep(1.1 * SLOW_S)
    unsent.add(newest)
    assert not any(one.aborted for one in (*taken, newest))


def test_a_connection_that_holds_bytes_reads_nothing() -> None:
    """Reading goes on where it would have without them, whatever was asked for meanwhile."""
    for paused_before, asked, reads in (
        (False, (), True),
        (True, (), False),
        (True, ("resume",), True),
        (False, ("pause",), False),
        (False, ("pause", "resume"), True),
        (True, ("resume", "pause"), False),
    ):
        transport = Transport()
        flow = Flow(transport)
        if paused_before:
            flow.pause_reading()
        flow.hold()
        assert not transport.reads
        for call in asked:
            flow.resume_reading() if call == "resume" else flow.pause_reading()
            assert not transport.reads
        flow.release()
        assert transport.reads == reads

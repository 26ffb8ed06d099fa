"""Single events share a call, large batches are scheduled fairly, and each request gets its own scores."""

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from service.inference.batching import FairScheduler, MicroBatch
from service.model.artefact import Artefact
from service.model.scorer import VECTOR_EVENTS
from tests.artefacts import RTOL, oracle, sample_events
from tests.service.inference.loops import on_a_loop, pass_iterations
from tests.service.inference.observed_scorer import ObservedScorer

CAPACITY = MicroBatch.CAPACITY_EVENTS


@pytest.fixture
def scorer(artefact: Artefact) -> ObservedScorer:
    """Open a scorer that has not been called."""
    return ObservedScorer(artefact)


def assert_scored(scores: NDArray[np.float32], events: NDArray[np.float32]) -> None:
    """Check that these are the scores of these events."""
    assert scores.shape == (len(events),)
    np.testing.assert_allclose(scores, oracle(events), RTOL)


@pytest.mark.parametrize("sizes", [[1], [1] * 30, [3, 1, 128, 2], [CAPACITY], [CAPACITY, 1], [128] * 3, [1] * 600])
@on_a_loop
async def test_each_request_gets_its_own_scores(scorer: ObservedScorer, sizes: list[int]) -> None:
    """Of the requests of one iteration of the loop, even more than a batch holds, each gets its own scores."""
    batch = MicroBatch(scorer)
    sent = [sample_events(size, seed=seed) for seed, size in enumerate(sizes)]
    buffers = [events.copy() for events in sent]
    waiting = [batch.score(events) for events in buffers]
    for events in buffers:
        events.fill(np.nan)  # as a reader does that reads on
    for _ in range(2):  # what was given to one is not written over by the next
        for scores, events in zip(await asyncio.gather(*waiting), sent, strict=True):
            assert_scored(scores, events)
        assert_scored(await batch.score(sample_events(CAPACITY, seed=99)), sample_events(CAPACITY, seed=99))


@on_a_loop
async def test_no_row_of_another_client_fills_a_call(scorer: ObservedScorer) -> None:
    """What fills the runtime's vectors is zero, whatever was scored before."""
    batch = MicroBatch(scorer)
    for size in (40, 3, 1, 17):
        await batch.score(sample_events(size))
        rows = scorer.calls[-1]
        assert len(rows) % VECTOR_EVENTS == 0
        np.testing.assert_array_equal(rows[:size], sample_events(size))
        assert not rows[size:].any()


@on_a_loop
async def test_requests_of_one_iteration_are_one_call(scorer: ObservedScorer) -> None:
    """Thirty requests of one iteration of the loop are one call of the runtime; those of the next are another."""
    batch = MicroBatch(scorer)
    for n_calls in range(1, 5):
        await asyncio.gather(*(batch.score(sample_events(1, seed=seed)) for seed in range(30)))
        assert len(scorer.calls) == n_calls


@on_a_loop
async def test_a_single_event_is_scored_in_the_next_iteration(scorer: ObservedScorer) -> None:
    """It does not wait for others."""
    scored = MicroBatch(scorer).score(sample_events(1))
    assert not scored.done()
    await pass_iterations(1)
    assert scored.done()


@on_a_loop
async def test_a_full_batch_is_scored_at_once(scorer: ObservedScorer) -> None:
    """What does not fit any more is another call, and the runtime is never called for nothing."""
    batch = MicroBatch(scorer)
    first = batch.score(sample_events(CAPACITY - 1))
    assert not scorer.calls
    second = batch.score(sample_events(2))
    assert (len(scorer.calls), first.done(), second.done()) == (1, True, False)
    await second
    await pass_iterations(5)
    assert len(scorer.calls) == 2


@on_a_loop
async def test_a_cancelled_request_does_not_disturb_the_others(scorer: ObservedScorer) -> None:
    """Cancelled before its call, it changes no other scores."""
    batch, events = MicroBatch(scorer), sample_events(9)
    waiting = [batch.score(event[np.newaxis]) for event in events]
    for place in (0, 4, 8):
        waiting[place].cancel()
    for place in (1, 2, 3, 5, 6, 7):
        assert_scored(await waiting[place], events[place : place + 1])
    for cancelled in [batch.score(events[:1]) for _ in range(3)]:
        cancelled.cancel()
    await pass_iterations(1)
    assert_scored(await batch.score(events), events)


@on_a_loop
async def test_each_request_of_a_failed_call_gets_the_error(scorer: ObservedScorer) -> None:
    """Cancelled ones get nothing; the requests of the next call are scored."""
    batch = MicroBatch(scorer)
    scorer.failing = True
    waiting = [batch.score(sample_events(1)) for _ in range(5)]
    waiting[2].cancel()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    failed, cancelled = RuntimeError, asyncio.CancelledError
    assert [type(outcome) for outcome in outcomes] == [failed, failed, cancelled, failed, failed]
    scorer.failing = False
    assert_scored(await batch.score(sample_events(3)), sample_events(3))


class Iterations:
    """Counts the iterations of the running event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._counting = True
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self.count += 1
        if self._counting:
            asyncio.get_running_loop().call_soon(self._next)

    def stop(self) -> None:
        """Count no more."""
        self._counting = False


@on_a_loop
async def test_a_large_batch_alone_starts_at_once(scorer: ObservedScorer) -> None:
    """It does not wait for an iteration of the loop."""
    scheduler = FairScheduler(MicroBatch(scorer))
    for _ in range(3):
        iterations = Iterations()
        await scheduler.wait()
        assert iterations.count == 0
        iterations.stop()
        await pass_iterations(3)


@on_a_loop
async def test_large_batches_take_turns_in_their_order_of_arrival(scorer: ObservedScorer) -> None:
    """One piece of one batch is scored in an iteration of the loop; a batch that arrives later waits its turn."""
    scheduler, iterations = FairScheduler(MicroBatch(scorer)), Iterations()
    submitted: list[tuple[str, int]] = []
    scored: list[tuple[str, int]] = []
    counts: set[int] = set()

    async def score(name: str) -> None:
        for piece in range(10):
            submitted.append((name, piece))
            await scheduler.wait()
            scored.append((name, piece))
            counts.add(iterations.count)

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(score(name))
        for name in "de":
            await pass_iterations(1)
            group.create_task(score(name))
    iterations.stop()
    assert scored == submitted
    assert len(scored) == len(counts) == 50


@on_a_loop
async def test_cancelled_large_batches_delay_no_other(scorer: ObservedScorer) -> None:
    """Two that are cancelled take no longer than one, and scheduling goes on after all are."""
    scheduler, iterations = FairScheduler(MicroBatch(scorer)), Iterations()
    scored: list[tuple[int, int]] = []

    async def score(name: int) -> None:
        await scheduler.wait()
        scored.append((name, iterations.count))

    await scheduler.wait()
    waiting = [asyncio.ensure_future(score(name)) for name in range(6)]
    await pass_iterations(1)
    for name in (1, 3, 4):
        waiting[name].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    iterations.stop()
    names, counts = zip(*scored, strict=True)
    assert names == (0, 2, 5)
    assert counts[2] - counts[1] == counts[1] - counts[0]
    last = [asyncio.ensure_future(scheduler.wait()) for _ in range(3)]
    await pass_iterations(1)
    for cancelled in last:
        cancelled.cancel()
    await asyncio.gather(*last, return_exceptions=True)
    await pass_iterations(5)
    await scheduler.wait()


@on_a_loop
async def test_large_batches_and_single_events_are_all_scored(scorer: ObservedScorer) -> None:
    """Neither starves the other, however many there are of both."""
    batch, events = MicroBatch(scorer), sample_events(200)
    scheduler = FairScheduler(batch)

    async def score_large() -> None:
        for _ in range(50):
            await scheduler.wait()
            sample_events(500)

    async def score_single(event: NDArray[np.float32]) -> None:
        for _ in range(3):
            assert_scored(await batch.score(event), event)

    await asyncio.gather(*(score_large() for _ in range(3)), *(score_single(event[np.newaxis]) for event in events))

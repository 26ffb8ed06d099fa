"""Single events share a call, large batches are scheduled fairly, and each request gets its own scores."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from service.inference.batching import FairScheduler, MicroBatch
from service.model.artefact import Artefact
from service.model.scorer import VECTOR_EVENTS, Scorer
from tests.artefacts import N_FEATURES, RTOL, oracle, sample_events

CAPACITY = MicroBatch.CAPACITY_EVENTS


class CountingScorer(Scorer):
    """A scorer that counts its calls."""

    calls = 0

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Count, and score."""
        self.calls += 1
        return super().score(features)


class FailingScorer(Scorer):
    """A scorer that fails whenever it is told to."""

    failing = False

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fail, or score."""
        if self.failing:
            raise RuntimeError("the model is gone")
        return super().score(features)


@pytest.fixture
def counting(artefact: Artefact) -> CountingScorer:
    """Open a scorer that has counted no call yet."""
    scorer = CountingScorer(artefact)
    scorer.calls = 0  # it has reproduced the golden pairs
    return scorer


def assert_scored(scores: NDArray[np.float32], events: NDArray[np.float32]) -> None:
    """Check that these are the scores of these events."""
    assert scores.shape == (len(events),)
    np.testing.assert_allclose(scores, oracle(events), RTOL)


@pytest.mark.parametrize("sizes", [[1], [1] * 30, [3, 1, 128, 2], [CAPACITY], [CAPACITY, 1], [128] * 3, [1] * 600])
def test_everybody_gets_their_own_scores(counting: CountingScorer, sizes: list[int]) -> None:
    """Whatever arrives in one iteration of the loop, even more than a batch holds, each request gets its own scores."""

    async def ask_all() -> None:
        batch = MicroBatch(counting)
        sent = [sample_events(size, seed=seed) for seed, size in enumerate(sizes)]
        buffers = [events.copy() for events in sent]
        waiting = [batch.score(events) for events in buffers]
        for events in buffers:
            events.fill(np.nan)  # as a reader does that reads on
        for _ in range(2):  # what was given to one is not written over by the next
            for scores, events in zip(await asyncio.gather(*waiting), sent, strict=True):
                assert_scored(scores, events)
            assert_scored(await batch.score(sample_events(CAPACITY, seed=99)), sample_events(CAPACITY, seed=99))

    asyncio.run(ask_all())


class KeepingScorer(Scorer):
    """A scorer that keeps a copy of the rows of its last call."""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Keep, and score."""
        self.rows = features.copy()
        return super().score(features)


def test_no_row_of_another_client_fills_a_call(artefact: Artefact) -> None:
    """What fills the runtime's vectors is zero, whatever was scored before."""

    async def ask() -> None:
        scorer = KeepingScorer(artefact)
        batch = MicroBatch(scorer)
        for size in (40, 3, 1, 17):
            await batch.score(sample_events(size))
            assert len(scorer.rows) % VECTOR_EVENTS == 0
            np.testing.assert_array_equal(scorer.rows[:size], sample_events(size))
            assert not scorer.rows[size:].any()

    asyncio.run(ask())


def test_what_arrives_in_one_turn_is_one_call(counting: CountingScorer) -> None:
    """Thirty requests of one iteration of the loop are one call of the runtime; those of the next are another."""

    async def ask_in_turns() -> None:
        batch = MicroBatch(counting)
        for calls in range(1, 5):
            await asyncio.gather(*(batch.score(sample_events(1, seed=seed)) for seed in range(30)))
            assert counting.calls == calls

    asyncio.run(ask_in_turns())


def test_whoever_is_alone_waits_for_nobody(counting: CountingScorer) -> None:
    """An event is scored in the next iteration of the loop."""

    async def ask() -> None:
        scored = MicroBatch(counting).score(sample_events(1))
        assert not scored.done()
        await asyncio.sleep(0)
        assert scored.done()

    asyncio.run(ask())


def test_a_full_batch_is_scored_at_once(counting: CountingScorer) -> None:
    """What does not fit any more is another call, and a batch is never called for nothing."""

    async def ask_for_more_than_fits() -> None:
        batch = MicroBatch(counting)
        first = batch.score(sample_events(CAPACITY - 1))
        assert counting.calls == 0
        second = batch.score(sample_events(2))
        assert (counting.calls, first.done(), second.done()) == (1, True, False)
        await second
        assert counting.calls == 2
        for _ in range(5):
            await asyncio.sleep(0)
        assert counting.calls == 2

    asyncio.run(ask_for_more_than_fits())


def test_one_who_leaves_does_not_disturb_the_others(counting: CountingScorer) -> None:
    """A cancelled request, waiting or partly scored, changes no other scores."""

    async def ask_and_leave() -> None:
        batch = MicroBatch(counting)
        events = sample_events(9)
        waiting = [batch.score(event[np.newaxis]) for event in events]
        for leaving in (0, 4, 8):
            waiting[leaving].cancel()
        for place in (1, 2, 3, 5, 6, 7):
            assert_scored(await waiting[place], events[place : place + 1])
        for alone in [batch.score(events[:1]) for _ in range(3)]:
            alone.cancel()
        await asyncio.sleep(0)
        assert_scored(await batch.score(events), events)

    asyncio.run(ask_and_leave())


def test_a_failure_reaches_everybody_who_waits(artefact: Artefact) -> None:
    """Each request of a batch that could not be scored gets the error; those of the next are scored."""

    async def ask_in_vain() -> None:
        scorer = FailingScorer(artefact)
        batch = MicroBatch(scorer)
        scorer.failing = True
        waiting = [batch.score(sample_events(1)) for _ in range(5)]
        waiting[2].cancel()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [
            asyncio.CancelledError if place == 2 else RuntimeError for place in range(5)
        ]
        scorer.failing = False
        assert_scored(await batch.score(sample_events(3)), sample_events(3))

    asyncio.run(ask_in_vain())


@pytest.fixture
def in_turns(artefact: Artefact) -> Callable[[Callable[[FairScheduler, MicroBatch], Awaitable[None]]], None]:
    """Run something on a loop while no batch waits."""

    def run(work: Callable[[FairScheduler, MicroBatch], Awaitable[None]]) -> None:
        async def started() -> None:
            batch = MicroBatch(Scorer(artefact))
            await work(FairScheduler(batch), batch)

        asyncio.run(started())

    return run


InFairScheduler = Callable[[Callable[[FairScheduler, MicroBatch], Awaitable[None]]], None]


class Loop:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.turn = 0
        self._counting = True
        asyncio.get_running_loop().call_soon(self._count)

    def _count(self) -> None:
        self.turn += 1
        if self._counting:
            asyncio.get_running_loop().call_soon(self._count)

    def stop(self) -> None:
        """Count no more."""
        self._counting = False


def test_a_free_turn_is_taken_at_once(in_turns: InFairScheduler) -> None:
    """A batch that comes alone starts at once."""

    async def work_alone(turns: FairScheduler, _singles: MicroBatch) -> None:
        for _ in range(3):
            loop = Loop()
            await turns.wait()
            assert loop.turn == 0
            loop.stop()
            for _ in range(3):
                await asyncio.sleep(0)

    in_turns(work_alone)


def test_long_work_gets_one_turn_of_the_loop_each_first_come_first_served(in_turns: InFairScheduler) -> None:
    """Of several large batches one goes on in an iteration of the loop, in their order of arrival."""

    async def work_together(turns: FairScheduler, _singles: MicroBatch) -> None:
        loop = Loop()
        asked: list[tuple[str, int]] = []
        taken: list[tuple[str, int]] = []
        turns_taken: list[int] = []

        async def work(name: str) -> None:
            for piece in range(10):
                asked.append((name, piece))
                await turns.wait()
                taken.append((name, piece))
                turns_taken.append(loop.turn)

        await asyncio.gather(*map(work, "abcd"))
        loop.stop()
        assert taken == asked
        assert len(taken) == 40
        assert len(set(turns_taken)) == 40

    in_turns(work_together)


def test_whoever_comes_late_waits_behind_the_others(in_turns: InFairScheduler) -> None:
    """Batches are scheduled in their order of arrival."""

    async def queue_up(turns: FairScheduler, _singles: MicroBatch) -> None:
        taken: list[str] = []

        async def work(name: str) -> None:
            await turns.wait()
            taken.append(name)

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(work(name))
            await asyncio.sleep(0)
            group.create_task(work("d"))
            await asyncio.sleep(0)
            group.create_task(work("e"))
        assert taken == ["a", "b", "c", "d", "e"]

    in_turns(queue_up)


def test_the_turn_of_one_who_left_is_the_next_one_s(in_turns: InFairScheduler) -> None:
    """Cancelled batches delay no other, and scheduling goes on when all have left."""

    async def leave(turns: FairScheduler, _singles: MicroBatch) -> None:
        loop = Loop()
        taken: list[tuple[int, int]] = []

        async def work(name: int) -> None:
            await turns.wait()
            taken.append((name, loop.turn))

        await turns.wait()
        waiting = [asyncio.ensure_future(work(name)) for name in range(6)]
        await asyncio.sleep(0)
        for leaving in (1, 3, 4):
            waiting[leaving].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        loop.stop()
        [first, second, third] = taken
        assert [first[0], second[0], third[0]] == [0, 2, 5]
        assert third[1] - second[1] == second[1] - first[1]  # two who left take no longer than one
        last = [asyncio.ensure_future(turns.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        for gone in last:
            gone.cancel()
        await asyncio.gather(*last, return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0)
        await turns.wait()

    in_turns(leave)


def test_long_work_and_single_events_both_go_on(in_turns: InFairScheduler) -> None:
    """Neither keeps the other from its end, however much there is of both."""

    async def do_both(turns: FairScheduler, batch: MicroBatch) -> None:
        events = sample_events(200)

        async def work() -> None:
            for _ in range(50):
                await turns.wait()
                sample_events(500)

        async def ask(event: NDArray[np.float32]) -> None:
            assert event.shape == (1, N_FEATURES)
            for _ in range(3):
                assert_scored(await batch.score(event), event)

        await asyncio.gather(*(work() for _ in range(3)), *(ask(event[np.newaxis]) for event in events))

    in_turns(do_both)

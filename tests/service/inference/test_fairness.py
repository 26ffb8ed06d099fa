"""Single events come before the pieces of large batches, which get half of the time all the same."""

import asyncio
import time

import numpy as np
import pytest

from service.inference.batching import FairScheduler, MicroBatch
from service.inference.deployment import Model
from service.model.artefact import Artefact
from service.model.scorer import CHUNK_EVENTS, Scorer
from tests.artefacts import RTOL, oracle, sample_events
from tests.service.inference.loops import on_a_loop
from tests.service.inference.observed_scorer import ObservedScorer

PIECE_S = 0.05


@pytest.fixture
def micro_batch(artefact: Artefact) -> MicroBatch:
    """Make a micro-batch, into which no event has been submitted."""
    return MicroBatch(Scorer(artefact))


@on_a_loop
async def test_a_batch_waits_for_the_single_events_that_wait(micro_batch: MicroBatch) -> None:
    """A batch that comes when a single event waits to be scored begins after that."""
    scheduler = FairScheduler(micro_batch)
    for _ in range(3):
        score = micro_batch.score(sample_events(1))
        await scheduler.wait()
        assert score.done()


@on_a_loop
async def test_a_block_that_arrives_waits_for_the_single_events_that_wait(artefact: Artefact) -> None:
    """So does each large block of a batch that is read while it arrives, also where it is one short piece."""
    model = Model(Scorer(artefact), 10**6, lambda *_: None)
    block = sample_events(FairScheduler.SHORT_PIECE_EVENTS)
    batch = model.start_batch()
    for last in (False, False, True):
        score = model.micro_batch.score(sample_events(1))
        await batch.add([block], large=True, last=last)
        assert score.done()


@on_a_loop
async def test_single_events_without_end_get_half_of_the_time_and_a_batch_the_other(micro_batch: MicroBatch) -> None:
    """While single events come in every iteration, the next piece waits for as long as the last took, and no longer."""
    scheduler, pauses_s = FairScheduler(micro_batch), []

    async def submit_without_end() -> None:
        while True:
            micro_batch.score(sample_events(1))
            await asyncio.sleep(0)

    singles = asyncio.create_task(submit_without_end())
    async with asyncio.timeout(30):
        await scheduler.wait()
        for _ in range(3):
            time.sleep(PIECE_S)  # the piece, on the loop
            ended_s = time.perf_counter()
            await scheduler.wait()
            pauses_s.append(time.perf_counter() - ended_s)
    singles.cancel()
    assert min(pauses_s) >= PIECE_S


@on_a_loop
async def test_batches_have_a_share_of_the_time_whatever_else_the_loop_does(artefact: Artefact) -> None:
    """Where an iteration takes long for other reasons, several pieces are scored in one, of one batch after another."""
    model = Model(Scorer(artefact), 10**6, lambda *_: None)
    block = sample_events(20 * FairScheduler.SHORT_PIECE_EVENTS)
    batches, n_iterations = [model.start_batch() for _ in range(2)], 0

    async def work() -> None:
        nonlocal n_iterations
        while True:
            until_s = time.thread_time() + 2 * FairScheduler.MIN_OWED_S
            while time.thread_time() < until_s:
                pass
            n_iterations += 1
            await asyncio.sleep(0)

    await model.micro_batch.score(sample_events(1))  # so that pieces are short
    working = asyncio.create_task(work())
    await asyncio.gather(*[batch.add([block], large=True, last=True) for batch in batches])
    working.cancel()
    assert n_iterations < 60
    for batch in batches:
        np.testing.assert_allclose(batch.join(), oracle(block), RTOL)


@on_a_loop
async def test_pieces_are_short_while_single_events_come(micro_batch: MicroBatch) -> None:
    """A block is one piece, and four while a single event was submitted a moment ago."""
    scheduler, block = FairScheduler(micro_batch), sample_events(CHUNK_EVENTS)

    def sizes() -> list[int]:
        return list(map(len, scheduler.pieces(block)))

    assert sizes() == [CHUNK_EVENTS]
    await micro_batch.score(sample_events(1))
    assert sizes() == [FairScheduler.SHORT_PIECE_EVENTS] * 4
    await asyncio.sleep(2 * MicroBatch.RECENT_S)
    assert sizes() == [CHUNK_EVENTS]


@on_a_loop
async def test_a_single_event_is_scored_after_one_piece_of_a_batch(artefact: Artefact) -> None:
    """Single events that come one after the other are each scored between two short pieces of a large batch."""
    scorer = ObservedScorer(artefact)
    model = Model(scorer, 10**6, lambda *_: None)
    events = sample_events(10 * CHUNK_EVENTS)
    await model.micro_batch.score(events[:1])
    scorer.calls.clear()
    batch = asyncio.create_task(model.score(events))
    while not batch.done():
        await model.micro_batch.score(events[:1])
    np.testing.assert_allclose(await batch, oracle(events), rtol=1e-5)
    pieces = [size for size in scorer.sizes if size > 16]
    assert set(pieces) == {FairScheduler.SHORT_PIECE_EVENTS}
    assert not any(one > 16 and other > 16 for one, other in zip(scorer.sizes, scorer.sizes[1:], strict=False))

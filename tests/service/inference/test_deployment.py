"""Arrays in, scores out: what a protocol that is no HTTP needs, without one."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from service.errors import (
    InvalidRequestError,
    NonFiniteScoreError,
    NotReadyError,
    OverloadedError,
    RequestTimeoutError,
    TooManyEventsError,
    UnknownWorkingPointError,
)
from service.inference.batching import Scores
from service.inference.deployment import SMALL_BATCH_EVENTS, Deployment, Model
from service.metrics.counters import Metrics
from service.model.artefact import Artefact
from service.model.scorer import CHUNK_EVENTS, Scorer
from service.settings import Settings
from tests.artefacts import N_FEATURES, RTOL, oracle, sample_events
from tests.service.inference.loops import on_a_loop

MAX_EVENTS = 3 * CHUNK_EVENTS
BEYOND = np.full((1, N_FEATURES), 3e38, np.float32)
"""Finite features whose squares are not."""


@pytest.fixture
def model(artefact: Artefact) -> Model:
    """Put a model in use."""
    return Model(Scorer(artefact), MAX_EVENTS, lambda *_: None)


@pytest.mark.parametrize("n_events", [1, SMALL_BATCH_EVENTS, SMALL_BATCH_EVENTS + 1, CHUNK_EVENTS + 1, MAX_EVENTS])
def test_an_array_is_scored(model: Model, n_events: int) -> None:
    """Awaiting gives one score for each event, in order, whether they are few or many."""
    events = sample_events(n_events)
    scores = asyncio.run(model.score(events))
    assert scores.shape == (n_events,)
    np.testing.assert_allclose(scores, oracle(events), RTOL)


def test_an_array_without_events_or_with_too_many_is_refused(model: Model) -> None:
    """The limit is named, and nothing is scored."""
    with pytest.raises(InvalidRequestError, match="the batch is empty, expected at least 1 event"):
        asyncio.run(model.score(sample_events(0)))
    with pytest.raises(TooManyEventsError, match=f"{MAX_EVENTS + 1} events, expected at most {MAX_EVENTS}"):
        asyncio.run(model.score(sample_events(MAX_EVENTS + 1)))


@on_a_loop
async def test_a_score_that_is_not_finite_is_an_error_that_names_the_event(model: Model) -> None:
    """Of one event, of a few and of many; the other events of a micro-batch keep their scores."""
    few = np.concatenate([sample_events(3), BEYOND])
    many = np.concatenate([sample_events(CHUNK_EVENTS), BEYOND])
    results = await asyncio.gather(
        model.score(BEYOND),
        model.score(few),
        model.score(sample_events(5)),
        model.score(many),
        return_exceptions=True,
    )
    for result, place in ((results[0], "the event"), (results[1], "events[3]"), (results[3], "events[4096]")):
        assert isinstance(result, NonFiniteScoreError)
        assert f"the score inf for {place}," in str(result)
    assert isinstance(results[2], np.ndarray)
    np.testing.assert_allclose(results[2], oracle(sample_events(5)), RTOL)


class Kept:
    """A receiver that is no future: it keeps what it is called back with."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.results: list[Scores | Exception] = []
        self.wanted = wanted

    def done(self) -> bool:
        """Tell that there is nothing more to receive."""
        return not self.wanted

    def set_result(self, result: Scores) -> None:
        """Keep scores."""
        self.results.append(result)

    def set_exception(self, exception: Exception) -> None:
        """Keep an error."""
        self.results.append(exception)


@on_a_loop
async def test_a_callback_gets_the_scores_of_its_rows(model: Model) -> None:
    """A receiver is called back once, when the micro-batch of this iteration of the loop is done, if it still waits."""
    events = [sample_events(n_events, seed=n_events) for n_events in (1, 4, 1)]
    kept, beyond, cancelled = [Kept() for _ in events], Kept(), Kept(wanted=False)
    for rows, receiver in zip(events, kept, strict=True):
        model.micro_batch.submit(rows, receiver)
    model.micro_batch.submit(BEYOND, beyond)
    model.micro_batch.submit(BEYOND, cancelled)
    assert not any(receiver.results for receiver in kept)
    await asyncio.sleep(0)
    for rows, receiver in zip(events, kept, strict=True):
        [scores] = receiver.results
        assert isinstance(scores, np.ndarray)
        np.testing.assert_allclose(scores, oracle(rows), RTOL)
    assert [type(result) for result in beyond.results] == [NonFiniteScoreError]
    assert not cancelled.results


@on_a_loop
async def test_bodies_are_read_one_in_each_iteration_where_that_takes_long(model: Model) -> None:
    """Large ones when it is their turn, if they are still wanted; what cannot be read is an error."""
    events, read, kept = sample_events(SMALL_BATCH_EVENTS + 1), list[int](), [Kept() for _ in range(4)]
    kept[1] = Kept(wanted=False)

    def read_blocks(number: int) -> Iterator[Scores]:
        read.append(number)
        if number == 2:
            raise InvalidRequestError("no rows")
        yield events

    for number, receiver in enumerate(kept):
        model.submit_blocks(read_blocks(number), receiver)
    assert read == [0]
    for _ in range(20):
        n_read = len(read)
        await asyncio.sleep(0)
        assert len(read) <= n_read + 1
    assert read == [0, 2, 3]
    assert [len(receiver.results) for receiver in kept] == [1, 0, 1, 1]
    assert isinstance(kept[2].results[0], InvalidRequestError)
    np.testing.assert_allclose(kept[3].results[0], oracle(events), RTOL)  # type: ignore[arg-type]


@on_a_loop
async def test_a_body_of_many_events_is_scored_in_pieces(model: Model) -> None:
    """It is read once, its pieces come between single events, and the rest of one that is not wanted is not scored."""
    events, read, kept = sample_events(3 * CHUNK_EVENTS + 1), list[int](), [Kept(), Kept(), Kept()]
    beyond = np.concatenate([events, BEYOND])

    def read_blocks(number: int) -> Iterator[Scores]:
        read.append(number)
        rows = beyond if number == 2 else events
        for start in range(0, len(rows), CHUNK_EVENTS):
            yield rows[start : start + CHUNK_EVENTS]

    for number, receiver in enumerate(kept):
        model.submit_blocks(read_blocks(number), receiver)
    n_iterations = 0
    while not kept[2].results:
        if read == [0, 1]:
            kept[1].wanted = False
        event = sample_events(1, seed=n_iterations)
        np.testing.assert_allclose(await model.score(event), oracle(event), RTOL)
        n_iterations += 1
    assert read == [0, 1, 2]
    assert n_iterations > 2 * len(events) // CHUNK_EVENTS
    [scores], [error] = kept[0].results, kept[2].results
    np.testing.assert_allclose(scores, oracle(events), RTOL)  # type: ignore[arg-type]
    assert isinstance(error, NonFiniteScoreError)
    assert f"events[{len(events)}]" in str(error)


@on_a_loop
async def test_single_events_are_scored_between_the_pieces_of_a_large_batch(model: Model) -> None:
    """An event that is submitted while a large batch is scored does not wait for its end."""
    batch = asyncio.create_task(model.score(sample_events(MAX_EVENTS)))
    await asyncio.sleep(0)
    for seed in range(3):
        event = sample_events(1, seed=seed)
        np.testing.assert_allclose(await model.score(event), oracle(event), RTOL)
    assert not batch.done()
    await batch


@on_a_loop
async def test_blocks_that_arrive_make_one_batch(model: Model) -> None:
    """Pieces of any size, read lazily, give the scores of all events in their order."""
    events, batch = sample_events(5000), model.start_batch()
    for start, stop in pairwise((0, 10, 3000, 5000)):
        blocks = (events[place : min(place + 700, stop)] for place in range(start, stop, 700))
        await batch.add(blocks, large=start > 0, last=stop == len(events))
    assert batch.n_events == len(events)
    np.testing.assert_allclose(batch.join(), oracle(events), RTOL)


@on_a_loop
async def test_a_protocol_without_http_scores_within_the_limits(artefact: Artefact) -> None:
    """Admission, the model in use, a cancellation with its reason, and a working point: no request object is needed."""
    deployment = Deployment(Settings(max_inflight_events=10), Metrics([]))
    with pytest.raises(NotReadyError, match="starting"):
        deployment.model  # noqa: B018
    deployment.open(Scorer(artefact))
    model, events = deployment.model, sample_events(8)

    async def wait() -> None:
        with deployment.admission.admit(1, 1):
            await asyncio.Event().wait()

    with deployment.admission.admit(len(events), events.nbytes):
        with pytest.raises(OverloadedError):
            deployment.admission.admit(3, 1)
        np.testing.assert_allclose(await model.score(events), oracle(events), RTOL)
    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel(RequestTimeoutError("the request timed out"))
    with pytest.raises(RequestTimeoutError, match="the request timed out"):
        await task
    assert deployment.admission.requests == deployment.admission.events == deployment.admission.bytes == 0
    assert model.working_point("loose").threshold == 2.0
    with pytest.raises(UnknownWorkingPointError, match="expected one of loose, tight"):
        model.working_point("lose")


def test_batches_leave_room_for_single_events() -> None:
    """Where they take all of theirs, events are admitted, up to limits of their own; all are in flight."""
    deployment = Deployment(Settings(max_inflight_events=10, max_inflight_bytes=800), Metrics([]))
    with deployment.admission.admit(10, 800), deployment.event_admission.admit(1, 0) as event:
        event.grow(1, 100)
        with deployment.event_admission.admit(1, 0) as other, pytest.raises(OverloadedError):
            other.grow(1, 1)
        assert deployment.inflight == (2, 11, 900)


def test_a_new_model_does_not_end_a_drain(artefact: Artefact) -> None:
    """A reload changes the model alone: a load balancer must not send clients to a service that is about to end."""
    deployment = Deployment(Settings(), Metrics([]))
    deployment.open(Scorer(artefact))
    assert deployment.status == "ok"
    deployment.status = "draining"
    deployment.use(Scorer(artefact))
    assert deployment.status == "draining"

"""The durations of inference requests in Triton's parts, summed over all workers.

The time of a request has four parts: the wait from its first byte until its events are read (queue); reading them
(compute_input); scoring, in which a long one also waits for its turns and for the rest of its body (compute_infer); and
writing its response (compute_output). `Metrics` adds the wait before the first byte is seen to the queue.
"""

from collections.abc import Iterable, Iterator
from time import monotonic
from typing import TypeVar

import msgspec

from service.api.open_inference.description import VERSION, ServedModel
from service.inference.deployment import SMALL_BATCH_EVENTS, Model
from service.metrics.counters import Inference
from service.model.scorer import CHUNK_EVENTS

T = TypeVar("T")


class Duration(msgspec.Struct, frozen=True):
    """The number of times of a part, and its total nanoseconds."""

    count: int
    ns: int


class InferenceStatistics(msgspec.Struct, frozen=True):
    """The parts of all requests."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ModelStatistics(msgspec.Struct, frozen=True):
    """The statistics of one model."""

    name: str
    version: str
    last_inference: int
    """Milliseconds since 1970."""
    inference_count: int
    """Events."""
    execution_count: int
    """Calls of the runtime."""
    inference_stats: InferenceStatistics
    batch_stats: list[object] = []


class Timer:
    """Times the parts of one request."""

    __slots__ = ("_began_s", "_input_s", "_queue_s", "_scored_s")

    def __init__(self, began_s: float) -> None:
        """Start at the request's first byte, in monotonic seconds."""
        self._began_s = began_s
        self._queue_s = -1.0
        self._input_s = self._scored_s = 0.0

    def time_reading(self, blocks: Iterable[T]) -> Iterator[T]:
        """Yield `blocks`, timing the read of each."""
        blocks = iter(blocks)
        while True:
            started_s = monotonic()
            block = next(blocks, None)
            self.note_read(started_s)
            if block is None:
                return
            yield block

    def note_read(self, started_s: float) -> None:
        """Note that reading, which started then, has ended."""
        if self._queue_s < 0:
            self._queue_s = max(started_s - self._began_s, 0.0)
        self._input_s += monotonic() - started_s

    def note_scored(self) -> None:
        """Note that all scores are computed; writing the response follows."""
        self._scored_s = monotonic()

    def success(self, n_events: int, n_calls: int) -> Inference:
        """Return the record of a request that ends now with scores."""
        ended_s, began_s, queue_s, input_s = monotonic(), self._began_s, max(self._queue_s, 0.0), self._input_s
        infer_s = max(self._scored_s - began_s - queue_s - input_s, 0.0)
        parts_s = (ended_s - began_s, 0.0, queue_s, input_s, infer_s, ended_s - self._scored_s)
        return Inference(True, n_events, n_calls, parts_s)

    def failure(self) -> Inference:
        """Return the record of a request that ends now with an error."""
        return Inference(False, 0, 0, (0.0, monotonic() - self._began_s, 0.0, 0.0, 0.0, 0.0))


class Statistics:
    """Counts the requests of this worker, and reports those of all workers."""

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._metrics = served.deployment.metrics
        self._last_call = ("", 0)

    def note_success(self, timer: Timer, model: Model, n_events: int) -> None:
        """Count a request that ends now with scores."""
        self._metrics.note_inference(timer.success(n_events, self._n_calls(model, n_events)))

    def note_failure(self, timer: Timer) -> None:
        """Count a request that ends now with an error."""
        self._metrics.note_inference(timer.failure())

    def report(self, name: str, version: str = "") -> ModelStatistics:
        """Report the counts of the model of this name; raises as `ServedModel.find`."""
        self._served.find(name, version)
        totals = self._metrics.inferences()
        counts = (totals.n_succeeded, totals.n_failed, *[totals.n_succeeded] * 4)
        parts = InferenceStatistics(*map(Duration, counts, totals.parts_ns))
        return ModelStatistics(name, VERSION, totals.last_ms, totals.n_events, totals.n_calls, parts)

    def _n_calls(self, model: Model, n_events: int) -> int:
        """Count the calls of the runtime for a request; those that share a micro-batch share its call."""
        if n_events > SMALL_BATCH_EVENTS:
            return -(-n_events // CHUNK_EVENTS)
        call = (model.identity, model.micro_batch.n_calls)
        fresh, self._last_call = call != self._last_call, call
        return int(fresh)

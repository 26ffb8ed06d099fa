"""Clients of the service for Locust: single events and batches in every format, every score checked.

    BENCHMARK_MODEL=exported/autoencoder.onnx locust -f benchmarks/locustfile.py --headless -u 8 -t 30s -H http://127.0.0.1:8000

BENCHMARK_EVENTS may name an .npy file of events (n, features); else they are drawn around the model's golden ones.
`python -m benchmarks.load` starts a service and runs this against it. It does not know how the service is run.
"""

import io
import json
import os
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any, NamedTuple

import msgspec
import numpy as np
from locust import FastHttpUser, constant, events, task
from locust.contrib.fasthttp import FastResponse
from locust.env import Environment
from numpy.typing import NDArray

from service.model.artefact import GOLDEN_ATOL, GOLDEN_RTOL, Artefact, load_artefact
from service.model.scorer import Scorer

BATCH_SIZES = (10, 1_000, 10_000)
SINGLE_EVENTS = 100


class Payload(NamedTuple):
    """A request made beforehand, and the scores (n,) that it must get."""

    body: bytes
    scores: NDArray[np.float32]


class Format(NamedTuple):
    """How features are written and scores are read."""

    name: str
    media_type: str
    write: Callable[[str, NDArray[np.float32]], bytes]
    read: Callable[[str, bytes], Any]


def npy_bytes(array: NDArray[np.float32]) -> bytes:
    """Write an array as numpy.save does."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


JSON = Format(
    "json",
    "application/json",
    lambda key, array: json.dumps({key: array.tolist()}).encode(),
    lambda key, body: msgspec.json.decode(body)[key],
)
MSGPACK = Format(
    "msgpack",
    "application/msgpack",
    lambda key, array: msgspec.msgpack.encode({key: array.tolist()}),
    lambda key, body: msgspec.msgpack.decode(body)[key],
)
RAW = Format(
    "raw",
    "application/octet-stream",
    lambda _, array: array.astype("<f4").tobytes(),
    lambda _, body: np.frombuffer(body, "<f4"),
)
NPY = Format(
    "npy",
    "application/x-npy",
    lambda _, array: npy_bytes(array),
    lambda _, body: np.load(io.BytesIO(body), allow_pickle=False),
)


class Tally:
    """The events that were scored rightly, and since when."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.events = 0


TALLY = Tally()


def sample_events(artefact: Artefact, n_events: int) -> NDArray[np.float32]:
    """Take events (n_events, n_features) from BENCHMARK_EVENTS, or draw them around the golden ones."""
    path = os.environ.get("BENCHMARK_EVENTS")
    if path:
        return np.resize(np.load(path).astype(np.float32), (n_events, artefact.n_features))
    golden = np.array(artefact.metadata.golden.features)
    generator = np.random.default_rng(0)
    drawn = golden[generator.integers(len(golden), size=n_events)]
    return (drawn * generator.normal(1.0, 0.05, drawn.shape)).astype(np.float32)


@events.init.add_listener  # type: ignore[untyped-decorator]  # as are the other two of Locust's
def make_payloads(environment: Environment, **_: object) -> None:
    """Write every request, and compute the scores it must get, before the first is sent."""
    scorer = Scorer(load_artefact(os.environ.get("BENCHMARK_MODEL", "exported/autoencoder.onnx")))
    sample = sample_events(scorer.artefact, max(BATCH_SIZES))
    scores = scorer.score(sample)
    for user in environment.user_classes:
        if issubclass(user, ScoringUser):
            user.prepare(sample, scores)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def start_tally(**_: object) -> None:
    """Count from here."""
    TALLY.started, TALLY.events = time.perf_counter(), 0


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def report(environment: Environment, **_: object) -> None:
    """Print events/s beside requests/s, and fail the run for a single failure or for none that was asked."""
    total = environment.stats.total
    seconds = time.perf_counter() - TALLY.started
    print(
        f"{total.num_requests} requests, {total.num_failures} failures, {TALLY.events} events scored rightly in "
        f"{seconds:.1f} s: {total.num_requests / seconds:,.0f} requests/s, {TALLY.events / seconds:,.0f} events/s"
    )
    environment.process_exit_code = 1 if total.num_failures or not TALLY.events else 0


class ScoringUser(FastHttpUser):
    """A client that sends its format's payloads one after the other and checks each score."""

    abstract = True
    wait_time = constant(0)
    fmt: Format
    payloads: list[tuple[str, list[Payload]]]

    @classmethod
    def prepare(cls, sample: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
        """Make the payloads of each size, from events `sample` (n, n_features) and their `scores` (n,)."""
        cls.payloads = [
            (
                f"{cls.fmt.name} x {size}",
                [Payload(cls.fmt.write("events", sample[:size]), scores[:size])],
            )
            for size in BATCH_SIZES
        ]

    def on_start(self) -> None:
        """Start at the first payload."""
        self._turns = cycle((name, payload) for name, group in self.payloads for payload in group)

    def ask(self, path: str, key: str) -> None:
        """Send the next payload, and hold the reply's scores, by their name `key`, against the expected ones."""
        name, payload = next(self._turns)
        headers = {"Content-Type": self.fmt.media_type}
        body: Any = payload.body  # bytes are sent as they are, though the annotation has only text
        with self.client.post(path, data=body, headers=headers, name=name, catch_response=True) as response:
            fault = self.fault(response, key, payload)
            if fault:
                response.failure(fault)
            else:
                TALLY.events += len(payload.scores)
                response.success()

    def fault(self, response: FastResponse, key: str, payload: Payload) -> str | None:
        """Say what is wrong with the reply, or None."""
        if response.status_code != 200:
            return f"status {response.status_code}: {str(response.text)[:200]}"
        scores = np.atleast_1d(self.fmt.read(key, response.content))
        if scores.shape != payload.scores.shape:
            return f"{scores.shape} scores, expected {payload.scores.shape}"
        wrong = ~np.isclose(scores, payload.scores, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL)
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            return f"score {place} is {scores[place]}, expected {payload.scores[place]}"
        return None


class BatchUser(ScoringUser):
    """A client that sends batches."""

    abstract = True

    @task
    def score_batch(self) -> None:
        """Send a batch."""
        self.ask("/score/batch", "anomaly_scores")


class SingleEventUser(ScoringUser):
    """A client that sends one event at a time, each another."""

    abstract = True

    @classmethod
    def prepare(cls, sample: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
        """Make one payload for each of some events."""
        singles = [
            Payload(cls.fmt.write("features", sample[row]), scores[row : row + 1]) for row in range(SINGLE_EVENTS)
        ]
        cls.payloads = [(f"{cls.fmt.name} single", singles)]

    @task
    def score(self) -> None:
        """Send one event."""
        self.ask("/score", "anomaly_score")


class JsonBatchUser(BatchUser):
    """Batches in JSON."""

    fmt = JSON


class MsgpackBatchUser(BatchUser):
    """Batches in MessagePack."""

    fmt = MSGPACK


class RawBatchUser(BatchUser):
    """Batches as raw float32."""

    fmt = RAW


class NpyBatchUser(BatchUser):
    """Batches as .npy files."""

    fmt = NPY


class JsonSingleEventUser(SingleEventUser):
    """Single events in JSON."""

    fmt = JSON


class MsgpackSingleEventUser(SingleEventUser):
    """Single events in MessagePack."""

    fmt = MSGPACK


class RawSingleEventUser(SingleEventUser):
    """Single events as raw float32."""

    fmt = RAW


class NpySingleEventUser(SingleEventUser):
    """Single events as .npy files."""

    fmt = NPY

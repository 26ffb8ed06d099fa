"""Locust clients of the service: single events and batches in every format, with every score checked.

    BENCHMARK_MODEL=exported/autoencoder.onnx locust -f benchmarks/locustfile.py --headless -u 8 -t 30s -H http://127.0.0.1:8000

`make load` starts a service and runs this against it.
"""

import itertools
import os
import time
from typing import Any

from locust import FastHttpUser, constant, events, task
from locust.env import Environment

from benchmarks.load.scoring import ScoringRequest, mixed_requests, read_sample
from service.model.artefact import load_artefact
from service.model.scorer import Scorer

BATCH_SIZES = (10, 1_000, 10_000)


class Scored:
    """The number of correctly scored events, and the start of the count."""

    events = 0
    started = 0.0


@events.init.add_listener  # type: ignore[untyped-decorator]  # as are the other two of Locust's
def make_requests(**_: object) -> None:
    """Prepare all requests and compute the expected scores before the first is sent."""
    scorer = Scorer(load_artefact(os.environ.get("BENCHMARK_MODEL", "exported/autoencoder.onnx")))
    sample = read_sample(scorer.artefact.n_features)
    ScoringUser.requests = [(one, scorer.score(one.events)) for one in mixed_requests(sample, BATCH_SIZES)]


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def start_count(**_: object) -> None:
    """Start the count."""
    Scored.started, Scored.events = time.perf_counter(), 0


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def report(environment: Environment, **_: object) -> None:
    """Print requests/s and events/s; fail the run after any failure or without a correct response."""
    total = environment.stats.total
    seconds = time.perf_counter() - Scored.started
    print(
        f"{total.num_requests} requests, {total.num_failures} failures, {Scored.events} events scored rightly in "
        f"{seconds:.1f} s: {total.num_requests / seconds:,.0f} requests/s, {Scored.events / seconds:,.0f} events/s"
    )
    environment.process_exit_code = 1 if total.num_failures or not Scored.events else 0


class ScoringUser(FastHttpUser):
    """A client that sends all requests in turn, starting at its own, and checks every score."""

    wait_time = constant(0)
    requests: list[tuple[ScoringRequest, Any]]
    begun = itertools.count()

    def on_start(self) -> None:
        """Choose the first request of this client."""
        self._place = 5 * next(self.begun)

    @task
    def score(self) -> None:
        """Send the next request."""
        request, expected = self.requests[self._place % len(self.requests)]
        self._place += 1
        body: Any = request.body  # bytes are sent as they are, though the annotation has only text
        with self.client.post(
            request.path, data=body, headers=request.headers, name=request.name, catch_response=True
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}: {str(response.text)[:200]}")
            elif fault := request.fault(response.content, expected):
                response.failure(fault)
            else:
                Scored.events += len(expected)
                response.success()

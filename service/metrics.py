"""What the service counts and times for Prometheus: requests, events and durations.

It does not know formats or models. With several workers, prometheus_client keeps every number in files that all of them
read, in the directory that the variable PROMETHEUS_MULTIPROC_DIR names.
"""

import os
from collections import Counter as Counts
from collections.abc import Iterable, Sequence
from time import perf_counter

import numpy as np
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
OTHER_ROUTE = "other"
"""The route of every request to an unknown path: a label must not take a client's value."""

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
NOTED = 1000
"""Requests that are noted before they are counted at the latest."""

EVENTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


class Metrics:
    """The numbers of one application, in a registry of its own."""

    def __init__(self, routes: Iterable[str]) -> None:
        """Count requests to each of `routes`, and those to all other paths together."""
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("anomaly_requests", "Requests answered.", ["route", "status"], registry=registry)
        seconds = Histogram(
            "anomaly_request_seconds", "Time to answer a request.", ["route"], buckets=SECONDS, registry=registry
        )
        self._events = Counter("anomaly_events_scored", "Events scored.", registry=registry)
        self._batches = Histogram("anomaly_batch_events", "Events in a request.", buckets=EVENTS, registry=registry)
        self._model = Gauge(
            "anomaly_model_info", "1 for the model in use.", ["model"], registry=registry, multiprocess_mode="livemax"
        )
        self._worker_requests = Gauge(
            "anomaly_worker_requests",
            "Requests answered by this worker.",
            registry=registry,
            multiprocess_mode="liveall",  # which labels it with the worker's process
        )
        self._seconds_of = {route: seconds.labels(route) for route in (*routes, OTHER_ROUTE)}
        self._requests_of: dict[tuple[str, int], Counter] = {}
        self._noted: list[tuple[str, int, float]] = []
        self._noted_events: list[int] = []

    def use_model(self, identity: str) -> None:
        """Name the model in use."""
        self._model.labels(identity).set(1)

    def note_events(self, n_events: int) -> None:
        """Note the events of one scored request, to be counted by `fold`."""
        self._noted_events.append(n_events)

    def note_request(self, path: str, status: int, seconds: float) -> None:
        """Note one answered request, to be counted by `fold`."""
        self._noted.append((path if path in self._seconds_of else OTHER_ROUTE, status, seconds))
        if len(self._noted) >= NOTED:
            self.fold()

    def fold(self) -> None:
        """Count what was noted, together: a counter that all workers share is slow, whatever is added to it."""
        noted, self._noted = self._noted, []
        events, self._noted_events = self._noted_events, []
        self._worker_requests.inc(len(noted))
        for (route, status), count in Counts((route, status) for route, status, _ in noted).items():
            requests = self._requests_of.get((route, status))
            if requests is None:
                requests = self._requests_of[route, status] = self._requests.labels(route, str(status))
            requests.inc(count)
        for route in {route for route, _, _ in noted}:
            observe(self._seconds_of[route], SECONDS, [seconds for other, _, seconds in noted if other == route])
        if events:
            self._events.inc(sum(events))
            observe(self._batches, EVENTS, events)

    def render(self) -> bytes:
        """Write the numbers, those of all workers together, in Prometheus' text format."""
        self.fold()
        if MULTIPROCESS_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def measure(self, app: ASGIApp) -> ASGIApp:
        """Wrap `app` so that each of its HTTP requests is counted and timed."""

        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            started = perf_counter()
            status = 500

            async def send_and_note(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, send_and_note)
            finally:
                # The router has normalised the path by now: /score/ is /score.
                self.note_request(scope["path"], status, perf_counter() - started)

        return measured


def observe(histogram: Histogram, bounds: Sequence[float], values: Sequence[float]) -> None:
    """Count many values at once, for which prometheus_client has no method."""
    histogram._sum.inc(sum(values))
    for bucket, count in Counts(np.searchsorted(bounds, values).tolist()).items():
        histogram._buckets[bucket].inc(count)

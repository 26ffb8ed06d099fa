"""What the service counts and times for Prometheus: requests, events and durations.

It does not know formats or models. With several workers, prometheus_client keeps every number in files that all of them
read, in the directory that the variable PROMETHEUS_MULTIPROC_DIR names.
"""

import os
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import time

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
OTHER_ROUTE = "other"
"""The route of every request to an unknown path: a label must not take a client's value."""

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MODEL_INFO = "anomaly_model_info"

WORKER_BYTES = 6 * 2**20
"""What `reserve` takes: a mebibyte each for the counters, the histograms and the gauges of each of four modes."""

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
            MODEL_INFO, "1 for the model in use.", ["model"], registry=registry, multiprocess_mode="livemax"
        )
        self._model_identity: str | None = None
        # The least of all workers: a file is in use where it is in all of them.
        self._reloaded = Gauge(
            "anomaly_last_reload_successful",
            "1 if the last look at the file found what is in use, 0 if it was refused.",
            ["file"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._reloaded_at = Gauge(
            "anomaly_last_reload_seconds",
            "Unix time at which the file in use was loaded.",
            ["file"],
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._inflight = {
            what: Gauge(
                f"anomaly_inflight_{what}",
                f"{what.capitalize()} of the requests that are being read or scored.",
                registry=registry,
                multiprocess_mode="livesum",
            )
            for what in ("requests", "events", "bytes")
        }
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
        if self._model_identity is not None:
            self._model.labels(self._model_identity).set(0)
        self._model.labels(identity).set(1)
        self._model_identity = identity

    def note_load(self, file: str) -> None:
        """Note that a file, by its kind, was loaded just now."""
        self._reloaded.labels(file).set(1)
        self._reloaded_at.labels(file).set(time())

    def note_reload(self, file: str, *, successful: bool) -> None:
        """Note whether what is in use is what the last look at a file, by its kind, found there."""
        self._reloaded.labels(file).set(successful)

    def note_events(self, n_events: int) -> None:
        """Note the events of one scored request, to be counted by `fold`."""
        self._noted_events.append(n_events)

    def note_request(self, path: str, status: int, seconds: float) -> None:
        """Note one answered request, to be counted by `fold`."""
        self._noted.append((path if path in self._seconds_of else OTHER_ROUTE, status, seconds))
        if len(self._noted) >= NOTED:
            self.fold()

    def set_inflight(self, n_requests: int, n_events: int, n_bytes: int) -> None:
        """Tell how much work is in flight."""
        for gauge, value in zip(self._inflight.values(), (n_requests, n_events, n_bytes), strict=True):
            gauge.set(value)

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
            return generate_latest(_Current(self._registry))
        return generate_latest(_Current(MultiProcessCollector(None)))  # type: ignore[no-untyped-call]


class _Current(Collector):
    """What another collects, less the models that are not in use any more: a number in a shared file stays there."""

    def __init__(self, source: Collector) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Give the metrics."""
        for metric in self._source.collect():
            if metric.name == MODEL_INFO:
                metric.samples = [sample for sample in metric.samples if sample.value]
            yield metric


def reserve() -> None:
    """Have the disk keep room for the numbers of this process: a later write that found none would end it by SIGBUS.

    Raises OSError where there is no room.
    """
    for path in Path(os.environ[MULTIPROCESS_VARIABLE]).glob(f"*_{os.getpid()}.db"):
        with path.open("r+b") as kept:
            os.posix_fallocate(kept.fileno(), 0, path.stat().st_size)


def observe(histogram: Histogram, bounds: Sequence[float], values: Sequence[float]) -> None:
    """Count many values at once, for which prometheus_client has no method."""
    histogram._sum.inc(sum(values))
    for bucket, count in Counts(np.searchsorted(bounds, values).tolist()).items():
        histogram._buckets[bucket].inc(count)

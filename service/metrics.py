"""Prometheus metrics: requests, events, durations, the model in use and reloads.

With several workers, prometheus_client keeps the values in files that all of them read, in the directory that the
variable PROMETHEUS_MULTIPROC_DIR names.
"""

import os
from collections import Counter as Counts
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from time import time

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
OTHER_ROUTE = "other"
"""The label of every unknown path: labels must not have values from clients."""

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
EVENTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
MODEL_INFO = "anomaly_model_info"

WORKER_BYTES = 6 * 2**20
"""The disk space of `reserve`: a mebibyte each for counters, histograms and the gauges of each of four modes."""

MAX_NOTED = 1000
"""The largest number of noted requests before they are folded into the counters."""


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self, routes: Iterable[str]) -> None:
        """Count requests by route, those to any path that is not in `routes` as OTHER_ROUTE."""
        self._registry = registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self._requests = counter("anomaly_requests", "Requests by route and status.", ["route", "status"])
        seconds = histogram("anomaly_request_seconds", "Duration of a request.", ["route"], buckets=SECONDS)
        self._events = counter("anomaly_events_scored", "Events scored.")
        self._batches = histogram("anomaly_batch_events", "Events in a request.", buckets=EVENTS)
        self._model = gauge(MODEL_INFO, "1 for the model in use.", ["model"], multiprocess_mode="livemax")
        self._model_identity: str | None = None
        # The minimum of all workers: a file is in use once all of them use it.
        per_file = partial(gauge, labelnames=["file"], multiprocess_mode="livemin")
        self._reloaded = per_file(
            "anomaly_last_reload_successful", "1 if the file was accepted at the last check, else 0."
        )
        self._reloaded_at = per_file("anomaly_last_reload_seconds", "Unix time at which the file in use was loaded.")
        self._inflight = [
            gauge(f"anomaly_inflight_{unit}", f"{unit.capitalize()} in flight.", multiprocess_mode="livesum")
            for unit in ("requests", "events", "bytes")
        ]
        # liveall adds a label of the worker's process.
        self._worker_requests = gauge("anomaly_worker_requests", "Requests of one worker.", multiprocess_mode="liveall")
        self._seconds_of = {route: seconds.labels(route) for route in (*routes, OTHER_ROUTE)}
        self._noted: list[tuple[str, int, float]] = []
        self._noted_events: list[int] = []

    def use_model(self, identity: str) -> None:
        """Set the model in use."""
        if self._model_identity is not None:
            self._model.labels(self._model_identity).set(0)
        self._model.labels(identity).set(1)
        self._model_identity = identity

    def note_load(self, file: str) -> None:
        """Note that a file of this kind was loaded now."""
        self._reloaded.labels(file).set(1)
        self._reloaded_at.labels(file).set(time())

    def note_reload(self, file: str, *, successful: bool) -> None:
        """Note whether a file of this kind was accepted when it was last checked."""
        self._reloaded.labels(file).set(successful)

    def note_events(self, n_events: int) -> None:
        """Note the events of one scored request, until `fold` counts them."""
        self._noted_events.append(n_events)

    def note_request(self, path: str, status: int, seconds: float) -> None:
        """Note one request, until `fold` counts it."""
        self._noted.append((path if path in self._seconds_of else OTHER_ROUTE, status, seconds))
        if len(self._noted) >= MAX_NOTED:
            self.fold()

    def set_inflight(self, n_requests: int, n_events: int, n_bytes: int) -> None:
        """Set how much work is in flight."""
        for gauge, value in zip(self._inflight, (n_requests, n_events, n_bytes), strict=True):
            gauge.set(value)

    def fold(self) -> None:
        """Add what was noted to the counters at once: adding to a counter that workers share is slow."""
        noted, self._noted = self._noted, []
        events, self._noted_events = self._noted_events, []
        self._worker_requests.inc(len(noted))
        for (route, status), count in Counts((route, status) for route, status, _ in noted).items():
            self._requests.labels(route, str(status)).inc(count)
        for route in {route for route, _, _ in noted}:
            observe(self._seconds_of[route], SECONDS, [seconds for other, _, seconds in noted if other == route])
        if events:
            self._events.inc(sum(events))
            observe(self._batches, EVENTS, events)

    def render(self) -> bytes:
        """Write the metrics of all workers together in Prometheus' text format."""
        self.fold()
        shared = MULTIPROCESS_VARIABLE in os.environ
        text = generate_latest(MultiProcessCollector(None) if shared else self._registry)  # type: ignore[no-untyped-call]
        # The values of earlier models stay in the shared files.
        lines = text.splitlines(keepends=True)
        return b"".join(
            line for line in lines if not (line.startswith(b"%b{" % MODEL_INFO.encode()) and line.endswith(b" 0.0\n"))
        )


def reserve() -> None:
    """Reserve disk space for the metrics of this process: on a full disk a later write would end it with SIGBUS.

    Raises OSError if there is no space.
    """
    for path in Path(os.environ[MULTIPROCESS_VARIABLE]).glob(f"*_{os.getpid()}.db"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def observe(histogram: Histogram, bounds: Sequence[float], values: Sequence[float]) -> None:
    """Count many values at once, for which prometheus_client has no method."""
    histogram._sum.inc(sum(values))
    for bucket, count in Counts(np.searchsorted(bounds, values).tolist()).items():
        histogram._buckets[bucket].inc(count)

"""Prometheus metrics: requests, events, durations, the model in use and reloads.

Each worker writes the numbers of its own row in memory that all workers share, and any of them reports the rows of all.
A worker that replaces another goes on with the counters of its row.
"""

import fcntl
import mmap
import os
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""

OTHER_ROUTE = "other"
"""The label of every unknown path: labels must not have values from clients."""

SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
EVENTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
SECONDS_LABELS = (*map(str, SECONDS), "+Inf")
EVENTS_LABELS = ("1.0", "10.0", "100.0", "1000.0", "10000.0", "100000.0", "1e+06", "+Inf")
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\""})
"""How a label is written."""

PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
"""What is timed of requests by the Open Inference Protocol: those with scores, those with an error, and their parts."""

WAITED = [PARTS.index("success"), PARTS.index("queue")]
"""What waits count as that no request can time itself."""

FILES = ("keys", "certificate", "model")
IN_FLIGHT = ("requests", "events", "bytes")

MAX_NOTED = 1000
"""The largest number of noted requests before they are folded into the counters."""

MAX_ROUTES: Final = 48
STATUSES: Final = range(100, 600)
ROW: Final = np.dtype(
    [
        # Counters, which the next worker of the row goes on with.
        ("requests", "f8", (MAX_ROUTES, len(STATUSES))),
        ("seconds", "f8", (MAX_ROUTES, len(SECONDS) + 1)),
        ("seconds_sum", "f8", MAX_ROUTES),
        ("batches", "f8", len(EVENTS) + 1),
        ("events", "f8", 1),
        ("log_lines_dropped", "f8", 1),
        ("loop_lag_s", "f8", 1),
        ("loop_lags", "f8", 1),
        ("inferences", "i8", 2),  # with scores, with an error
        ("inference_ns", "i8", len(PARTS)),
        ("inference_events", "i8", 1),
        ("inference_calls", "i8", 1),
        ("last_inference_ms", "i8", 1),
        # Of the worker of this number, if there is one.
        ("pid", "i8", 1),
        ("worker_requests", "f8", 1),
        ("in_flight", "f8", len(IN_FLIGHT)),
        ("reloaded", "f8", len(FILES)),
        ("reloaded_at", "f8", len(FILES)),
        ("model", "S128", 1),
    ]
)
"""The numbers of one worker; what is not known of a file is NaN."""

Rows = NDArray[np.void]


class MetricsError(Exception):
    """The metrics cannot be kept in shared memory: the message names why, and what to do."""


class SharedRow(NamedTuple):
    """The row of one worker in shared memory: the memory's path, and the row's number."""

    path: str
    number: int


class Inference(NamedTuple):
    """A request by the Open Inference Protocol that has ended."""

    succeeded: bool
    n_events: int
    n_calls: int
    """Calls of the runtime, without those that another request has counted."""
    parts_s: tuple[float, ...]
    """Seconds by PARTS."""


class InferenceTotals(NamedTuple):
    """All requests by the Open Inference Protocol, of all workers."""

    n_succeeded: int
    n_failed: int
    n_events: int
    n_calls: int
    last_ms: int
    """When the last one got its scores, in milliseconds since 1970; 0 before the first."""
    parts_ns: list[int]
    """Nanoseconds by PARTS."""


def create_rows(n_workers: int) -> str:
    """Give the path of shared memory for so many workers; raises MetricsError.

    It lies in no directory, where others could remove it, and ends with the processes that have opened it.
    """
    try:
        descriptor = os.memfd_create("anomaly-metrics", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.truncate(descriptor, n_workers * ROW.itemsize)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError as error:
        raise MetricsError(f"no shared memory for {n_workers} workers: {error.strerror}; raise the limits") from error
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def open_rows(path: str) -> Rows:
    """Give the rows (n_workers,) of ROW in shared memory; raises MetricsError."""
    try:
        with Path(path).open("r+b") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0), ROW)
    except OSError as error:
        raise MetricsError(f"{path}: {error.strerror}; raise the limits") from error


class Metrics:
    """The metrics of one application, which are those of all workers where they share rows."""

    def __init__(self, routes: Iterable[str], shared: SharedRow | None = None, served_name: str | None = None) -> None:
        """Count requests by route, those to any path that is not in `routes` as OTHER_ROUTE.

        The model's name in the metrics of the Open Inference Protocol is `served_name`, or its own. Raises MetricsError
        where the shared row cannot be opened.
        """
        self._places = {route: number for number, route in enumerate((*routes, OTHER_ROUTE))}
        self._rows = np.zeros(1, ROW) if shared is None else open_rows(shared.path)
        self._row: Any = self._rows[0 if shared is None else shared.number]
        self._row["worker_requests"] = self._row["in_flight"] = 0
        self._row["reloaded"] = self._row["reloaded_at"] = np.nan
        self._row["model"] = b""
        self._row["pid"] = os.getpid()
        self._shared = shared is not None
        self._noted: list[tuple[str, int, float]] = []
        self._noted_events: list[int] = []
        self._noted_inferences: list[Inference] = []
        self._loop_lag_s = 0.0
        self._served_name = served_name

    def use_model(self, identity: str) -> None:
        """Set the model in use."""
        self._row["model"] = identity.encode()

    def note_load(self, file: str) -> None:
        """Note that a file of this kind was loaded now."""
        self.note_reload(file, successful=True)
        self._row["reloaded_at"][FILES.index(file)] = time()

    def note_reload(self, file: str, *, successful: bool) -> None:
        """Note whether a file of this kind was accepted when it was last checked."""
        self._row["reloaded"][FILES.index(file)] = successful

    def note_events(self, n_events: int) -> None:
        """Note the events of one scored request, until `fold` counts them."""
        self._noted_events.append(n_events)

    def note_request(self, path: str, status: int, seconds: float) -> None:
        """Note one request, until `fold` counts it."""
        self._noted.append((path if path in self._places else OTHER_ROUTE, status, seconds))
        if len(self._noted) >= MAX_NOTED:
            self.fold()

    def note_inference(self, inference: Inference) -> None:
        """Note one request by the Open Inference Protocol, until `fold` counts it."""
        self._noted_inferences.append(inference)
        if len(self._noted_inferences) >= MAX_NOTED:
            self.fold()

    def note_waits(self, seconds: float) -> None:
        """Note for how long requests by the Open Inference Protocol have waited in all before they were seen."""
        self._row["inference_ns"][WAITED] += int(seconds * 1e9)

    def note_loop_lag(self, seconds: float) -> None:
        """Note by how much the event loop was late for a timer."""
        self._loop_lag_s = seconds
        self._row["loop_lag_s"] += seconds
        self._row["loop_lags"] += 1

    def set_inflight(self, n_requests: int, n_events: int, n_bytes: int) -> None:
        """Set how much work is in flight."""
        self._row["in_flight"][:] = n_requests, n_events, n_bytes

    def note_dropped_log_lines(self, n_lines: int) -> None:
        """Count lines of the log that were dropped."""
        self._row["log_lines_dropped"] += n_lines

    def fold(self) -> None:
        """Add what was noted to the counters at once."""
        noted, self._noted = self._noted, []
        events, self._noted_events = self._noted_events, []
        row = self._row
        row["worker_requests"] += len(noted)
        for (route, status), count in Counts((route, status) for route, status, _ in noted).items():
            row["requests"][self._places[route], STATUSES.index(status)] += count
        for route in {route for route, _, _ in noted}:
            seconds = [taken for other, _, taken in noted if other == route]
            row["seconds"][self._places[route]] += _counts(SECONDS, seconds)
            row["seconds_sum"][self._places[route]] += sum(seconds)
        if events:
            row["batches"] += _counts(EVENTS, events)
            row["events"] += sum(events)
        self._fold_inferences()

    def _fold_inferences(self) -> None:
        noted, self._noted_inferences = self._noted_inferences, []
        if not noted:
            return
        row, succeeded = self._row, [one for one in noted if one.succeeded]
        row["inferences"] += len(succeeded), len(noted) - len(succeeded)
        row["inference_ns"] += (np.array([one.parts_s for one in noted]).sum(axis=0) * 1e9).astype(np.int64)
        row["inference_events"] += sum(one.n_events for one in succeeded)
        row["inference_calls"] += sum(one.n_calls for one in succeeded)
        # Before the first byte of a request is read, it waits for the event loop, on average as long as a timer.
        self.note_waits(len(succeeded) * self._loop_lag_s)
        if succeeded:
            row["last_inference_ms"] = int(time() * 1000)

    def inferences(self) -> InferenceTotals:
        """Add up the requests by the Open Inference Protocol that all workers have counted."""
        self.fold()
        rows = self._rows
        n_succeeded, n_failed = rows["inferences"].sum(axis=0).tolist()
        n_events, n_calls = int(rows["inference_events"].sum()), int(rows["inference_calls"].sum())
        parts_ns = rows["inference_ns"].sum(axis=0).tolist()
        return InferenceTotals(n_succeeded, n_failed, n_events, n_calls, int(rows["last_inference_ms"].max()), parts_ns)

    def render(self) -> bytes:
        """Write the metrics of all workers together in Prometheus' text format.

        prometheus_client would take ten times as long, in which nothing is scored.
        """
        self.fold()
        living = self._rows[self._rows["pid"][:, 0] != 0]
        return "".join([*self._counters(), *self._gauges(living), *self._inference_metrics()]).encode()

    def _counters(self) -> Iterator[str]:
        """Add up what all workers have counted, those that have died too."""
        rows, routes = self._rows, list(self._places)
        requests = rows["requests"].sum(axis=0)
        counts = {
            f'{{route="{routes[place]}",status="{STATUSES[status]}"}}': requests[place, status]
            for place, status in np.argwhere(requests)
        }
        yield _family("anomaly_requests_total", "counter", "Requests by route and status.", counts)
        buckets, sums = rows["seconds"].sum(axis=0).cumsum(axis=1).tolist(), rows["seconds_sum"].sum(axis=0)
        durations: dict[str, float] = {}
        for route, counts_up_to, total in zip(routes, buckets, sums, strict=False):
            durations |= _histogram(SECONDS_LABELS, counts_up_to, total, f'route="{route}"')
        yield _family("anomaly_request_seconds", "histogram", "Duration of a request.", durations)
        events = rows["events"].sum()
        yield _family("anomaly_events_scored_total", "counter", "Events scored.", {"": events})
        dropped = {"": rows["log_lines_dropped"].sum()}
        yield _family("anomaly_log_lines_dropped_total", "counter", "Lines of the log that nothing read.", dropped)
        lags = {"_sum": rows["loop_lag_s"].sum(), "_count": rows["loop_lags"].sum()}
        yield _family("anomaly_loop_lag_seconds", "summary", "By how much the event loop was late for a timer.", lags)
        batches = _histogram(EVENTS_LABELS, rows["batches"].sum(axis=0).cumsum().tolist(), events)
        yield _family("anomaly_batch_events", "histogram", "Events in a request.", batches)

    def _gauges(self, rows: Rows) -> Iterator[str]:
        """Describe the workers that there are."""
        names = [identity.decode().translate(ESCAPES) for identity in np.unique(rows["model"]) if identity]
        models = {f'{{model="{name}"}}': 1.0 for name in names}
        yield _family("anomaly_model_info", "gauge", "1 for the model in use.", models)
        # The minimum of all workers: a file is in use once all of them use it.
        for column, name, meaning in (
            ("reloaded", "anomaly_last_reload_successful", "1 if the file was accepted at the last check, else 0."),
            ("reloaded_at", "anomaly_last_reload_seconds", "Unix time at which the file in use was loaded."),
        ):
            by_file = zip(FILES, rows[column].T, strict=True)
            files = {f'{{file="{file}"}}': np.nanmin(one) for file, one in by_file if not np.isnan(one).all()}
            yield _family(name, "gauge", meaning, files)
        for unit, value in zip(IN_FLIGHT, rows["in_flight"].sum(axis=0), strict=True):
            yield _family(f"anomaly_inflight_{unit}", "gauge", f"{unit.capitalize()} in flight.", {"": value})
        shared = self._shared
        counts = {f'{{pid="{one["pid"][0]}"}}' if shared else "": one["worker_requests"][0] for one in rows}
        yield _family("anomaly_worker_requests", "gauge", "Requests of one worker.", counts)

    def _inference_metrics(self) -> Iterator[str]:
        """Report requests by the Open Inference Protocol under the names that Triton's dashboards query."""
        name = self._served_name or bytes(self._row["model"][0]).decode().rpartition("@")[0]
        if not name:  # there is no model yet
            return
        totals, labels = self.inferences(), f'{{model="{name.translate(ESCAPES)}",version="1"}}'
        us = {part: ns / 1000 for part, ns in zip(PARTS, totals.parts_ns, strict=True)}
        pending = self._rows["in_flight"].sum(axis=0)[IN_FLIGHT.index("requests")]
        for metric, kind, meaning, value in (
            ("request_success", "counter", "Requests with scores.", totals.n_succeeded),
            ("request_failure", "counter", "Requests with an error.", totals.n_failed),
            ("count", "counter", "Events scored.", totals.n_events),
            ("exec_count", "counter", "Calls of the runtime.", totals.n_calls),
            ("pending_request_count", "gauge", "Requests in flight.", pending),
            ("request_duration_us", "counter", "Duration of the requests with scores.", us["success"]),
            ("queue_duration_us", "counter", "Until the first event is read.", us["queue"]),
            ("compute_input_duration_us", "counter", "Reading events.", us["compute_input"]),
            ("compute_infer_duration_us", "counter", "Scoring, with waits for turns.", us["compute_infer"]),
            ("compute_output_duration_us", "counter", "Writing responses.", us["compute_output"]),
        ):
            yield _family(f"nv_inference_{metric}", kind, meaning, {labels: value})


def _family(name: str, kind: str, meaning: str, samples: Mapping[str, float]) -> str:
    """Write a metric, whose samples are by what follows the name."""
    lines = [f"{name}{labels} {float(value)!r}\n" for labels, value in samples.items()]
    return f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n{''.join(lines)}"


def _histogram(bounds: Sequence[str], counts_up_to: Sequence[float], total: float, label: str = "") -> dict[str, float]:
    """Give the samples of a histogram."""
    more, alone = (f",{label}", f"{{{label}}}") if label else ("", "")
    buckets = {f'_bucket{{le="{bound}"{more}}}': n for bound, n in zip(bounds, counts_up_to, strict=True)}
    return {**buckets, f"_count{alone}": counts_up_to[-1], f"_sum{alone}": total}


def _counts(bounds: Sequence[float], values: Sequence[float]) -> NDArray[np.intp]:
    """Count the values up to each bound, and those beyond."""
    return np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)

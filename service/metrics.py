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

from service.processes import usage

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

MAX_COUNTED_POINTS: Final = 32
"""Of how many working points of a model accepted events are counted."""

MAX_BINS: Final = 2**16
"""How many bins the reference histograms of a model may have in all; memory of those that are not used is not taken."""

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
        ("starts", "f8", 1),
        ("loop_lag_s", "f8", 1),
        ("loop_lags", "f8", 1),
        ("inferences", "i8", 2),  # with scores, with an error
        ("inference_ns", "i8", len(PARTS)),
        ("inference_events", "i8", 1),
        ("inference_calls", "i8", 1),
        ("last_inference_ms", "i8", 1),
        # Counters of the events of one model, begun anew by another one; a sample of them in the bins of its reference.
        ("counted_model", "S128", 1),
        ("model_events", "i8", 1),
        ("accepted", "i8", MAX_COUNTED_POINTS),
        ("sampled_events", "i8", 1),
        ("sampled_score", "f8", 1),
        ("bins", "i8", MAX_BINS),
        # Of the worker of this number, if there is one.
        ("pid", "i8", 1),
        ("worker_requests", "f8", 1),
        ("in_flight", "f8", len(IN_FLIGHT)),
        ("connections", "f8", 1),
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
        self.rows = np.zeros(1, ROW) if shared is None else open_rows(shared.path)
        """Those of all workers."""
        self.row: Any = self.rows[0 if shared is None else shared.number]
        """That of this worker."""
        self.row["worker_requests"] = self.row["in_flight"] = 0
        self.row["reloaded"] = self.row["reloaded_at"] = np.nan
        self.row["model"] = b""
        self.row["pid"] = os.getpid()
        self.row["starts"] += 1
        self.row["connections"] = 0
        self._shared = shared is not None
        self._noted: list[tuple[str, int, float]] = []
        self._noted_events: list[int] = []
        self._noted_inferences: list[Inference] = []
        self._loop_lag_s = 0.0
        self._served_name = served_name

    @property
    def routes(self) -> list[str]:
        """The routes that requests are counted by."""
        return list(self._places)

    def use_model(self, identity: str) -> None:
        """Set the model in use."""
        self.row["model"] = identity.encode()

    def note_load(self, file: str) -> None:
        """Note that a file of this kind was loaded now."""
        self.note_reload(file, successful=True)
        self.row["reloaded_at"][FILES.index(file)] = time()

    def note_reload(self, file: str, *, successful: bool) -> None:
        """Note whether a file of this kind was accepted when it was last checked."""
        self.row["reloaded"][FILES.index(file)] = successful

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
        self.row["inference_ns"][WAITED] += int(seconds * 1e9)

    def note_loop_lag(self, seconds: float) -> None:
        """Note by how much the event loop was late for a timer."""
        self._loop_lag_s = seconds
        self.row["loop_lag_s"] += seconds
        self.row["loop_lags"] += 1

    def set_inflight(self, n_requests: int, n_events: int, n_bytes: int) -> None:
        """Set how much work is in flight."""
        self.row["in_flight"][:] = n_requests, n_events, n_bytes

    def set_connections(self, n_connections: int) -> None:
        """Set how many connections there are."""
        self.row["connections"] = n_connections

    def note_dropped_log_lines(self, n_lines: int) -> None:
        """Count lines of the log that were dropped."""
        self.row["log_lines_dropped"] += n_lines

    def fold(self) -> None:
        """Add what was noted to the counters at once."""
        noted, self._noted = self._noted, []
        events, self._noted_events = self._noted_events, []
        row = self.row
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
        row, succeeded = self.row, [one for one in noted if one.succeeded]
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
        rows = self.rows
        n_succeeded, n_failed = rows["inferences"].sum(axis=0).tolist()
        n_events, n_calls = int(rows["inference_events"].sum()), int(rows["inference_calls"].sum())
        parts_ns = rows["inference_ns"].sum(axis=0).tolist()
        return InferenceTotals(n_succeeded, n_failed, n_events, n_calls, int(rows["last_inference_ms"].max()), parts_ns)

    def render(self) -> bytes:
        """Write the metrics of all workers together in Prometheus' text format.

        prometheus_client would take ten times as long, in which nothing is scored.
        """
        self.fold()
        return "".join([*self._counters(), *self._gauges(), *self._inference_metrics()]).encode()

    def _counters(self) -> Iterator[str]:
        """Add up what all workers have counted, those that have died too."""
        rows, routes = self.rows, self.routes
        requests = rows["requests"].sum(axis=0)
        counts = {
            f'{{route="{routes[place]}",status="{STATUSES[status]}"}}': requests[place, status]
            for place, status in np.argwhere(requests)
        }
        yield family("anomaly_requests_total", "counter", "Requests by route and status.", counts)
        buckets, sums = rows["seconds"].sum(axis=0).cumsum(axis=1).tolist(), rows["seconds_sum"].sum(axis=0)
        durations: dict[str, float] = {}
        for route, counts_up_to, total in zip(routes, buckets, sums, strict=False):
            durations |= histogram(SECONDS_LABELS, counts_up_to, total, f'route="{route}"')
        yield family("anomaly_request_seconds", "histogram", "Duration of a request.", durations)
        events = rows["events"].sum()
        yield family("anomaly_events_scored_total", "counter", "Events scored.", {"": events})
        dropped = {"": rows["log_lines_dropped"].sum()}
        yield family("anomaly_log_lines_dropped_total", "counter", "Lines of the log that nothing read.", dropped)
        lags = {"_sum": rows["loop_lag_s"].sum(), "_count": rows["loop_lags"].sum()}
        yield family("anomaly_loop_lag_seconds", "summary", "By how much the event loop was late for a timer.", lags)
        batches = histogram(EVENTS_LABELS, rows["batches"].sum(axis=0).cumsum().tolist(), events)
        yield family("anomaly_batch_events", "histogram", "Events in a request.", batches)

    def _gauges(self) -> Iterator[str]:
        """Describe the workers that there are."""
        rows, living = self.rows, self.rows["pid"][:, 0] != 0
        names = [identity.decode().translate(ESCAPES) for identity in np.unique(rows["model"][living]) if identity]
        models = {f'{{model="{name}"}}': 1.0 for name in names}
        yield family("anomaly_model_info", "gauge", "1 for the model in use.", models)
        # The minimum of all workers: a file is in use once all of them use it.
        for column, name, meaning in (
            ("reloaded", "anomaly_last_reload_successful", "1 if the file was accepted at the last check, else 0."),
            ("reloaded_at", "anomaly_last_reload_seconds", "Unix time at which the file in use was loaded."),
        ):
            by_file = zip(FILES, rows[column][living].T, strict=True)
            files = {f'{{file="{file}"}}': np.nanmin(one) for file, one in by_file if not np.isnan(one).all()}
            yield family(name, "gauge", meaning, files)
        for unit, value in zip(IN_FLIGHT, rows["in_flight"][living].sum(axis=0), strict=True):
            yield family(f"anomaly_inflight_{unit}", "gauge", f"{unit.capitalize()} in flight.", {"": value})
        connections = {"": rows["connections"][living].sum()}
        yield family("anomaly_connections", "gauge", "Connections over HTTP.", connections)
        starts = {"": rows["starts"].sum()}
        yield family("anomaly_worker_starts_total", "counter", "Workers started, those after a death too.", starts)
        yield from self._processes(rows["pid"][living][:, 0].tolist())
        workers = zip(rows["pid"][living][:, 0], rows["worker_requests"][living][:, 0], strict=True)
        counts = {f'{{pid="{pid}"}}' if self._shared else "": n_requests for pid, n_requests in workers}
        yield family("anomaly_worker_requests", "gauge", "Requests of one worker.", counts)

    def _processes(self, pids: Sequence[int]) -> Iterator[str]:
        """Describe the processes of the workers by the usual names."""
        found = {pid: taken for pid in pids if (taken := usage(pid)) is not None}
        for name, kind, meaning, values in (
            ("cpu_seconds_total", "counter", "Processor time.", {pid: one.cpu_s for pid, one in found.items()}),
            ("resident_memory_bytes", "gauge", "Memory.", {pid: one.resident_bytes for pid, one in found.items()}),
            ("start_time_seconds", "gauge", "Unix time.", {pid: one.started_at_s for pid, one in found.items()}),
        ):
            samples = {f'{{pid="{pid}"}}' if self._shared else "": value for pid, value in values.items()}
            yield family(f"process_{name}", kind, meaning, samples)

    def _inference_metrics(self) -> Iterator[str]:
        """Report requests by the Open Inference Protocol under the names that Triton's dashboards query."""
        name = self._served_name or bytes(self.row["model"][0]).decode().rpartition("@")[0]
        if not name:  # there is no model yet
            return
        totals, labels = self.inferences(), f'{{model="{name.translate(ESCAPES)}",version="1"}}'
        us = {part: ns / 1000 for part, ns in zip(PARTS, totals.parts_ns, strict=True)}
        pending = self.rows["in_flight"].sum(axis=0)[IN_FLIGHT.index("requests")]
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
            yield family(f"nv_inference_{metric}", kind, meaning, {labels: value})


def family(name: str, kind: str, meaning: str, samples: Mapping[str, float]) -> str:
    """Write a metric, whose samples are by what follows the name."""
    lines = [f"{name}{labels} {float(value)!r}\n" for labels, value in samples.items()]
    return f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n{''.join(lines)}"


def histogram(bounds: Sequence[str], counts_up_to: Sequence[float], total: float, label: str = "") -> dict[str, float]:
    """Give the samples of a histogram."""
    more, alone = (f",{label}", f"{{{label}}}") if label else ("", "")
    buckets = {f'_bucket{{le="{bound}"{more}}}': n for bound, n in zip(bounds, counts_up_to, strict=True)}
    return {**buckets, f"_count{alone}": counts_up_to[-1], f"_sum{alone}": total}


def _counts(bounds: Sequence[float], values: Sequence[float]) -> NDArray[np.intp]:
    """Count the values up to each bound, and those beyond."""
    return np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)

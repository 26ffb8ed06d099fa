"""The metrics of all workers in Prometheus' text format."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from service.metrics.counters import Metrics
from service.metrics.rows import FILES, IN_FLIGHT, PARTS, SECONDS, STATUSES
from service.processes import usage

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""

SECONDS_LABELS = (*map(str, SECONDS), "+Inf")
EVENTS_LABELS = ("1.0", "10.0", "100.0", "1000.0", "10000.0", "100000.0", "1e+06", "+Inf")
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\""})
"""Escapes in the values of labels."""


def render(metrics: Metrics) -> bytes:
    """Write the metrics of all workers together in Prometheus' text format.

    prometheus_client would take ten times as long, and block scoring meanwhile.
    """
    metrics.fold()
    return "".join([*_counters(metrics), *_gauges(metrics), *_inferences(metrics)]).encode()


def _counters(metrics: Metrics) -> Iterator[str]:
    """Write the sums of the counters of all workers, including dead ones."""
    rows, routes = metrics.rows, metrics.routes
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


def _gauges(metrics: Metrics) -> Iterator[str]:
    """Write the metrics of the living workers."""
    rows, living = metrics.rows, metrics.rows["pid"][:, 0] != 0
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
    pids = rows["pid"][living][:, 0].tolist()
    labels = {pid: f'{{pid="{pid}"}}' if metrics.shared else "" for pid in pids}
    yield from _processes(labels)
    n_requests = rows["worker_requests"][living][:, 0].tolist()
    counts = {labels[pid]: n for pid, n in zip(pids, n_requests, strict=True)}
    yield family("anomaly_worker_requests", "gauge", "Requests of one worker.", counts)


def _processes(labels: Mapping[int, str]) -> Iterator[str]:
    """Write the metrics of the workers' processes under the usual names, with their process ids as labels."""
    found = {pid: taken for pid in labels if (taken := usage(pid)) is not None}
    for name, kind, meaning, values in (
        ("cpu_seconds_total", "counter", "Processor time.", {pid: one.cpu_s for pid, one in found.items()}),
        ("resident_memory_bytes", "gauge", "Memory.", {pid: one.resident_bytes for pid, one in found.items()}),
        ("start_time_seconds", "gauge", "Unix time.", {pid: one.started_at_s for pid, one in found.items()}),
    ):
        yield family(f"process_{name}", kind, meaning, {labels[pid]: value for pid, value in values.items()})


def _inferences(metrics: Metrics) -> Iterator[str]:
    """Write the metrics of requests by the Open Inference Protocol under Triton's names, which its dashboards query."""
    name = metrics.served_name or bytes(metrics.row["model"][0]).decode().rpartition("@")[0]
    if not name:  # there is no model yet
        return
    totals, labels = metrics.inferences(), f'{{model="{name.translate(ESCAPES)}",version="1"}}'
    us = {part: ns / 1000 for part, ns in zip(PARTS, totals.parts_ns, strict=True)}
    pending = metrics.rows["in_flight"].sum(axis=0)[IN_FLIGHT.index("requests")]
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
    """Write a metric from its samples, by the text that follows the name."""
    lines = [f"{name}{labels} {float(value)!r}\n" for labels, value in samples.items()]
    return f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n{''.join(lines)}"


def histogram(bounds: Sequence[str], counts_up_to: Sequence[float], total: float, label: str = "") -> dict[str, float]:
    """Format the samples of a histogram."""
    more, alone = (f",{label}", f"{{{label}}}") if label else ("", "")
    buckets = {f'_bucket{{le="{bound}"{more}}}': n for bound, n in zip(bounds, counts_up_to, strict=True)}
    return {**buckets, f"_count{alone}": counts_up_to[-1], f"_sum{alone}": total}

"""The activity of all workers: their shared rows, summed for the live page."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.metrics.counters import Metrics
from service.metrics.rows import FILES, IN_FLIGHT, STATUSES, Rows


class Route(msgspec.Struct, frozen=True):
    """The requests to one route."""

    route: str
    statuses: dict[int, int]
    """Requests by status."""
    durations: list[int]
    """Requests by duration: up to each bound of SECONDS, and above the last."""


class Worker(msgspec.Struct, frozen=True):
    """A worker that serves."""

    pid: int
    requests: int
    model: str


class File(msgspec.Struct, frozen=True):
    """A file that can be reloaded."""

    accepted: bool
    """Whether it was accepted at the last check."""
    loaded_at_s: float | None
    """The time at which the file in use was loaded, in seconds since 1970."""


class Activity(msgspec.Struct, frozen=True):
    """The activity of all workers."""

    events: int
    routes: list[Route]
    """Those with requests."""
    in_flight: dict[str, int]
    """Requests, events and bytes."""
    loop_lag_s: float
    """The sum of `loop_lags` delays of event loops."""
    loop_lags: int
    workers: list[Worker]
    rows: int
    """The configured number of workers."""
    files: dict[str, File]


def add_up(metrics: Metrics) -> Activity:
    """Sum the counts of all workers, and describe the living ones."""
    metrics.fold()
    rows, living = metrics.rows, metrics.rows["pid"][:, 0] != 0
    requests = rows["requests"].sum(axis=0).astype(int)
    durations = rows["seconds"].sum(axis=0).astype(int).tolist()
    routes = [
        Route(route, {STATUSES[place]: int(counts[place]) for place in np.flatnonzero(counts)}, of_route)
        for route, counts, of_route in zip(metrics.routes, requests, durations, strict=False)
        if counts.any()
    ]
    columns = [rows[name][living][:, 0].tolist() for name in ("pid", "worker_requests", "model")]
    return Activity(
        events=int(rows["events"].sum()),
        routes=routes,
        in_flight=dict(zip(IN_FLIGHT, rows["in_flight"][living].sum(axis=0).astype(int).tolist(), strict=True)),
        loop_lag_s=float(rows["loop_lag_s"].sum()),
        loop_lags=int(rows["loop_lags"].sum()),
        workers=[Worker(pid, int(n), model.decode()) for pid, n, model in zip(*columns, strict=True)],
        rows=len(rows),
        files={file: found for place, file in enumerate(FILES) if (found := _file(rows, living, place)) is not None},
    )


def _file(rows: Rows, living: NDArray[np.bool_], place: int) -> File | None:
    """Describe a file, which is in use once all workers use it; None if the settings name no such file."""
    accepted, loaded_at = (rows[column][living][:, place] for column in ("reloaded", "reloaded_at"))
    if np.isnan(accepted).all():
        return None
    return File(bool(np.nanmin(accepted)), None if np.isnan(loaded_at).all() else float(np.nanmin(loaded_at)))

"""The counters of a worker: requests, events, durations, the model in use and reloads."""

import os
from collections import Counter as Counts
from collections.abc import Iterable, Sequence
from time import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.metrics.rows import EVENTS, FILES, PARTS, ROW, SECONDS, STATUSES, SharedRow, open_rows

OTHER_ROUTE = "other"
"""The label of every unknown path: label values must not come from clients."""

WAITED = [PARTS.index("success"), PARTS.index("queue")]
"""The parts that include waits before a request is seen, which it cannot time itself."""

MAX_NOTED = 1000
"""Maximum number of noted requests before they are folded into the counters."""


class Inference(NamedTuple):
    """A request by the Open Inference Protocol that has ended."""

    succeeded: bool
    n_events: int
    n_calls: int
    """Calls of the runtime, except those that another request has counted."""
    parts_s: tuple[float, ...]
    """Seconds by PARTS."""


class InferenceTotals(NamedTuple):
    """All requests by the Open Inference Protocol, of all workers."""

    n_succeeded: int
    n_failed: int
    n_events: int
    n_calls: int
    last_ms: int
    """The time of the last successful one, in milliseconds since 1970; 0 before the first."""
    parts_ns: list[int]
    """Nanoseconds by PARTS."""


class Metrics:
    """The metrics of one application, or of all workers that share rows."""

    def __init__(self, routes: Iterable[str], shared: SharedRow | None = None, served_name: str | None = None) -> None:
        """Count requests by route, those to any path that is not in `routes` as OTHER_ROUTE.

        The model's name in the metrics of the Open Inference Protocol is `served_name`, or its own. Raises MetricsError
        where the shared row cannot be opened.
        """
        self._places = {route: number for number, route in enumerate((*routes, OTHER_ROUTE))}
        self.rows = np.zeros(1, ROW) if shared is None else open_rows(shared.path)
        """The rows of all workers."""
        self.row: Any = self.rows[0 if shared is None else shared.number]
        """The row of this worker."""
        self.row["worker_requests"] = self.row["in_flight"] = 0
        self.row["reloaded"] = self.row["reloaded_at"] = np.nan
        self.row["model"] = b""
        self.row["pid"] = os.getpid()
        self.row["starts"] += 1
        self.row["connections"] = 0
        self.shared = shared is not None
        """Whether other workers have rows too."""
        self._noted: list[tuple[str, int, float]] = []
        self._noted_events: list[int] = []
        self._noted_inferences: list[Inference] = []
        self._loop_lag_s = 0.0
        self.served_name = served_name

    @property
    def routes(self) -> list[str]:
        """The routes that requests are counted by."""
        return list(self._places)

    def use_model(self, identity: str) -> None:
        """Set the model in use."""
        self.row["model"] = identity.encode()

    def note_load(self, file: str) -> None:
        """Note that a file of this kind was just loaded."""
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
        """Note the total seconds that requests by the Open Inference Protocol have waited before they were seen."""
        self.row["inference_ns"][WAITED] += int(seconds * 1e9)

    def note_loop_lag(self, seconds: float) -> None:
        """Note the delay of a timer by the event loop."""
        self._loop_lag_s = seconds
        self.row["loop_lag_s"] += seconds
        self.row["loop_lags"] += 1

    def set_inflight(self, n_requests: int, n_events: int, n_bytes: int) -> None:
        """Set the amount of work in flight."""
        self.row["in_flight"][:] = n_requests, n_events, n_bytes

    def set_connections(self, n_connections: int) -> None:
        """Set the number of connections."""
        self.row["connections"] = n_connections

    def note_dropped_log_lines(self, n_lines: int) -> None:
        """Count dropped lines of the log."""
        self.row["log_lines_dropped"] += n_lines

    def fold(self) -> None:
        """Add all noted requests to the counters."""
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
        # Before its first byte is read, a request waits for the event loop, on average as long as a timer.
        self.note_waits(len(succeeded) * self._loop_lag_s)
        if succeeded:
            row["last_inference_ms"] = int(time() * 1000)

    def inferences(self) -> InferenceTotals:
        """Sum the requests by the Open Inference Protocol over all workers."""
        self.fold()
        rows = self.rows
        n_succeeded, n_failed = rows["inferences"].sum(axis=0).tolist()
        n_events, n_calls = int(rows["inference_events"].sum()), int(rows["inference_calls"].sum())
        parts_ns = rows["inference_ns"].sum(axis=0).tolist()
        return InferenceTotals(n_succeeded, n_failed, n_events, n_calls, int(rows["last_inference_ms"].max()), parts_ns)


def _counts(bounds: Sequence[float], values: Sequence[float]) -> NDArray[np.intp]:
    """Count the values up to each bound, and those beyond."""
    return np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)

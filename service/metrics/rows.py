"""The metrics of all workers in shared memory, one row each.

Each worker writes its own row, and reads the rows of all. A worker that replaces another continues the counters of its
row.
"""

import fcntl
import mmap
import os
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

SECONDS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
EVENTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
"""The timed parts of requests by the Open Inference Protocol: totals with scores and with an error, and four phases."""

FILES = ("keys", "certificate", "model")
IN_FLIGHT = ("requests", "events", "bytes")

MAX_COUNTED_POINTS: Final = 32
"""Maximum number of working points of a model with counts of accepted events."""

MAX_BINS: Final = 2**16
"""Maximum number of bins of all reference histograms of a model; unused ones take no memory."""

MAX_ROUTES: Final = 48
STATUSES: Final = range(100, 600)
ROW: Final = np.dtype(
    [
        # Counters, which the next worker of the row continues.
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
        # Counters of the events of one model, reset for another one; a sample of them in the bins of its reference.
        ("counted_model", "S128", 1),
        ("model_events", "i8", 1),
        ("accepted", "i8", MAX_COUNTED_POINTS),
        ("sampled_events", "i8", 1),
        ("sampled_score", "f8", 1),
        ("bins", "i8", MAX_BINS),
        # Values of the worker of this number, if there is one.
        ("pid", "i8", 1),
        ("worker_requests", "f8", 1),
        ("in_flight", "f8", len(IN_FLIGHT)),
        ("connections", "f8", 1),
        ("reloaded", "f8", len(FILES)),
        ("reloaded_at", "f8", len(FILES)),
        ("model", "S128", 1),
    ]
)
"""The metrics of one worker; unknown values of a file are NaN."""

Rows = NDArray[np.void]


class MetricsError(Exception):
    """The metrics cannot be kept in shared memory; the message names the reason and the remedy."""


class SharedRow(NamedTuple):
    """The row of one worker in shared memory: the memory's path, and the row's number."""

    path: str
    number: int


def create_rows(n_workers: int) -> str:
    """Create shared memory for `n_workers` and return its path; raises MetricsError.

    It is in no directory, where others could remove it, and is freed with the processes that have opened it.
    """
    try:
        descriptor = os.memfd_create("anomaly-metrics", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.truncate(descriptor, n_workers * ROW.itemsize)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError as error:
        raise MetricsError(f"no shared memory for {n_workers} workers: {error.strerror}; raise the limits") from error
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def open_rows(path: str) -> Rows:
    """Open the rows (n_workers,) of ROW in shared memory; raises MetricsError."""
    try:
        with Path(path).open("r+b") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0), ROW)
    except OSError as error:
        raise MetricsError(f"{path}: {error.strerror}; raise the limits") from error

"""The numbers of each worker in memory that all workers share.

Each worker writes its own row, and any of them reads the rows of all. A worker that replaces another goes on with the
counters of its row.
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
"""What is timed of requests by the Open Inference Protocol: those with scores, those with an error, and their parts."""

FILES = ("keys", "certificate", "model")
IN_FLIGHT = ("requests", "events", "bytes")

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


def create_rows(n_workers: int) -> str:
    """Return the path of shared memory for so many workers; raises MetricsError.

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
    """Return the rows (n_workers,) of ROW in shared memory; raises MetricsError."""
    try:
        with Path(path).open("r+b") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0), ROW)
    except OSError as error:
        raise MetricsError(f"{path}: {error.strerror}; raise the limits") from error

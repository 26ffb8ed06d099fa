"""The result of a call."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class Counts:
    """The statistics of a call."""

    requests: int = 0
    """Sent requests, including retries."""
    retries: int = 0
    """Requests among them that were repeated after a failure or a score by another model."""
    rescored: int = 0
    """Events that were scored again because the servers had replaced their model."""
    local: int = 0
    """Events that the fallback scored in this process."""


@dataclass(frozen=True, eq=False)
class WorkingPoint:
    """A named threshold, and which events are above it."""

    name: str
    threshold: float
    accepted: NDArray[np.bool_]  # (n,)


@dataclass(frozen=True, eq=False)
class Result:
    """The anomaly scores of all events of a call, in their order, by one model."""

    scores: NDArray[np.float32]  # (n,)
    model: str
    """The model's identity: its name and the first 12 digits of its SHA-256."""
    working_point: WorkingPoint | None
    counts: Counts


@dataclass(frozen=True, eq=False)
class Reply:
    """The scores of one part of the events."""

    scores: NDArray[np.float32]  # (n,)
    model: str
    threshold: float | None
    """The threshold of the working point; None without one."""

"""What every peer offers, and the questions of our own service, which most of them can be asked too.

Only NumPy is imported, for a peer's own environment has little more.
"""

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
N_FEATURES = 14
Score = Callable[[Floats], Floats]
"""Events (n, features) to anomaly scores (n,)."""


class Question(NamedTuple):
    """A POST, and how the scores (n,) are read out of the body of its response."""

    path: str
    headers: dict[str, str]
    body: bytes
    read: Callable[[bytes], Floats]


class Peer(Protocol):
    """A way to serve the graph; a module of this package is one."""

    NAME: str
    PACKAGES: tuple[str, ...]
    """What pip installs for it, pinned."""
    PYTHON: str
    """The interpreter of its environment."""
    NOTES: str
    """How it is configured, and what its protocol does not allow: a sentence or two for the reader of the table."""

    def serve(self, model: str, port: int) -> None:
        """Serve the graph at the path `model` on 127.0.0.1 until SIGTERM, with one worker."""

    def single(self, event: Floats) -> Question:
        """Ask for the score of one event (features,) in JSON."""

    def json_batch(self, events: Floats) -> Question:
        """Ask for the scores of `events` (n, features) in JSON."""

    def binary_batch(self, events: Floats) -> Question | None:
        """Ask for the scores of `events` (n, features) in the fastest binary format there is, or None without one."""


def peer_module(name: str) -> Peer:
    """Import the peer of that name."""
    return cast(Peer, cast(Any, import_module(f"benchmarks.peers.{name}")))


def single(event: Floats) -> Question:
    """Ask for the score of one event (features,) in JSON, as our service is asked."""
    return Question("/score", JSON, json.dumps({"features": event.tolist()}).encode(), read_score)


def json_batch(events: Floats) -> Question:
    """Ask for the scores of `events` (n, features) in JSON, as our service is asked."""
    return Question("/score/batch", JSON, json.dumps({"events": events.tolist()}).encode(), read_scores)


def raw_batch(events: Floats, path: str = "/score/raw") -> Question:
    """Ask for the scores of `events` (n, features) as float32 rows, of which nothing but the octets is sent."""
    return Question(path, OCTETS, events.astype("<f4").tobytes(), read_raw)


JSON = {"Content-Type": "application/json"}
OCTETS = {"Content-Type": "application/octet-stream"}


def read_score(response: bytes) -> Floats:
    """Read `{"anomaly_score": x}` as (1,)."""
    return np.array([json.loads(response)["anomaly_score"]], np.float32)


def read_scores(response: bytes) -> Floats:
    """Read `{"anomaly_scores": [...]}` as (n,)."""
    return np.array(json.loads(response)["anomaly_scores"], np.float32)


def read_raw(response: bytes) -> Floats:
    """Read little-endian float32 as (n,)."""
    return np.frombuffer(response, "<f4")

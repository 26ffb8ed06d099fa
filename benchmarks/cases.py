"""What is asked of the servers: the requests, on how many connections, and the scores that must come back.

It does not know how load is made, or what is measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.bodies import JSON, MSGPACK, MSGPACK_BINARY, RAW, Format
from benchmarks.client import Client, Reply
from service.model.artefact import GOLDEN_ATOL, GOLDEN_RTOL
from service.model.scorer import Scorer

SINGLE_CONNECTIONS = (1, 32, 256)
BATCH_EVENTS = (10, 100, 1_000, 10_000, 100_000)
BATCH_CONNECTIONS = 4
"""Enough that a request waits whenever the server is free, and so few that the bodies stay in the cache."""
LARGE_EVENTS, LARGE_CONNECTIONS = 100_000, 2
FORMATS = {"json": JSON, "msgpack": MSGPACK, "msgpack-binary": MSGPACK_BINARY, "raw": RAW}

ServerName = Literal["service", "bare", "plain"]


class WrongAnswerError(RuntimeError):
    """A server refused, or gave a score that is not the model's."""


@dataclass(frozen=True)
class Case:
    """The same request on some connections, and the scores (events,) that each must get."""

    name: str
    fmt: Format
    body: bytes
    scores: NDArray[np.float32]
    connections: int
    single: bool = False
    server: ServerName = "service"

    @property
    def path(self) -> str:
        """Where the request goes; the bare server finds its fixed reply by the name of the case."""
        if self.server == "bare":
            return f"/{self.name.removeprefix('bare-')}"
        return "/score" if self.single else "/score/batch"

    @property
    def headers(self) -> dict[str, str]:
        """What the request says of its body."""
        return {"Content-Type": self.fmt.media_type}

    def check(self, url: str) -> Reply:
        """Ask once, and give the reply; raises WrongAnswerError if it is not 2xx or its scores are not the model's."""
        with Client(url) as client:
            reply = client.post(self.path, self.headers, self.body)
        if reply.status // 100 != 2:
            raise WrongAnswerError(f"{self.name}: the server answered {reply.status}: {reply.body[:200].decode()}")
        given = self.fmt.read("anomaly_score" if self.single else "anomaly_scores", reply.body)
        fault = score_fault(np.atleast_1d(np.asarray(given)), self.scores)
        if fault:
            raise WrongAnswerError(f"{self.name}: {fault}")
        return reply


def score_fault(given: NDArray[np.generic], expected: NDArray[np.float32]) -> str | None:
    """Say how scores (n,) differ from the model's by more than the golden tolerance, or None."""
    if given.shape != expected.shape:
        return f"the scores have the shape {given.shape}, expected {expected.shape}"
    wrong = np.flatnonzero(~np.isclose(given, expected, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL))
    if len(wrong):
        return f"score {wrong[0]} is {given[wrong[0]]}, expected {expected[wrong[0]]}"
    return None


def single_case(scorer: Scorer, events: NDArray[np.float32], connections: int) -> Case:
    """Make the case of one event at a time, in JSON."""
    body = JSON.write("features", events[0])
    return Case(f"single-{connections}", JSON, body, scorer.score(events[:1]), connections, single=True)


def batch_case(scorer: Scorer, events: NDArray[np.float32], fmt: str) -> Case:
    """Make the case of all the `events` (n, n_features) in one request, in a format of FORMATS."""
    connections = LARGE_CONNECTIONS if len(events) >= LARGE_EVENTS else BATCH_CONNECTIONS
    body = FORMATS[fmt].write("events", events)
    return Case(f"{fmt}-{size_name(len(events))}", FORMATS[fmt], body, scorer.score(events), connections)


def all_cases(scorer: Scorer, events: NDArray[np.float32]) -> Iterator[Case]:
    """Make every case of the service's; `events` (n, n_features) are as many as the largest batch has."""
    for connections in SINGLE_CONNECTIONS:
        yield single_case(scorer, events, connections)
    for n_events in BATCH_EVENTS:
        for fmt in FORMATS:
            yield batch_case(scorer, events[:n_events], fmt)


def size_name(n_events: int) -> str:
    """Write a number of events as cases do: 100, 10k."""
    return f"{n_events // 1000}k" if n_events >= 1000 else str(n_events)

"""Cases: a request, on how many connections it is sent to which target, and the scores that must come back."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import wrk
from benchmarks.load.background import Exchange
from benchmarks.load.connection import Response
from benchmarks.load.formats import JSON, MSGPACK, MSGPACK_BINARY, RAW
from benchmarks.load.scoring import ScoringRequest, WrongAnswerError
from benchmarks.report.measurements import WrkRun
from benchmarks.targets.launcher import Server
from benchmarks.targets.processes import cpu_seconds
from service.model.scorer import Scorer

SINGLE_CONNECTIONS = (1, 32, 256)
BATCH_EVENTS = (10, 100, 1_000, 10_000, 100_000)
BATCH_CONNECTIONS = 4
"""Enough that a request waits whenever the server is free, and so few that the bodies stay in the cache."""
LARGE_EVENTS, LARGE_CONNECTIONS = 100_000, 2
BARE_EVENTS = 100
"""Up to this many events in a request, HTTP costs more than scoring: bare uvicorn is a ceiling too."""
PLAIN = "json-10k"
"""The case that is compared with plain decoding."""
FORMATS = {"json": JSON, "msgpack": MSGPACK, "msgpack-binary": MSGPACK_BINARY, "raw": RAW}

Events = NDArray[np.float32]
TargetName = Literal["service", "bare", "plain"]


@dataclass(frozen=True)
class Case:
    """The same request on some connections, and the scores (n,) that each must get."""

    name: str
    request: ScoringRequest
    scores: NDArray[np.float32]
    connections: int
    target: TargetName = "service"

    @property
    def path(self) -> str:
        """The path of the request; the bare server finds its fixed response by the name of the case."""
        return f"/{self.name.removeprefix('bare-')}" if self.target == "bare" else self.request.path

    def check(self, url: str) -> Response:
        """Ask once and give the response; raises WrongAnswerError if its scores are not the model's."""
        return self.request._replace(name=self.name).ask(url, self.scores, self.path)

    def exchange(self, url: str) -> Exchange:
        """Check the response once, and give the request with the body that it must get."""
        return Exchange(self.name, self.request.encode(url, self.path), self.check(url).body)

    def fire(self, server: Server, seconds: int, core: int | None) -> tuple[WrkRun, float]:
        """Load the server with wrk from a core, and give what wrk saw with the processor seconds that the server used.

        Raises WrongAnswerError for a response before, during or after that is not the right one.
        """
        size = self.check(server.base_url).size
        before = cpu_seconds(server.pid)
        run = wrk.fire(
            server.base_url,
            self.path,
            self.request.headers,
            self.request.body,
            connections=self.connections,
            seconds=seconds,
            core=core,
        )
        used = cpu_seconds(server.pid) - before
        self.check(server.base_url)
        if fault := run.fault(size, self.connections):
            raise WrongAnswerError(f"{self.name}, {self.connections} connections: {fault}")
        return run, used


def single_case(scorer: Scorer, events: Events, connections: int) -> Case:
    """Make the case of one event at a time, in JSON."""
    request = ScoringRequest.of(JSON, events[:1], single=True)
    return Case(f"single-{connections}", request, scorer.score(events[:1]), connections)


def batch_case(scorer: Scorer, events: Events, fmt: str) -> Case:
    """Make the case of all the `events` (n, n_features) in one request, in a format of FORMATS."""
    connections = LARGE_CONNECTIONS if len(events) >= LARGE_EVENTS else BATCH_CONNECTIONS
    request = ScoringRequest.of(FORMATS[fmt], events)
    return Case(f"{fmt}-{size_name(len(events))}", request, scorer.score(events), connections)


def service_cases(scorer: Scorer, events: Events) -> Iterator[Case]:
    """Make every case of the service; `events` (n, n_features) are as many as the largest batch has."""
    for connections in SINGLE_CONNECTIONS:
        yield single_case(scorer, events, connections)
    for n_events in BATCH_EVENTS:
        for fmt in FORMATS:
            yield batch_case(scorer, events[:n_events], fmt)


def ceiling_cases(cases: list[Case]) -> Iterator[Case]:
    """Make the cases of the service's that the bare server and plain decoding have too."""
    for case in cases:
        if len(case.scores) <= BARE_EVENTS:
            yield replace(case, name=f"bare-{case.name}", target="bare")
    for case in cases:
        if case.name == PLAIN:
            yield replace(case, name=f"plain-{case.name}", target="plain")


def size_name(n_events: int) -> str:
    """Write a number of events as cases do: 100, 10k."""
    return f"{n_events // 1000}k" if n_events >= 1000 else str(n_events)

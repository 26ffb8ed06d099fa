"""Cases: a request, the target, the number of connections, and the expected scores.

For example, `single-32` is one event on 32 connections, and `raw-10k` a batch of 10 000 events in raw float32.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import wrk
from benchmarks.load.background import Exchange
from benchmarks.load.connection import Response
from benchmarks.load.formats import JSON, MSGPACK, MSGPACK_BINARY, RAW, Route
from benchmarks.load.scoring import ScoringRequest, WrongAnswerError, read_sample
from benchmarks.report.measurements import CaseResult, CaseRun, LoadRun
from benchmarks.targets.processes import cpu_seconds, forget_peak, peak_mb
from service.model.artefact import load_artefact
from service.model.scorer import Scorer

SINGLE_CONNECTIONS: Final = (1, 32, 256)
SIZES: Final = {"10": 10, "100": 100, "1k": 1_000, "10k": 10_000, "100k": 100_000}
BATCH_CONNECTIONS: Final = 4
"""Enough that a request is always waiting, and few enough that the bodies stay in the cache."""
LARGE_EVENTS, LARGE_CONNECTIONS = 100_000, 2
BARE_EVENTS: Final = 100
"""Up to this many events in a request HTTP costs more than scoring, so that bare uvicorn is also a ceiling."""
PLAIN: Final = "json-10k"
"""The case that is compared with plain decoding."""
ROUTES: Final = {
    "single": Route(JSON, "/score"),
    "json": Route(JSON, "/score/batch"),
    "msgpack": Route(MSGPACK, "/score/batch"),
    "msgpack-binary": Route(MSGPACK_BINARY, "/score/batch"),
    "raw": Route(RAW, "/score/batch"),
}
"""Routes of the service, by format."""
NAMES: Final = (
    *(f"single-{connections}" for connections in SINGLE_CONNECTIONS),
    *(f"{kind}-{size}" for size in SIZES for kind in list(ROUTES)[1:]),
)

TargetName = Literal["service", "bare", "plain"]


class Target(Protocol):
    """A server that is measured."""

    base_url: str
    grpc_address: str

    def processes(self) -> list[int]:
        """Return the IDs of all its processes."""


@dataclass(frozen=True)
class Case:
    """The same request on some connections, and the scores (n,) that each must get.

    With `same_size` all responses must have the same number of bytes, heads included.
    """

    name: str
    request: ScoringRequest
    scores: NDArray[np.float32]
    connections: int
    target: TargetName = "service"
    same_size: bool = True

    @property
    def body(self) -> bytes:
        """The body of each request."""
        return self.request.body

    def check(self, url: str) -> Response:
        """Send one request and return the response. Raises WrongAnswerError if its scores are wrong."""
        return self.request.ask(url, self.scores)

    def exchange(self, url: str) -> Exchange:
        """Check the response once, and return the request with the expected body."""
        return Exchange(self.name, self.request.encode(url), self.check(url).body)

    def measure(self, target: Target, seconds: int, core: int | None) -> CaseRun:
        """Load a target with wrk from a core.

        Raises WrongAnswerError for a wrong response before, during or after the load.
        """
        url, request = target.base_url, self.request
        size = self.check(url).size

        def fire() -> LoadRun:
            run = wrk.fire(
                *(url, request.path, request.headers, request.body),
                connections=self.connections,
                seconds=seconds,
                core=core,
            )
            if fault := run.fault(size if self.same_size else None, self.connections):
                raise WrongAnswerError(f"{self.name}, {self.connections} connections: {fault}")
            return run

        measured = measure_load(target, fire, len(self.scores))
        self.check(url)
        return measured

    def result(self, server: str, runs: list[CaseRun]) -> CaseResult:
        """Combine the runs on a server."""
        return CaseResult(self.name, server, self.request.fmt.name, len(self.scores), self.connections, runs)


def measure_load(target: Target, fire: Callable[[], LoadRun], n_events: int) -> CaseRun:
    """Run a load of `n_events` a request, and give it with the processor time and the memory of the target."""
    pids = target.processes()
    forget_peak(pids)
    before_s = cpu_seconds(pids)
    run = fire()
    used_s = cpu_seconds(pids) - before_s
    return CaseRun(
        requests_per_s=run.requests_per_s,
        events_per_s=run.requests_per_s * n_events,
        p50_ms=run.p50_ms,
        p99_ms=run.p99_ms,
        p999_ms=run.p999_ms,
        cpu_s_per_million_events=used_s / (run.requests * n_events) * 1e6,
        peak_mb=peak_mb(pids),
    )


class Workload:
    """A model, and the events that it is to score."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.artefact = load_artefact(model)
        self.scorer = Scorer(self.artefact)
        self.events = read_sample(self.artefact.n_features)

    def case(self, name: str, routes: Mapping[str, Route] = ROUTES) -> Case:
        """Return the case of that name."""
        kind, _, number = name.rpartition("-")
        route, single = routes[kind], kind == "single"
        events = self.events[: 1 if single else SIZES[number]]
        connections = LARGE_CONNECTIONS if len(events) >= LARGE_EVENTS else BATCH_CONNECTIONS
        request = ScoringRequest.of(route.fmt, events, name, single=single, path=route.path)
        return Case(name, request, self.scorer.score(events), int(number) if single else connections)


def bare(case: Case) -> Case:
    """Return the case for the bare server, which finds its fixed response by the name of the service's case."""
    name, path = f"bare-{case.name}", f"/{case.name}"
    return replace(case, name=name, target="bare", request=case.request._replace(name=name, path=path))


def plain(case: Case) -> Case:
    """Return the case for the service with plain decoding."""
    return replace(case, name=f"plain-{case.name}", target="plain")


def each_round(count: int) -> Iterator[int]:
    """Count and announce the rounds: each measures everything once, so that all see the same changes of the machine."""
    for number in range(count):
        print(f"round {number + 1} of {count}", flush=True)
        yield number

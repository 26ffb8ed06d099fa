"""What one core does in each format, and how latency grows with load: measured on one and two workers, and simulated.

Each worker is a service of its own with a core of its own. The load has the second core, and shares it with the second
worker at a higher priority. In each round the service times are measured first, then the latencies at each load, which
a simulation predicts from them.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final

import numpy as np

from benchmarks.load.closed_loop import ClosedLoop, drive
from benchmarks.load.connection import Request
from benchmarks.load.open_loop import Arrivals, offer, undisturbed
from benchmarks.load.outcomes import Outcome
from benchmarks.load.scoring import ScoringRequest
from benchmarks.queueing import Balancer, FewestRequests, IdleConnections, RoundRobin, Seconds, Worker, latencies
from benchmarks.report import machine
from benchmarks.report.measurements import (
    CaseRun,
    Check,
    Farm,
    FormatCost,
    Loaded,
    Predicted,
    ServiceTime,
    median_of,
)
from benchmarks.report.results import Scaling
from benchmarks.scenarios.cases import BATCH_CONNECTIONS, ROUTES, Case, Workload, each_round
from benchmarks.targets.launcher import Server
from benchmarks.targets.service import service

FORMATS: Final = ("single-32", "json-10k", "msgpack-10k", "msgpack-binary-10k", "raw-10k")
FORMAT_ROUNDS: Final = 3
EVENTS: Final = 4_000
"""A batch that is scored in one piece; such batches are served in order of arrival."""
LOADS: Final = (0.3, 0.6, 0.8)
FULL_LOAD_S: Final = 1.8
"""Duration of a run at full load; all loads have the same number of requests."""
SERVICE_S, WARM_UP_S = 1.0, 0.1
PAUSE_S: Final = 0.004
"""Idle time before the requests that measure the service time after an idle time."""
CONNECTIONS: Final = 256
"""Connections per worker, more than the requests that ever wait, so that requests queue at the workers."""
PRIORITY: Final = -10
DRAWS: Final = 20
"""Number of draws of the service times of a run."""
SEED: Final = 1
CURVE_LOADS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9)
CURVE_REQUESTS: Final = 20_000
FARM_WORKERS, FARM_LOADS = (1, 2, 8, 32), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
TIMES_SERVICE: Final = 4.0
BALANCERS: Final[dict[str, Callable[[int], Balancer]]] = {
    "in turn": RoundRobin,
    "the fewest requests of two (Envoy)": lambda n_workers: FewestRequests(n_workers, min(2, n_workers)),
    "the fewest requests of all (HAProxy)": FewestRequests,
}


@dataclass(frozen=True)
class Rounds:
    """The measurements of each round: formats, service times by number of workers, and latencies at each load."""

    formats: dict[str, list[CaseRun]] = field(default_factory=lambda: defaultdict(list))
    workers: dict[int, list[list[Worker]]] = field(default_factory=lambda: defaultdict(list))
    checks: dict[tuple[int, float], list[Check]] = field(default_factory=lambda: defaultdict(list))

    def of_each(self, n_workers: int) -> list[tuple[Worker, ...]]:
        """Return the service times of each of `n_workers` workers, by round."""
        return list(zip(*self.workers[n_workers], strict=True))


def run(model: str, rounds: int) -> Scaling:
    """Measure and simulate; raises RuntimeError or OSError for a wrong response."""
    provenance, cores = machine.provenance(), machine.split_cores()
    workload = Workload(model)
    formats = [workload.case(name) for name in FORMATS]
    batch = ScoringRequest.of(ROUTES["raw"].fmt, workload.events[:EVENTS], path=ROUTES["raw"].path)
    case = Case(batch.name, batch, workload.scorer.score(batch.events), BATCH_CONNECTIONS)
    with ExitStack() as stack:
        servers = [stack.enter_context(service(model, cores=[core])) for core in cores]
        with suppress(PermissionError):  # a user's load is scheduled as the worker is that shares its core
            os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        measured = measure(servers, formats, case, rounds, cores[1])
        costs = {one.name: cost(one, servers[0], measured.formats[one.name]) for one in formats}
    pooled = {n_workers: list(map(pool, measured.of_each(n_workers))) for n_workers in measured.workers}
    return Scaling(
        **provenance,
        model=workload.artefact.identity,
        formats=costs,
        request=batch.name,
        service_times={
            n_workers: [median_of(list(map(summary, worker))) for worker in measured.of_each(n_workers)]
            for n_workers in measured.workers
        },
        checks=[Loaded(*key, checks) for key, checks in measured.checks.items()],
        curve=[predict(workers, load) for workers in pooled.values() for load in CURVE_LOADS],
        times_service=TIMES_SERVICE,
        farms=[
            Farm(n_workers, name, highest_load(pooled[1][0], n_workers, name))
            for name in BALANCERS
            for n_workers in FARM_WORKERS
        ],
    )


def measure(servers: Sequence[Server], formats: Sequence[Case], case: Case, rounds: int, core: int) -> Rounds:
    """Measure the formats on the first server with wrk from a core, and the case on one server and on all."""
    requests = [case.exchange(server.base_url).request for server in servers]
    found = Rounds()
    for number in each_round(rounds):
        for one in formats if number < FORMAT_ROUNDS else ():
            found.formats[one.name].append(one.measure(servers[0], 1, core))
        for n_workers in range(1, len(servers) + 1):
            urls = [server.base_url for server in servers[:n_workers]]
            workers = measure_service(urls, requests[0])
            found.workers[n_workers].append(workers)
            for load in LOADS:
                check = measure_load(urls, requests[0], workers, load, SEED + number)
                found.checks[n_workers, load].append(check)
    return found


def cost(case: Case, server: Server, runs: list[CaseRun]) -> FormatCost:
    """Put the runs of a case together with what its request and its response have in bytes for each event."""
    n_events = len(case.scores)
    request_bytes = len(case.request.encode(server.base_url)) / n_events
    return FormatCost(case.result("service", runs), request_bytes, case.check(server.base_url).size / n_events)


def measure_service(urls: Sequence[str], request: Request) -> list[Worker]:
    """Time each worker behind a queue, by the intervals between its responses, and on one connection with pauses."""
    queued = [ClosedLoop(url, [request], clients=BATCH_CONNECTIONS) for url in urls]
    single = [ClosedLoop(url, [request], clients=1, pause_s=PAUSE_S) for url in urls]
    for loops in (queued, single):
        with undisturbed():
            end_s = perf_counter() + WARM_UP_S + SERVICE_S
            drive(loops, partial(_is_before, end_s))
        for loop in loops:
            if loop.report().begun != loop.report().outcomes[Outcome.ANSWERED]:
                raise RuntimeError(f"not all requests were answered rightly: {loop.report()}")
    workers = []
    for busy, idle in zip(queued, single, strict=True):
        ended_s = np.sort(busy.record.ended_s(Outcome.ANSWERED))
        ended_s = ended_s[(ended_s > WARM_UP_S) & (ended_s < WARM_UP_S + SERVICE_S)]
        idle_s = idle.record.latencies_ms(Outcome.ANSWERED, WARM_UP_S, WARM_UP_S + SERVICE_S) / 1e3
        workers.append(Worker(np.diff(ended_s), idle_s))
    return workers


def _is_before(end_s: float) -> bool:
    return perf_counter() < end_s


def measure_load(urls: Sequence[str], request: Request, workers: Sequence[Worker], load: float, seed: int) -> Check:
    """Offer a fraction of what the workers answer at most, at random times, and simulate it with the same times."""
    rng = np.random.default_rng(seed)
    arrivals = Arrivals.at_random(load * capacity(workers), FULL_LOAD_S / load, rng)
    connections = CONNECTIONS * len(urls)
    measured = offer(urls, request, arrivals, connections=connections, spin_s=0)
    simulated = [
        latencies(
            arrivals.due_s,
            [drawn(worker, len(arrivals.due_s), rng) for worker in workers],
            IdleConnections(len(workers), connections),
        )
        for _ in range(DRAWS)
    ]
    p50, p99 = np.percentile(np.concatenate(simulated), [50, 99]) * 1e3
    return Check(measured, float(p50), float(p99))


def capacity(workers: Sequence[Worker]) -> float:
    """Return the rate, in requests per second, at which the slowest of workers chosen in turn is never idle."""
    return float(len(workers) / max(np.mean(worker.busy_s) for worker in workers))


def drawn(worker: Worker, n_requests: int, rng: np.random.Generator) -> Worker:
    """Draw the times of so many requests from those that were measured."""
    return Worker(rng.choice(worker.busy_s, n_requests), rng.choice(worker.idle_s, n_requests))


def pool(workers: Sequence[Worker]) -> Worker:
    """Put the times of all rounds together."""
    return Worker(*map(np.concatenate, zip(*workers, strict=True)))


def summary(worker: Worker) -> ServiceTime:
    """Sum up the times of a worker."""
    found = [(np.mean(times) * 1e3, np.percentile(times, 99) * 1e3) for times in worker]
    return ServiceTime(*map(float, (*found[0], *found[1])))


def simulate(workers: Sequence[Worker], load: float, balancer: Balancer) -> Seconds:
    """Simulate many requests at random times for workers of the measured times."""
    rng = np.random.default_rng(SEED)
    per_s = load * capacity(workers)
    due_s = Arrivals.at_random(per_s, CURVE_REQUESTS / per_s, rng).due_s
    return latencies(due_s, [drawn(worker, len(due_s), rng) for worker in workers], balancer)


def predict(workers: Sequence[Worker], load: float) -> Predicted:
    """Predict the latencies of workers whose connections are used in turn."""
    connections = IdleConnections(len(workers), CURVE_REQUESTS)
    p50, p99 = np.percentile(simulate(workers, load, connections), [50, 99]) * 1e3
    return Predicted(len(workers), load, float(p50), float(p99))


def highest_load(worker: Worker, n_workers: int, balancer: str) -> float:
    """Return the highest of FARM_LOADS at which 99 % are answered within TIMES_SERVICE times the mean service, or 0."""
    most_s = TIMES_SERVICE * np.mean(worker.busy_s)
    highest = 0.0
    for load in FARM_LOADS:
        if np.percentile(simulate([worker] * n_workers, load, BALANCERS[balancer](n_workers)), 99) > most_s:
            break
        highest = load
    return highest

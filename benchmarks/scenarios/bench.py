"""The speed of the service over HTTP compared with its ceilings, in one run of about three minutes.

The server has one core and the load another. benchmarks/README.md describes the comparisons and their reasons.
"""

import os

from benchmarks.load import wrk
from benchmarks.load.background import Background
from benchmarks.report import machine
from benchmarks.report.measurements import Beside, CaseResult, Latency, Shares
from benchmarks.report.results import Bench
from benchmarks.scenarios.ceilings import Targets, measure_all, started
from benchmarks.targets.in_process import flop_per_event
from benchmarks.targets.service import requests_of_workers, service, shares
from service.settings import Settings

BESIDE_CASE, BESIDE = "single-32", ("raw-100k", "json-100k")
BESIDE_REQUESTS_PER_S, BESIDE_CONNECTIONS, BESIDE_S = 200, 4, 10

CURVES = {"service": "single-32", "bare": "bare-single-32"}
CURVE_ROUNDS, CURVE_S = 5, 0.5
CURVE_FIRST_PER_S = 1_000
CURVE_FRACTIONS = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25)
"""The offered rates, after the first, as fractions of the maximum rate of the server."""

WORKERS, WORKERS_CONNECTIONS, WORKERS_S = 2, (4, 16, 64), 2


def run(model: str, rounds: int) -> Bench:
    """Measure everything; raises RuntimeError for a wrong answer, OSError where a connection is lost."""
    provenance, all_cores = machine.provenance(), os.sched_getaffinity(0)
    with started(model) as targets:
        in_process, cases = measure_all(targets, rounds)
        return Bench(
            **provenance,
            model=targets.workload.artefact.identity,
            wrk=wrk.version(),
            in_process=dict(in_process.events_per_s),
            flop_per_event=flop_per_event(targets.workload.artefact.graph),
            peak_flop_per_s=in_process.peak_flop_per_s,
            cases=cases,
            beside=[measure_beside(targets, name) for name in BESIDE],
            latency=measure_curves(targets, cases),
            workers=measure_workers(targets, all_cores),
        )


def measure_beside(targets: Targets, name: str) -> Beside:
    """Time single events while other clients keep posting the batch of a case, every response of both checked."""
    print(f"single events beside {name}", flush=True)
    url, batch = targets.servers["service"].base_url, targets.cases[name]
    with Background(url, [batch.exchange(url)], batch.connections) as background:
        latency = targets.offer(BESIDE_CASE, BESIDE_CONNECTIONS, BESIDE_REQUESTS_PER_S, BESIDE_S)
    seen = background.seen
    return Beside(
        batch=name,
        batch_connections=batch.connections,
        batch_events_per_s=seen.responses * len(batch.scores) / seen.seconds,
        batches_checked=seen.responses,
        single_connections=BESIDE_CONNECTIONS,
        latency=latency,
    )


def measure_curves(targets: Targets, cases: dict[str, CaseResult]) -> dict[str, list[list[Latency]]]:
    """Time single events at rates from few to more than either server can answer, the servers in alternation."""
    print("latency against load", flush=True)
    runs: dict[str, dict[float, list[Latency]]] = {}
    for target, name in CURVES.items():
        reached = cases[name].median.requests_per_s
        rates = {CURVE_FIRST_PER_S, *(round(fraction * reached, -2) for fraction in CURVE_FRACTIONS)}
        runs[target] = {rate: [] for rate in sorted(rates)}
    for _ in range(CURVE_ROUNDS):
        for target, name in CURVES.items():
            for rate, latencies in runs[target].items():
                latencies.append(targets.offer(name, targets.cases[name].connections, rate, CURVE_S))
    return {target: list(by_rate.values()) for target, by_rate in runs.items()}


def measure_workers(targets: Targets, cores: set[int]) -> list[Shares]:
    """Count what each of several workers answers, on few connections and on many."""
    print(f"{WORKERS} workers", flush=True)
    found, workload = [], targets.workload
    with service(workload.model, cores=cores, settings=Settings(workers=WORKERS)) as server:
        for connections in WORKERS_CONNECTIONS:
            before = requests_of_workers(server.base_url)
            measured = workload.case(f"single-{connections}").measure(server, WORKERS_S, core=None)
            after = requests_of_workers(server.base_url)
            found.append(shares(before, after, connections, measured.requests_per_s))
    return found

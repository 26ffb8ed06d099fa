"""The speed of the service over HTTP beside its ceilings, all in one run of about three minutes.

The server has one core and the load another. benchmarks/README.md says what is compared with what, and why.
"""

import os

from benchmarks.load import wrk
from benchmarks.load.background import Background
from benchmarks.load.connection import Request
from benchmarks.load.open_loop import offer
from benchmarks.report import machine
from benchmarks.report.measurements import Beside, Latency, Measured, Point, Shares
from benchmarks.report.results import Bench, median_of
from benchmarks.scenarios.cases import single_case
from benchmarks.scenarios.turns import Targets, alternate, started
from benchmarks.targets.launcher import serving
from benchmarks.targets.service import requests_of_workers, service_flags, shares
from service.model.scorer import Scorer

BESIDE_CASE, BESIDE = "single-32", ("raw-100k", "json-100k")
BESIDE_REQUESTS_PER_S, BESIDE_CONNECTIONS, BESIDE_S = 200, 4, 10

CURVE_CASE, CURVE_TURNS, CURVE_S = "single-32", 5, 0.5
CURVE_FIRST_PER_S = 1_000
CURVE_FRACTIONS = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25)
"""The offered rates, after the first, as fractions of the rate that the server reached when asked without pause."""

WORKERS, WORKERS_CONNECTIONS, WORKERS_S = 2, (4, 16, 64), 2


def run(model: str, rounds: int) -> Bench:
    """Measure everything; raises RuntimeError for a wrong answer, OSError where a connection is lost."""
    provenance = machine.provenance("make bench")
    all_cores = os.sched_getaffinity(0)
    with started(model) as targets:
        in_process, cases = alternate(targets, rounds)
        return Bench(
            **provenance,
            model=targets.artefact.identity,
            wrk=wrk.version(),
            in_process=in_process,
            cases=cases,
            beside=[measure_beside(targets, name) for name in BESIDE],
            latency=measure_curves(targets, cases),
            workers=measure_workers(targets, model, all_cores),
        )


def measure_beside(targets: Targets, name: str) -> Beside:
    """Time single events while other clients keep posting the batch of a case, every response of both checked."""
    print(f"single events beside {name}", flush=True)
    url, batch = targets.servers["service"].base_url, targets.cases[name]
    with Background(url, [batch.exchange(url)], batch.connections) as background:
        latency = offer_case(targets, BESIDE_CASE, BESIDE_CONNECTIONS, BESIDE_REQUESTS_PER_S, BESIDE_S)
    seen = background.seen
    return Beside(
        batch=name,
        batch_connections=batch.connections,
        batch_events_per_s=seen.responses * len(batch.scores) / seen.seconds,
        batches_checked=seen.responses,
        single_connections=BESIDE_CONNECTIONS,
        latency=latency,
    )


def measure_curves(targets: Targets, cases: dict[str, Measured]) -> dict[str, list[Point]]:
    """Time single events at rates from few to more than either server can answer, the servers in turns."""
    print("latency against load", flush=True)
    names = {"service": CURVE_CASE, "bare": f"bare-{CURVE_CASE}"}
    turns: dict[str, dict[float, list[Latency]]] = {}
    for target, name in names.items():
        reached = cases[name].median.requests_per_s
        rates = {CURVE_FIRST_PER_S, *(round(fraction * reached, -2) for fraction in CURVE_FRACTIONS)}
        turns[target] = {rate: [] for rate in sorted(rates)}
    for _ in range(CURVE_TURNS):
        for target, name in names.items():
            for rate, found in turns[target].items():
                found.append(offer_case(targets, name, targets.cases[name].connections, rate, CURVE_S))
    return {target: [Point(found, median_of(found)) for found in rates.values()] for target, rates in turns.items()}


def offer_case(targets: Targets, name: str, connections: int, requests_per_s: float, seconds: float) -> Latency:
    """Offer a case to its server at a rate."""
    case = targets.cases[name]
    url = targets.servers[case.target].base_url
    exchange = case.exchange(url)
    request = Request.exact(exchange.name, exchange.data, exchange.body)
    return offer(url, request, connections=connections, requests_per_s=requests_per_s, seconds=seconds)


def measure_workers(targets: Targets, model: str, cores: set[int]) -> list[Shares]:
    """Count what each of several workers answers, on few connections and on many."""
    print(f"{WORKERS} workers", flush=True)
    found, scorer = [], Scorer(targets.artefact)
    with serving("service", *service_flags(model, WORKERS), cores=cores) as server:
        for connections in WORKERS_CONNECTIONS:
            before = requests_of_workers(server.base_url)
            load, _ = single_case(scorer, targets.events, connections).fire(server, WORKERS_S, None)
            found.append(shares(before, requests_of_workers(server.base_url), connections, load.seconds))
    return found

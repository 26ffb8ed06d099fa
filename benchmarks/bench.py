"""The benchmark of the service: its speed over HTTP beside its ceilings, all in one run of about three minutes.

    python -m benchmarks.bench
    python -m benchmarks.bench --profile json-10k --out profile.svg

The server has one core and the load another. What is compared with what, and why, is in README.md beside this file. It
does not know how figures and tables look.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine, profiler, results, tables, wrk
from benchmarks.client import encode
from benchmarks.compare import compare
from benchmarks.figures import plot_latency
from benchmarks.openloop import Latency, offer
from benchmarks.poster import Poster, exchange
from benchmarks.results import Beside, Measured, Point, Results, median_of
from benchmarks.servers import service_flags, serving
from benchmarks.stage import SAMPLE, Stage, staged
from benchmarks.workers import Shares, requests_of_workers, shares

MODEL = "exported/autoencoder.onnx"

BESIDE_CASE, BESIDE = "single-32", ("raw-100k", "json-100k")
BESIDE_REQUESTS_PER_S, BESIDE_CONNECTIONS, BESIDE_S = 200, 4, 10

CURVE_CASE, CURVE_TURNS, CURVE_S = "single-32", 5, 0.5
CURVE_FIRST_PER_S = 1_000
CURVE_PARTS = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25)
"""The offered rates, after the first, as parts of the rate that the server reached when asked without pause."""

WORKERS, WORKERS_CONNECTIONS, WORKERS_S = 2, (4, 16, 64), 2


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the results and the figure, and print the tables; 1 if any answer was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default=MODEL, help="artefact (default: %(default)s)")
    parser.add_argument(
        "--profile", metavar="CASE", help="instead, run one case under py-spy: json-10k, single-32, ..."
    )
    parser.add_argument("--out", type=Path, default=Path("profile.svg"), help=".svg or .json (default: %(default)s)")
    flags = parser.parse_args(argv)
    try:
        if flags.profile:
            profiler.profile(flags.profile, flags.model, flags.out)
            return 0
        found = run(flags.model)
    except (RuntimeError, OSError) as error:
        print(f"the benchmark failed: {error}", file=sys.stderr)
        return 1
    results.write(results.BENCH, found)
    plot_latency(found.latency, results.LATENCY_FIGURE)
    print(tables.whole(found))
    return 0


def run(model: str) -> Results:
    """Measure everything; raises RuntimeError for a wrong answer, OSError where a connection breaks."""
    started, clock = datetime.now(UTC), time.perf_counter()
    all_cores = os.sched_getaffinity(0)
    with staged(model) as stage:
        in_process, cases = compare(stage)
        beside = [measure_beside(stage, name) for name in BESIDE]
        latency = measure_curves(stage, cases)
        workers = measure_workers(stage, model, all_cores)
        return Results(
            model=stage.artefact.identity,
            commit=machine.commit(),
            command="make bench",
            wrk=wrk.version(),
            started=started.isoformat(timespec="seconds"),
            minutes=(time.perf_counter() - clock) / 60,
            machine=machine.describe(),
            versions=machine.versions(),
            server_core=stage.server_core,
            load_core=stage.load_core,
            events=f"{SAMPLE}, repeated",
            in_process=in_process,
            cases=cases,
            beside=beside,
            workers=workers,
            latency=latency,
        )


def measure_beside(stage: Stage, name: str) -> Beside:
    """Time single events while other clients keep posting the batch of a case, every answer of both checked."""
    print(f"single events beside {name}", flush=True)
    url = stage.servers["service"].url
    batch = stage.cases[name]
    posters = [Poster(url, [exchange(url, batch)]) for _ in range(batch.connections)]
    with ExitStack() as stack:
        for poster in posters:
            stack.enter_context(poster)
        latency = offer_case(stage, BESIDE_CASE, BESIDE_CONNECTIONS, BESIDE_REQUESTS_PER_S, BESIDE_S)
    return Beside(
        batch=name,
        batch_connections=batch.connections,
        batch_events_per_s=sum(poster.seen.events / poster.seen.seconds for poster in posters),
        batches_checked=sum(poster.seen.replies for poster in posters),
        single_connections=BESIDE_CONNECTIONS,
        latency=latency,
    )


def measure_curves(stage: Stage, cases: dict[str, Measured]) -> dict[str, list[Point]]:
    """Time single events at rates from few to more than either server can answer, the servers in turns."""
    print("latency against load", flush=True)
    names = {"service": CURVE_CASE, "bare": f"bare-{CURVE_CASE}"}
    reached = {server: cases[name].median.requests_per_s for server, name in names.items()}
    turns: dict[str, dict[float, list[Latency]]] = {
        server: {rate: [] for rate in sorted({CURVE_FIRST_PER_S, *(round(part * fastest, -2) for part in CURVE_PARTS)})}
        for server, fastest in reached.items()
    }
    for _ in range(CURVE_TURNS):
        for server, name in names.items():
            for rate, found in turns[server].items():
                found.append(offer_case(stage, name, stage.cases[name].connections, rate, CURVE_S))
    return {server: [Point(found, median_of(found)) for found in rates.values()] for server, rates in turns.items()}


def offer_case(stage: Stage, name: str, connections: int, requests_per_s: float, seconds: float) -> Latency:
    """Offer a case to its server at a rate."""
    case = stage.cases[name]
    url = stage.servers[case.server].url
    request = encode(url, "POST", case.path, case.headers, case.body)
    return offer(url, request, case.check(url), connections=connections, requests_per_s=requests_per_s, seconds=seconds)


def measure_workers(stage: Stage, model: str, cores: set[int]) -> list[Shares]:
    """Count what each of several workers answers, on few connections and on many."""
    print(f"{WORKERS} workers", flush=True)
    found = []
    case = stage.cases["single-32"]
    with serving("service", *service_flags(model, WORKERS), cores=cores) as server:
        reply = case.check(server.url)
        for connections in WORKERS_CONNECTIONS:
            before = requests_of_workers(server.url)
            load = wrk.fire(
                server.url,
                case.path,
                case.headers,
                case.body,
                connections=connections,
                seconds=WORKERS_S,
                core=None,
            )
            fault = load.fault(reply.size, connections)
            if fault:
                raise RuntimeError(f"{WORKERS} workers, {connections} connections: {fault}")
            found.append(shares(before, requests_of_workers(server.url), connections, load.seconds))
        case.check(server.url)
    return found


if __name__ == "__main__":
    sys.exit(main())

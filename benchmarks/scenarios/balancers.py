"""Balancers in front of a fast and a slow server: latencies by balancing method, and the cost of a balancer.

The slow server has the processor only for a fifth of the time. All processes share two cores, and every response is
checked.
"""

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.synchronize import Event
from typing import Final

import msgspec

from benchmarks.load.connection import get
from benchmarks.load.open_loop import Arrivals, offer
from benchmarks.report import machine
from benchmarks.report.measurements import BalancedRun, CaseResult
from benchmarks.report.results import LEAST_REQUESTS, ROUND_ROBIN, Balancers
from benchmarks.scenarios.cases import Case, Workload, each_round
from benchmarks.targets.balancers import KINDS, Balancer, Kind, Site, balancing, find_site, version
from benchmarks.targets.launcher import Server
from benchmarks.targets.service import service
from service.settings import Settings

SLOWER: Final = 5
PERIOD_S: Final = 0.05
"""The period of which the slow server runs for a fifth."""
CASE: Final = "raw-10k"
OFFERED: Final = (0.25, 0.5)
"""The load as a fraction of the capacity of the fast server; both servers together have 1.2 of it."""
SECONDS: Final = 4
CONNECTIONS: Final = 32
COSTS: Final = ("single-32", "raw-10k")
WRK_S: Final = 2
POLICIES: Final = (LEAST_REQUESTS, ROUND_ROBIN)
SCORED: Final = re.compile(r"^anomaly_events_scored_total (\S+)$", re.MULTILINE)

Runs = dict[str, dict[str, dict[str, list[BalancedRun]]]]


def run(model: str, rounds: int) -> Balancers:
    """Measure both ways to choose with each balancer, in alternating runs; raises RuntimeError for a wrong response."""
    provenance = machine.provenance()
    provenance["versions"] |= {name: version(kind) for name, kind in KINDS.items()}
    cores = machine.split_cores()
    workload, site = Workload(model), find_site()
    case = workload.case(CASE)
    ports = Settings(port=site.http, grpc_port=site.grpc, workers=1)
    with ExitStack() as stack:
        fast, slow = (
            stack.enter_context(service(model, cores=cores, settings=msgspec.structs.replace(ports, host=host)))
            for host in site.servers
        )
        fast_per_s: list[float] = []
        slow_per_s: list[float] = []
        costs = {name: measure_costs(kind, site, workload, cores[1]) for name, kind in KINDS.items()}
        runs: Runs = {name: {str(load): {policy: [] for policy in POLICIES} for load in OFFERED} for name in KINDS}
        for _ in each_round(rounds):
            fast_per_s.append(case.measure(fast, WRK_S, cores[1]).requests_per_s)
            with slowed(slow):
                slow_per_s.append(case.measure(slow, WRK_S, cores[1]).requests_per_s)
            for name, kind in KINDS.items():
                for policy in POLICIES:
                    replaced = kind.round_robin if policy == ROUND_ROBIN else {}
                    with balancing(kind, site, cores=[cores[1]], replaced=replaced) as balancer, slowed(slow):
                        for load in OFFERED:
                            found = measure(balancer, slow, case, load * fast_per_s[-1])
                            runs[name][str(load)][policy].append(found)
    return Balancers(
        **provenance,
        model=workload.artefact.identity,
        rounds=rounds,
        seconds=SECONDS,
        fast_per_s=fast_per_s,
        slow_per_s=slow_per_s,
        runs=runs,
        costs=costs,
    )


def measure_costs(kind: Kind, site: Site, workload: Workload, core: int) -> list[CaseResult]:
    """Load a balancer as much as it can take, and find its processor time."""
    with balancing(kind, site, cores=[core]) as balancer:
        cases = [workload.case(name) for name in COSTS]
        return [case.result(kind.program, [case.measure(balancer, WRK_S, core)]) for case in cases]


def measure(balancer: Balancer, slow: Server, case: Case, per_s: float) -> BalancedRun:
    """Offer batches at a rate, and find how many of them the slow server got."""
    url = balancer.base_url
    request = case.exchange(url).request
    before = scored(slow)
    found = offer([url], request, Arrivals.evenly(per_s, SECONDS), connections=CONNECTIONS)
    # Each connection has already had one request.
    share = (scored(slow) - before) / len(case.scores) / (found.requests + CONNECTIONS)
    return BalancedRun(found.p50_ms, found.p99_ms, found.max_ms, share)


def scored(server: Server) -> float:
    """Ask a service for the number of events that it has scored."""
    found = SCORED.search(get(server.base_url, "/metrics").body.decode())
    return float(found[1]) if found else 0.0


@contextmanager
def slowed(server: Server) -> Iterator[None]:
    """Stop a server for most of the time during the block, by a process of its own."""
    pids = server.processes()
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    slowing = context.Process(target=stop_and_go, args=(pids, started), daemon=True)
    slowing.start()
    started.wait()
    try:
        yield
    finally:
        slowing.terminate()
        slowing.join()
        signal_all(pids, signal.SIGCONT)


def stop_and_go(pids: list[int], started: Event) -> None:
    """Let processes run for a fraction of each period, until this process is ended."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # otherwise it would wait for the load
    started.set()
    while True:
        signal_all(pids, signal.SIGCONT)
        time.sleep(PERIOD_S / SLOWER)
        signal_all(pids, signal.SIGSTOP)
        time.sleep(PERIOD_S * (1 - 1 / SLOWER))


def signal_all(pids: list[int], sig: signal.Signals) -> None:
    """Send a signal to the processes that are left."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, sig)

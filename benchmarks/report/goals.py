"""Goals of the benchmarks, compared with measurements."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from benchmarks.report.markdown import number, rate, table
from benchmarks.report.measurements import AFTER_RETRY_AFTER, CAPACITY, CaseResult
from benchmarks.report.results import (
    ALL_CORES,
    BINARY_INFER,
    DASK,
    GRPC,
    JSON_INFER,
    LEAST_REQUESTS,
    NATIVE,
    ONE_PROCESS,
    OURS,
    RAY,
    ROUND_ROBIN,
    Balancers,
    Bench,
    Files,
    Memory,
    Overload,
    Peers,
    Protocols,
    Result,
)


class Goal(NamedTuple):
    """A measured number with a required value `need` and a target `aim`: lower limits, or upper ones with `at_most`."""

    what: str
    measured: float
    shown: str
    need: float
    aim: float
    unit: str = ""
    at_most: bool = False

    def cells(self) -> list[str]:
        """Return the row of the table."""
        met = self.measured <= self.need if self.at_most else self.measured >= self.need
        need, aim = (f"{'≤' if self.at_most else '≥'} {bound:g}{self.unit}" for bound in (self.need, self.aim))
        measured = f"**{number(self.measured)}{self.unit}**{'' if met else ' (missed)'}"
        return [self.what, measured, self.shown, need, aim]


def speed_goals(found: Bench) -> Iterator[Goal]:
    """Compare the service with its ceilings.

    Where the runtime computes faster, the other work of a batch is more of the whole.
    """
    raw_need, raw_aim = (0.86, 0.92) if found.machine.vector_instructions == "AVX-512" else (0.72, 0.75)
    for what, name, ceiling, need, aim in (
        ("single events, 32 connections, over bare uvicorn", "single-32", "bare", 2, 2.6),
        ("single events, 1 connection, over bare uvicorn", "single-1", "bare", 0.85, 0.95),
        ("raw, batches of 10 k, over in process", "raw-10k", "in process", raw_need, raw_aim),
        ("raw, batches of 100 k, over in process", "raw-100k", "in process", 0.8, 0.9),
        ("MessagePack binary, 10 k, over in process", "msgpack-binary-10k", "in process", 0.75, 0.9),
        ("JSON, batches of 10 k, over in process", "json-10k", "in process", 0.5, 0.6),
        ("JSON, 10 k, over plain decoding", "json-10k", "plain", 2.3, 3.5),
    ):
        case = found.cases[name]
        own, other = case.median.requests_per_s, found.ceiling(case, ceiling) or float("nan")
        shown = f"{rate(own * case.events, 'events/s')} to {rate(other * case.events)}"
        yield Goal(what, own / other, shown, need, aim)
    for beside, need, aim in zip(found.beside, (5, 30), (2, 10), strict=True):
        what = f"single events beside {found.cases[beside.batch].fmt} of 100 k: 99 % within"
        shown = f"{rate(beside.batch_events_per_s, 'events/s')} beside"
        yield Goal(what, beside.latency.p99_ms, shown, need, aim, " ms", at_most=True)


def memory_goals(found: Memory) -> Iterator[Goal]:
    """Compare the peak of the memory with its limit."""
    shown = f"{found.idle_mb:.0f} MB idle"
    yield Goal("memory under bodies of 64 MiB", found.peak_mb, shown, 400, 250, " MB", at_most=True)


def peer_goals(found: Peers) -> Iterator[Goal]:
    """Compare the service with Bun, the closest peer in small requests, and with the best peer in large ones."""
    bun = {"bun"} & found.peers.keys()
    yield from _cheaper(found, bun, "single-32", 0.9, 0.7)
    yield from _faster(found, bun, "single-1", 1.05, 1.2)
    for size in ("10", "100", "1k"):
        yield from _cheaper(found, bun, f"binary-{size}", 0.95, 0.85)
    for size in ("10", "100"):
        yield from _cheaper(found, bun, f"json-{size}", 0.7, 0.5)
    others = found.peers.keys() - {OURS}
    yield from _cheaper(found, others, "binary-10k", 0.95, 0.9)
    yield from _faster(found, others, "json-10k", 1.6, 2)


def _cheaper(found: Peers, others: Iterable[str], name: str, need: float, aim: float) -> Iterator[Goal]:
    """Compare the processor time per request with the lowest of the peers."""
    costs = {key: cost for key, case in _cases(found, name).items() if (cost := case.cpu_us_per_request) is not None}
    best = min(costs.keys() & others, key=costs.__getitem__, default=None)
    if best is not None and OURS in costs:
        what = f"{name}: processor time over that of {found.peers[best].name}"
        shown = f"{number(costs[OURS])} µs a request to {number(costs[best])}"
        yield Goal(what, costs[OURS] / costs[best], shown, need, aim, at_most=True)


def _faster(found: Peers, others: Iterable[str], name: str, need: float, aim: float) -> Iterator[Goal]:
    """Compare the rate with the highest of the peers."""
    rates = {key: case.median.events_per_s for key, case in _cases(found, name).items()}
    best = max(rates.keys() & others, key=rates.__getitem__, default=None)
    if best is not None and OURS in rates:
        what = f"{name}: rate over that of {found.peers[best].name}"
        shown = f"{rate(rates[OURS], 'events/s')} to {rate(rates[best])}"
        yield Goal(what, rates[OURS] / rates[best], shown, need, aim)


def _cases(found: Peers, name: str) -> dict[str, CaseResult]:
    """Return the case of this name of each peer that has it."""
    return {key: peer.cases[name] for key, peer in found.peers.items() if name in peer.cases}


def overload_goals(found: Overload) -> Iterator[Goal]:
    """Compare the throughput under overload with the capacity, and the latency of refusals with its limit."""
    for name, case in found.cases.items():
        median = case.median
        for behaviour, run in median.items():
            if behaviour != CAPACITY:
                what = f"{name} at {found.times} times the load, {behaviour}, over capacity"
                full = number(median[CAPACITY].accepted_events_per_s)
                shown = f"{number(run.accepted_events_per_s)} events/s of {full}"
                yield Goal(what, case.to_capacity(behaviour), shown, 0.9, 0.95)
        if after := median.get(AFTER_RETRY_AFTER):
            what = f"{name}: 99 % of refusals within, clients wait for Retry-After"
            yield Goal(what, after.refused_p99_ms, f"{after.refused_per_s:.0f}/s refused", 100, 10, " ms", at_most=True)


def protocol_goals(found: Protocols) -> Iterator[Goal]:
    """Compare each protocol with the native one."""
    single, large = found.medians("single-32"), found.medians("raw-10k")
    for what, medians, protocol, need, aim in (
        ("single events over /v2 in JSON", single, JSON_INFER, 1.4, 1.2),
        ("single events over /v2 in binary", single, BINARY_INFER, 1.4, 1.2),
        ("batches of 10 k over /v2 in binary", large, BINARY_INFER, 1.1, 1.05),
    ):
        cost, native = medians[protocol].cpu_us_per_request, medians[NATIVE].cpu_us_per_request
        shown = f"{number(cost)} µs a request to {number(native)}"
        yield Goal(f"{what}: processor time over native", cost / native, shown, need, aim, at_most=True)
    calls = single[GRPC].requests_per_s
    yield Goal("single events over gRPC, 32 streams", calls / 1e3, "one core", 4, 6, " k/s")
    calls, native = large[GRPC].requests_per_s, large[NATIVE].requests_per_s
    shown = f"{number(calls)} calls/s to {number(native)}"
    yield Goal("batches of 10 k over gRPC: rate over native raw", calls / native, shown, 0.8, 0.9)


def balancer_goals(found: Balancers) -> Iterator[Goal]:
    """Compare the latencies by requests in progress with those of one server after the other, at the higher load."""
    for balancer, loads in found.runs.items():
        load = max(loads, key=float)
        medians = found.medians(balancer, load)
        least, robin = medians[LEAST_REQUESTS].p99_ms, medians[ROUND_ROBIN].p99_ms
        what = f"{balancer}, one of two servers slower: 99 % by least requests over round robin"
        yield Goal(what, least / robin, f"{number(least)} ms to {number(robin)}", 0.5, 0.25, at_most=True)


def files_goals(found: Files) -> Iterator[Goal]:
    """Compare all cores with one process, and the engines with the processes."""
    for way, other, need, aim in (
        (ALL_CORES, ONE_PROCESS, 1.7, 1.9),
        (DASK, ALL_CORES, 0.85, 0.95),
        (RAY, ALL_CORES, 0.85, 0.95),
    ):
        shown = f"{rate(found.events_per_s(way), 'events/s')} to {rate(found.events_per_s(other))}"
        what = f"many files by {way}, after start-up: rate over {other}"
        yield Goal(what, found.over(way, other), shown, need, aim)


GOALS: dict[type[Result], Callable[[Any], Iterator[Goal]]] = {
    Bench: speed_goals,
    Memory: memory_goals,
    Peers: peer_goals,
    Overload: overload_goals,
    Protocols: protocol_goals,
    Balancers: balancer_goals,
    Files: files_goals,
}


def goal_table(found: Result) -> str:
    """Return a row for each goal of a result."""
    goals = [goal.cells() for goal in GOALS[type(found)](found)]
    return table(["", "measured", "", "at least", "aim"], goals, "lrlrr")

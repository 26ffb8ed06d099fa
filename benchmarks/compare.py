"""The cases in turns: rates, latencies, processor time and memory, and the ratios to the ceilings.

It does not know what the cases are.
"""

import os
import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from benchmarks import process, wrk
from benchmarks.cases import Case, WrongAnswerError
from benchmarks.in_process import Runtime
from benchmarks.results import InProcess, Measured, Turn, median_of
from benchmarks.stage import Stage

ROUNDS, OTHER_ROUNDS = 7, 2
MAIN = (
    *("bare-single-32", "single-32", "json-10k", "plain-json-10k"),
    *("msgpack-binary-10k", "raw-10k", "raw-100k"),
)
"""The cases that must reach something: they get all rounds, the others some."""
LARGE_BODY = 10_000_000
"""Bodies from this size on get two seconds instead of one: a second would see but a few of them."""


def compare(stage: Stage) -> tuple[InProcess, dict[str, Measured]]:
    """Measure the runtime and all cases in alternating turns, and relate them."""
    runtime = Runtime(stage.artefact, stage.events)
    in_process: dict[str, list[float]] = defaultdict(list)
    turns: dict[str, list[Turn]] = defaultdict(list)
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}", flush=True)
        with on_core(stage.server_core):
            for name, rate in runtime.turn().items():
                in_process[name].append(rate)
        for name, case in stage.cases.items():
            if name in MAIN or number < OTHER_ROUNDS:
                turns[name].append(take_turn(stage, case))
    ceiling = sum_up_runtime(in_process)
    measured = {name: sum_up(stage.cases[name], stage, turns[name]) for name in stage.cases}
    return ceiling, relate(measured, ceiling.events_per_s)


def take_turn(stage: Stage, case: Case) -> Turn:
    """Load the case's server for a second or two; raises WrongAnswerError for any reply that is not the right one."""
    url, pid = stage.servers[case.server]
    reply = case.check(url)
    process.forget_peak(pid)
    cpu = process.cpu_seconds(pid)
    load = wrk.fire(
        url,
        case.path,
        case.headers,
        case.body,
        connections=case.connections,
        seconds=2 if len(case.body) >= LARGE_BODY else 1,
        core=stage.load_core,
    )
    cpu = process.cpu_seconds(pid) - cpu
    peak_mb = process.peak_mb(pid)
    case.check(url)
    fault = load.fault(reply.size, case.connections)
    if fault:
        raise WrongAnswerError(f"{case.name}: {fault}")
    n_events = len(case.scores)
    return Turn(
        requests_per_s=load.requests_per_s,
        events_per_s=load.requests_per_s * n_events,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        p999_ms=load.p999_ms,
        cpu_s_per_million_events=cpu / (load.requests * n_events) * 1e6,
        peak_mb=peak_mb,
    )


def sum_up_runtime(turns: dict[str, list[float]]) -> InProcess:
    """Take the medians of the runtime's rates, and find the best."""
    medians = {name: statistics.median(rates) for name, rates in turns.items()}
    return InProcess(dict(turns), medians, best=max(medians, key=medians.__getitem__))


def sum_up(case: Case, stage: Stage, turns: list[Turn]) -> Measured:
    """Put a case's turns together."""
    return Measured(
        name=case.name,
        server=case.server,
        fmt=case.fmt.name,
        events=len(case.scores),
        connections=case.connections,
        body_bytes=len(case.body),
        reply_bytes=case.check(stage.servers[case.server].url).size,
        turns=turns,
        median=median_of(turns),
    )


def relate(measured: dict[str, Measured], ceiling: float) -> dict[str, Measured]:
    """Set each case of the service's beside the bare server, plain decoding and the runtime, where it has them."""

    def over(one: Measured, other: str) -> float | None:
        if other not in measured:
            return None
        return one.median.requests_per_s / measured[other].median.requests_per_s

    return {
        name: msgspec.structs.replace(
            one,
            to_bare=over(one, f"bare-{name}"),
            to_plain=over(one, f"plain-{name}"),
            to_in_process=one.median.events_per_s / ceiling if one.events > 1 else None,
        )
        for name, one in measured.items()
    }


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run the block on a core, and then where this process ran before."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)

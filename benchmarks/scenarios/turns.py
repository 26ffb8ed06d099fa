"""The service and its ceilings in alternating turns: rates, latencies, processor time and memory."""

import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.load.scoring import read_sample
from benchmarks.report import machine
from benchmarks.report.measurements import InProcess, Measured, Turn
from benchmarks.report.results import median_of
from benchmarks.scenarios.cases import Case, TargetName, ceiling_cases, service_cases
from benchmarks.targets.in_process import Runtime
from benchmarks.targets.launcher import Server, serving
from benchmarks.targets.processes import forget_peak, peak_mb
from benchmarks.targets.service import service_flags
from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer

OTHER_ROUNDS = 2
MAIN = (
    *("bare-single-32", "single-32", "json-10k", "plain-json-10k"),
    *("msgpack-binary-10k", "raw-10k", "raw-100k"),
)
"""The cases with goals: they get all rounds, the others at most OTHER_ROUNDS."""
LARGE_BODY = 10_000_000
"""Bodies from this size on get two seconds instead of one: a second would see but a few of them."""


@dataclass(frozen=True)
class Targets:
    """Three servers on one core, of which at most one is busy, the load's core, and the cases."""

    artefact: Artefact
    events: NDArray[np.float32]
    servers: dict[TargetName, Server]
    cases: dict[str, Case]
    server_core: int
    load_core: int


@contextmanager
def started(model: str) -> Iterator[Targets]:
    """Start the service, the same with plain decoding, and the bare server, until the end of the block.

    This process moves to the load's core. Raises WrongAnswerError if a response of the service is wrong.
    """
    server_core, load_core = machine.cores()
    os.sched_setaffinity(0, {load_core})
    artefact = load_artefact(model)
    events = read_sample(artefact.n_features)
    cases = list(service_cases(Scorer(artefact), events))
    ceilings = list(ceiling_cases(cases))
    with ExitStack() as stack, tempfile.NamedTemporaryFile(prefix="responses-") as responses:

        def start(module: str, *flags: str) -> Server:
            return stack.enter_context(serving(module, *flags, cores=[server_core]))

        service = start("service", *service_flags(model))
        plain = start("benchmarks.targets.plain_decoding", *service_flags(model))
        bare = {case.path for case in ceilings if case.target == "bare"}
        fixed = {path: _fixed(case, service) for case in cases if (path := f"/{case.name}") in bare}
        responses.write(msgspec.msgpack.encode(fixed))
        responses.flush()
        servers: dict[TargetName, Server] = {
            "service": service,
            "plain": plain,
            "bare": start("benchmarks.targets.bare_uvicorn", responses.name),
        }
        by_name = {case.name: case for case in (*cases, *ceilings)}
        yield Targets(artefact, events, servers, by_name, server_core, load_core)


def _fixed(case: Case, service: Server) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Ask the service for the response that the bare server is to send; the date is each server's own."""
    response = case.check(service.base_url)
    headers = [(name.encode(), value.encode()) for name, value in response.headers.items() if name != "date"]
    return headers, response.body


def alternate(targets: Targets, rounds: int) -> tuple[InProcess, dict[str, Measured]]:
    """Measure the runtime and all cases in alternating turns, and compare them."""
    runtime = Runtime(targets.artefact, targets.events)
    in_process: dict[str, list[float]] = defaultdict(list)
    turns: dict[str, list[Turn]] = defaultdict(list)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        with on_core(targets.server_core):
            for name, rate in runtime.turn().items():
                in_process[name].append(rate)
        for name, case in targets.cases.items():
            if name in MAIN or number < OTHER_ROUNDS:
                turns[name].append(take_turn(targets, case))
    ceiling = sum_up_runtime(in_process)
    return ceiling, compare([sum_up(case, turns[name]) for name, case in targets.cases.items()], ceiling.events_per_s)


def take_turn(targets: Targets, case: Case) -> Turn:
    """Load the case's server for a second or two; raises WrongAnswerError for a response that is not the right one."""
    server, n_events = targets.servers[case.target], len(case.scores)
    forget_peak(server.pid)
    run, cpu_s = case.fire(server, 2 if len(case.request.body) >= LARGE_BODY else 1, targets.load_core)
    return Turn(
        requests_per_s=run.requests_per_s,
        events_per_s=run.requests_per_s * n_events,
        p50_ms=run.p50_ms,
        p99_ms=run.p99_ms,
        p999_ms=run.p999_ms,
        cpu_s_per_million_events=cpu_s / (run.requests * n_events) * 1e6,
        peak_mb=peak_mb(server.pid),
    )


def sum_up_runtime(turns: dict[str, list[float]]) -> InProcess:
    """Take the medians of the runtime's rates, and find the best."""
    medians = {name: statistics.median(rates) for name, rates in turns.items()}
    return InProcess(dict(turns), medians, best=max(medians, key=medians.__getitem__))


def sum_up(case: Case, turns: list[Turn]) -> Measured:
    """Put a case's turns together."""
    fmt, n_events = case.request.fmt.name, len(case.scores)
    return Measured(case.name, case.target, fmt, n_events, case.connections, turns, median_of(turns))


def compare(listed: list[Measured], ceiling: float) -> dict[str, Measured]:
    """Compare each case with the bare server, plain decoding and the runtime, where they have it."""
    measured = {one.name: one for one in listed}

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

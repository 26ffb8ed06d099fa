"""The service and its ceilings on one core, in alternating runs: plain decoding, bare uvicorn, the runtime alone."""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import msgspec

from benchmarks.load.open_loop import Arrivals, offer
from benchmarks.report import machine
from benchmarks.report.measurements import CaseResult, CaseRun, Latency
from benchmarks.scenarios.cases import BARE_EVENTS, NAMES, PLAIN, Case, TargetName, Workload, bare, each_round, plain
from benchmarks.targets.in_process import Runtime
from benchmarks.targets.launcher import Server, serving
from benchmarks.targets.service import service

GOALS = (
    *("bare-single-1", "single-1", "bare-single-32", "single-32", "json-10k", "plain-json-10k"),
    *("msgpack-binary-10k", "raw-10k", "raw-100k"),
)
"""The cases with goals, which have all rounds; others have at most OTHER_ROUNDS."""
OTHER_ROUNDS = 2
LARGE_BODY = 10_000_000
"""Larger bodies are measured for two seconds instead of one, in which only a few would be sent."""


@dataclass(frozen=True)
class Targets:
    """Three servers on one core, of which at most one is busy, the load's core, and the cases."""

    workload: Workload
    servers: dict[TargetName, Server]
    cases: dict[str, Case]
    server_core: int
    load_core: int

    def measure(self, name: str) -> CaseRun:
        """Load the server of a case for one or two seconds. Raises WrongAnswerError for a wrong response."""
        case = self.cases[name]
        seconds = 2 if len(case.request.body) >= LARGE_BODY else 1
        return case.measure(self.servers[case.target], seconds, self.load_core)

    def offer(self, name: str, connections: int, requests_per_s: float, seconds: float) -> Latency:
        """Offer a case to its server at a fixed rate."""
        case = self.cases[name]
        url = self.servers[case.target].base_url
        request = case.exchange(url).request
        return offer([url], request, Arrivals.evenly(requests_per_s, seconds), connections=connections)


@contextmanager
def started(model: str) -> Iterator[Targets]:
    """Start the service, the same with plain decoding, and the bare server, until the end of the block.

    Raises WrongAnswerError if a response of the service is wrong.
    """
    server_core, load_core = machine.split_cores()
    workload = Workload(model)
    cases = [workload.case(name) for name in NAMES]
    fixed = [case for case in cases if len(case.scores) <= BARE_EVENTS]
    ceilings = [*map(bare, fixed), *(plain(case) for case in cases if case.name == PLAIN)]
    with ExitStack() as stack, tempfile.NamedTemporaryFile(prefix="responses-") as responses:
        own = stack.enter_context(service(model, cores=[server_core]))
        decoding = service(model, cores=[server_core], module="benchmarks.targets.plain_decoding")
        responses.write(msgspec.msgpack.encode({f"/{case.name}": fixed_response(case, own) for case in fixed}))
        responses.flush()
        alone = serving("benchmarks.targets.bare_uvicorn", responses.name, cores=[server_core])
        servers: dict[TargetName, Server] = {
            "service": own,
            "plain": stack.enter_context(decoding),
            "bare": stack.enter_context(alone),
        }
        yield Targets(workload, servers, {case.name: case for case in (*cases, *ceilings)}, server_core, load_core)


def fixed_response(case: Case, server: Server) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Ask the service for the response that the bare server is to send; the date is each server's own."""
    response = case.check(server.base_url)
    headers = [(name.encode(), value.encode()) for name, value in response.headers.items() if name != "date"]
    return headers, response.body


@dataclass(frozen=True)
class RuntimeRuns:
    """Of each round, events/s by the way of calling the runtime, and its operations/s in a large matrix product."""

    events_per_s: dict[str, list[float]]
    peak_flop_per_s: list[float]


def measure_all(targets: Targets, rounds: int) -> tuple[RuntimeRuns, dict[str, CaseResult]]:
    """Measure the runtime and all cases in alternation."""
    runtime = Runtime(targets.workload.scorer, targets.workload.events)
    in_process = RuntimeRuns(defaultdict(list), [])
    runs: dict[str, list[CaseRun]] = defaultdict(list)
    for number in each_round(rounds):
        os.sched_setaffinity(0, {targets.server_core})
        for name, events_per_s in runtime.measure().items():
            in_process.events_per_s[name].append(events_per_s)
        in_process.peak_flop_per_s.append(runtime.measure_peak())
        os.sched_setaffinity(0, {targets.load_core})
        for name in targets.cases:
            if name in GOALS or number < OTHER_ROUNDS:
                runs[name].append(targets.measure(name))
    return in_process, {name: case.result(case.target, runs[name]) for name, case in targets.cases.items()}

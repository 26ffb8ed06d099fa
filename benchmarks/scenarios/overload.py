"""Four times as many clients as the service admits: the rate of admitted requests, and the latency of refusals.

One worker runs on one core, all clients on another; every response is checked.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from benchmarks.load.closed_calls import Call, ClosedCalls
from benchmarks.load.closed_loop import ClosedLoop, Load, drive
from benchmarks.load.connection import Request, encode, get
from benchmarks.load.formats import Route
from benchmarks.load.open_loop import undisturbed
from benchmarks.load.outcomes import Outcome
from benchmarks.load.scoring import WrongAnswerError
from benchmarks.load.tensors import BINARY_TENSOR, INFER, MODEL
from benchmarks.report import machine
from benchmarks.report.measurements import AFTER_RETRY_AFTER, AT_ONCE, CAPACITY, Overloaded, OverloadRun
from benchmarks.report.results import Overload
from benchmarks.scenarios.cases import ROUTES, Case, Workload, each_round
from benchmarks.scenarios.grpc_cases import GrpcCase
from benchmarks.targets.launcher import Server
from benchmarks.targets.processes import cpu_seconds
from benchmarks.targets.service import service
from service.errors import RETRY_AFTER_S
from service.settings import Settings

TIMES: Final = 4
RUN_S: Final = {CAPACITY: (0.25, 0.8), AT_ONCE: (0.25, 0.8), AFTER_RETRY_AFTER: (2 * RETRY_AFTER_S, 1.0)}
"""Seconds of warm-up and of measurement. Clients that wait for Retry-After are refused during the warm-up."""
ROOM: Final = {
    "raw-10k": 10,
    "json-1k": 40,
    "json-10k": 5,
    "single-32": 32,
    "v2-10k": 10,
    "grpc-10k": 10,
    "grpc-single-32": 32,
}
"""The number of requests of a case admitted at a time: 20 ms of work, or 1 ms for single events over HTTP."""
V2: Final = Route(BINARY_TENSOR, INFER)
CONNECTIONS: Final = 16_384
"""Higher than the default limit, so that the service refuses requests and not connections."""
PROBES: Final = 2
PROBE_PAUSE_S: Final = 0.01
SETTLE_S: Final = 0.1


@dataclass(frozen=True)
class Setting:
    """A case, the service that has room for so many of its requests, and what the probes beside its clients send."""

    case: Case | GrpcCase
    server: Server
    room: int
    max_inflight_events: int
    clients: Callable[..., ClosedLoop | ClosedCalls]
    """Makes clients of the case."""
    probes: Sequence[Request]
    """One event, and /health."""


def run(model: str, rounds: int) -> Overload:
    """Measure all cases and behaviours in alternating runs; raises RuntimeError or OSError for a bad response."""
    provenance = machine.provenance()
    server_core, _ = machine.split_cores()
    workload = Workload(model)
    with ExitStack() as stack:
        settings = {name: prepare(stack, workload, name, server_core) for name in ROOM}
        cases = {name: Overloaded(setting.max_inflight_events, {}) for name, setting in settings.items()}
        for _ in each_round(rounds):
            for name, setting in settings.items():
                for behaviour, measured in measure_behaviours(setting):
                    cases[name].runs.setdefault(behaviour, []).append(measured)
    return Overload(**provenance, model=workload.artefact.identity, times=TIMES, cases=cases)


def prepare(stack: ExitStack, workload: Workload, name: str, core: int) -> Setting:
    """Start a service with room for the case's requests, and half of one more that small ones beside may have."""
    over_grpc, room = name.startswith("grpc"), ROOM[name]
    case = GrpcCase.of(workload, name) if over_grpc else workload.case(name, {**ROUTES, "v2": V2})
    n_events = len(case.scores)
    limit = room * n_events + n_events // 2
    settings = Settings(workers=1, max_inflight_events=limit, max_connections=CONNECTIONS, served_name=MODEL)
    if over_grpc:
        settings = structs.replace(settings, grpc_port=0)
    server = stack.enter_context(service(workload.model, cores=[core], settings=settings))
    url = server.base_url
    single = workload.case("single-1").exchange(url).request
    health = Request.exact("health", encode(url, "GET", "/health"), get(url, "/health").body)
    return Setting(case, server, room, limit, clients_of(case, server), (single, health))


def clients_of(case: Case | GrpcCase, server: Server) -> Callable[..., ClosedLoop | ClosedCalls]:
    """Check the response to a case once, and give what makes its clients."""
    if isinstance(case, Case):
        return partial(ClosedLoop, server.base_url, [case.exchange(server.base_url).request])
    call = Call(case.name, case.body, case.check(server.grpc_address))
    return partial(ClosedCalls, server.grpc_address, call)


def measure_behaviours(setting: Setting) -> Iterator[tuple[str, OverloadRun]]:
    """Measure with as many clients as there is room for, and with four times the load in two behaviours."""
    capacity = measure(setting, CAPACITY, setting.room)
    yield CAPACITY, capacity
    yield AT_ONCE, measure(setting, AT_ONCE, TIMES * setting.room)
    if len(setting.case.scores) > 1:
        per_s = capacity.accepted_events_per_s / len(setting.case.scores)
        resting = round((TIMES - 1) * per_s * RETRY_AFTER_S)
        yield AFTER_RETRY_AFTER, measure(setting, AFTER_RETRY_AFTER, setting.room + resting)


def measure(setting: Setting, behaviour: str, connections: int) -> OverloadRun:
    """Run `connections` clients, with a few probes that request health and one event."""
    waits = behaviour == AFTER_RETRY_AFTER
    begin_within_s = RETRY_AFTER_S if waits else 0
    batches = setting.clients(clients=connections, obey_retry_after=waits, begin_within_s=begin_within_s)
    single, health = (
        ClosedLoop(setting.server.base_url, [probe], clients=PROBES, pause_s=PROBE_PAUSE_S) for probe in setting.probes
    )
    warming_s, seconds = RUN_S[behaviour]
    with undisturbed():
        busy_s, started = time.process_time(), time.perf_counter()
        drive_together(batches, [single, health], warming_s + seconds)
        busy = (time.process_time() - busy_s) / (time.perf_counter() - started)
    settle(setting.server)
    require_right(batches, single, health)

    def latencies(loop: Load, outcome: Outcome = Outcome.ANSWERED) -> NDArray[np.float64]:
        return loop.record.latencies_ms(outcome, warming_s, warming_s + seconds)

    accepted, refused = latencies(batches), latencies(batches, Outcome.REFUSED)
    singles, singles_refused = latencies(single), latencies(single, Outcome.REFUSED)
    return OverloadRun(
        connections=connections,
        accepted_events_per_s=len(accepted) * len(setting.case.scores) / seconds,
        accepted_p50_ms=percentile(accepted, 50),
        accepted_p99_ms=percentile(accepted, 99),
        refused_per_s=len(refused) / seconds,
        refused_p50_ms=percentile(refused, 50),
        refused_p99_ms=percentile(refused, 99),
        single_p99_ms=percentile(singles, 99),
        singles_refused=len(singles_refused) / max(1, len(singles) + len(singles_refused)),
        health_p99_ms=percentile(latencies(health), 99),
        client_busy=busy,
    )


def drive_together(clients: ClosedLoop | ClosedCalls, probes: Sequence[ClosedLoop], seconds: float) -> None:
    """Run clients of a case and probes for some seconds."""
    ends_s = time.perf_counter() + seconds
    if isinstance(clients, ClosedLoop):
        drive([clients, *probes], lambda: time.perf_counter() < ends_s)
    else:
        with clients:
            drive(probes, lambda: time.perf_counter() < ends_s)


def require_right(*loops: Load) -> None:
    """Raise WrongAnswerError unless each request was answered rightly or refused with Retry-After."""
    for loop in loops:
        report = loop.report()
        if report.begun != report.outcomes[Outcome.ANSWERED] + report.outcomes[Outcome.REFUSED]:
            raise WrongAnswerError(f"not all were answered or refused: {report}")


def settle(server: Server) -> None:
    """Wait until a server has put away what its clients left behind: the next run has its core."""
    before = -1.0
    while (now := cpu_seconds(server.processes())) != before:
        before = now
        time.sleep(SETTLE_S)


def percentile(latencies_ms: NDArray[np.float64], percent: float) -> float:
    """Return a percentile of latencies; 0 if there are none."""
    return float(np.percentile(latencies_ms, percent)) if len(latencies_ms) else 0.0

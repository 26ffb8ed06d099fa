"""The same events over each protocol of the service: the server has one core and the load another."""

import math
from collections.abc import Callable
from typing import Final

from benchmarks.load.formats import JSON, RAW, Route
from benchmarks.load.tensors import BINARY_TENSOR, INFER, MODEL, TENSOR
from benchmarks.report import machine
from benchmarks.report.measurements import ProtocolRun
from benchmarks.report.results import BINARY_INFER, GRPC, JSON_INFER, NATIVE, Protocols
from benchmarks.scenarios.cases import Case, Workload, each_round
from benchmarks.scenarios.grpc_cases import GrpcCase
from benchmarks.targets.launcher import Server
from benchmarks.targets.service import service
from service.settings import Settings

SECONDS: Final = 2
OPEN_INFERENCE: Final = {JSON_INFER: Route(TENSOR, INFER), BINARY_INFER: Route(BINARY_TENSOR, INFER)}
CASES: Final = {
    "single-32": {NATIVE: Route(JSON, "/score"), **OPEN_INFERENCE},
    "raw-10k": {NATIVE: Route(RAW, "/score/batch"), **OPEN_INFERENCE},
}
CALLS: Final = {"single-32": "grpc-single-32", "raw-10k": "grpc-10k"}
"""The case over gRPC, with as many calls at once as there are connections over HTTP."""

Measure = Callable[[], ProtocolRun]


def run(model: str, rounds: int) -> Protocols:
    """Measure each case over all protocols, in alternation; raises RuntimeError for a wrong response."""
    provenance = machine.provenance()
    server_core, load_core = machine.split_cores()
    workload = Workload(model)
    settings = Settings(workers=1, grpc_port=0, served_name=MODEL)
    with service(model, cores=[server_core], settings=settings) as server:
        measures: dict[str, dict[str, Measure]] = {}
        for name, routes in CASES.items():
            kind = name.partition("-")[0]
            cases: dict[str, Case | GrpcCase] = {
                protocol: workload.case(name, {kind: route}) for protocol, route in routes.items()
            }
            cases[GRPC] = GrpcCase.of(workload, CALLS[name])
            measures[name] = {protocol: measure_of(case, server, load_core) for protocol, case in cases.items()}
        runs: dict[str, dict[str, list[ProtocolRun]]] = {
            name: {protocol: [] for protocol in protocols} for name, protocols in measures.items()
        }
        for _ in each_round(rounds):
            for name, protocols in measures.items():
                for protocol, measure in protocols.items():
                    runs[name][protocol].append(measure())
    return Protocols(**provenance, model=workload.artefact.identity, rounds=rounds, seconds=SECONDS, cases=runs)


def measure_of(case: Case | GrpcCase, server: Server, core: int) -> Measure:
    """Make what loads the server with a case once; it raises WrongAnswerError for a wrong response."""

    def measure() -> ProtocolRun:
        found = case.measure(server, SECONDS, core)
        used_us = found.cpu_s_per_million_events or math.nan
        return ProtocolRun(found.requests_per_s, used_us * len(case.scores))

    return measure

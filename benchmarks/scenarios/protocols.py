"""The same events over each protocol of the service: the server has one core and the load another."""

import math
from collections.abc import Callable
from typing import Final

import grpc
import numpy as np

from benchmarks.load import h2load
from benchmarks.load.formats import JSON, RAW, Route
from benchmarks.load.scoring import WrongAnswerError
from benchmarks.load.tensors import BINARY_TENSOR, INFER, MODEL, TENSOR
from benchmarks.report import machine
from benchmarks.report.measurements import ProtocolRun
from benchmarks.report.results import BINARY_INFER, GRPC, JSON_INFER, NATIVE, Protocols
from benchmarks.scenarios.cases import Case, Workload, each_round
from benchmarks.targets.launcher import Server
from benchmarks.targets.processes import cpu_seconds
from benchmarks.targets.service import service
from service.api.open_inference.grpc_calls import INFER as CALL
from service.api.open_inference.messages import message
from service.settings import Settings

SECONDS: Final = 2
OPEN_INFERENCE: Final = {JSON_INFER: Route(TENSOR, INFER), BINARY_INFER: Route(BINARY_TENSOR, INFER)}
CASES: Final = {
    "single-32": {NATIVE: Route(JSON, "/score"), **OPEN_INFERENCE},
    "raw-10k": {NATIVE: Route(RAW, "/score/batch"), **OPEN_INFERENCE},
}
STREAMS: Final = {"single-32": (2, 16), "raw-10k": (4, 1)}
"""On how many connections, and streams of each, gRPC has a case: as many calls at once as over HTTP."""

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
            cases = {protocol: workload.case(name, {kind: route}) for protocol, route in routes.items()}
            measures[name] = {protocol: over_http(case, server, load_core) for protocol, case in cases.items()}
            measures[name][GRPC] = over_grpc(cases[NATIVE], server, load_core)
        runs: dict[str, dict[str, list[ProtocolRun]]] = {
            name: {protocol: [] for protocol in protocols} for name, protocols in measures.items()
        }
        for _ in each_round(rounds):
            for name, protocols in measures.items():
                for protocol, measure in protocols.items():
                    runs[name][protocol].append(measure())
    return Protocols(**provenance, model=workload.artefact.identity, rounds=rounds, seconds=SECONDS, cases=runs)


def over_http(case: Case, server: Server, core: int) -> Measure:
    """Load a case with wrk."""

    def measure() -> ProtocolRun:
        found = case.measure(server, SECONDS, core)
        used_us = found.cpu_s_per_million_events or math.nan
        return ProtocolRun(found.requests_per_s, used_us * len(case.scores))

    return measure


def over_grpc(case: Case, server: Server, core: int) -> Measure:
    """Load a case with h2load; raises WrongAnswerError where its scores are not the model's."""
    address = server.wait_for("ready")["grpc_address"]
    events = case.request.events.astype(np.float32)
    request = message("inference.ModelInferRequest")(model_name=MODEL, raw_input_contents=[events.tobytes()])
    request.inputs.add(name="features", datatype="FP32", shape=events.shape)
    body = request.SerializeToString()
    with grpc.insecure_channel(address) as channel:
        content = channel.unary_unary(CALL)(body)
    response = message("inference.ModelInferResponse").FromString(content)
    if not np.array_equal(np.frombuffer(response.raw_output_contents[0], "<f4"), case.scores):
        raise WrongAnswerError(f"{case.name}: other scores over gRPC, expected those of the model")
    connections, streams = STREAMS[case.name]

    def measure() -> ProtocolRun:
        pids = server.processes()
        before_s = cpu_seconds(pids)
        found = h2load.fire(
            address, CALL, body, len(content), connections=connections, streams=streams, seconds=SECONDS, core=core
        )
        return ProtocolRun(found.requests_per_s, (cpu_seconds(pids) - before_s) / found.requests * 1e6)

    return measure

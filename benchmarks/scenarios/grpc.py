"""Calls of gRPC beside the same requests over HTTP: the server has one core and the load another."""

from statistics import median

import grpc
import numpy as np

from benchmarks.load import h2load
from benchmarks.report import machine
from benchmarks.scenarios.cases import Case, Workload, each_round
from benchmarks.targets.service import service
from service.api.open_inference.grpc_calls import INFER
from service.api.open_inference.messages import message
from service.settings import Settings

SECONDS = 2
STREAMS = {"single-32": (2, 16), "raw-10k": (4, 1)}
"""On how many connections, and streams of each, a case is called: as many at once as over HTTP."""


def run(model: str, rounds: int) -> str:
    """Measure each case over both, in alternation, and sum up; raises RuntimeError for a wrong response."""
    server_core, load_core = machine.split_cores()
    workload = Workload(model)
    cases = [workload.case(name) for name in STREAMS]
    rates: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in STREAMS}
    with service(model, cores=[server_core], settings=Settings(workers=1, grpc_port=0)) as server:
        address = server.wait_for("ready")["grpc_address"]
        for _ in each_round(rounds):
            for case in cases:
                http, calls = rates[case.name]
                http.append(case.measure(server, SECONDS, load_core).requests_per_s)
                calls.append(measure(case, workload.artefact.metadata.model_name, address, load_core))
    lines = [f"{'case':10} {'HTTP':>10} {'gRPC':>10}  requests/s, medians of {rounds}"]
    for name, (http, calls) in rates.items():
        lines.append(f"{name:10} {median(http):10,.0f} {median(calls):10,.0f}  {median(calls) / median(http):.2f}")
    return "\n".join(lines)


def measure(case: Case, name: str, address: str, core: int) -> float:
    """Load gRPC with a case from a core, and give the calls a second; the scores are checked before."""
    events = case.request.events.astype(np.float32)
    request = message("inference.ModelInferRequest")(model_name=name, raw_input_contents=[events.tobytes()])
    request.inputs.add(name="features", datatype="FP32", shape=events.shape)
    body = request.SerializeToString()
    with grpc.insecure_channel(address) as channel:
        content = channel.unary_unary(INFER)(body)
    response = message("inference.ModelInferResponse").FromString(content)
    if not np.array_equal(np.frombuffer(response.raw_output_contents[0], "<f4"), case.scores):
        raise RuntimeError(f"{case.name}: other scores over gRPC, expected those of the model")
    connections, streams = STREAMS[case.name]
    found = h2load.fire(
        address, INFER, body, len(content), connections=connections, streams=streams, seconds=SECONDS, core=core
    )
    return found.requests_per_s

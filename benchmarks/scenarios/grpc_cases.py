"""Cases over gRPC: a call, the number of concurrent streams, and the expected scores.

`grpc-single-32` is one event in 32 concurrent calls, `grpc-10k` a batch of 10 000 events in raw float32.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import h2load
from benchmarks.load.calls import ask, write_call
from benchmarks.load.scoring import WrongAnswerError
from benchmarks.report.measurements import CaseResult, CaseRun, LoadRun
from benchmarks.report.results import GRPC
from benchmarks.scenarios.cases import BATCH_CONNECTIONS, SIZES, Target, Workload, measure_load
from service.api.open_inference.grpc_calls import INFER

MAX_STREAMS: Final = 16
"""The number of streams of a connection that our service allows by default."""


@dataclass(frozen=True)
class GrpcCase:
    """The same call on some streams of some connections, and the scores (n,) that each must get."""

    name: str
    body: bytes
    scores: NDArray[np.float32]
    connections: int
    streams: int

    @classmethod
    def of(cls, workload: Workload, name: str) -> "GrpcCase":
        """Return the case of that name."""
        kind, _, number = name.rpartition("-")
        single = kind == "grpc-single"
        events = workload.events[: 1 if single else SIZES[number]]
        in_flight = int(number) if single else BATCH_CONNECTIONS
        streams = min(in_flight, MAX_STREAMS) if single else 1
        return cls(name, write_call(events), workload.scorer.score(events), in_flight // streams, streams)

    @property
    def in_flight(self) -> int:
        """The number of concurrent calls."""
        return self.connections * self.streams

    def check(self, address: str) -> bytes:
        """Call once and return the response's message. Raises WrongAnswerError if its scores are wrong."""
        return ask(self.name, address, self.body, self.scores)

    def measure(self, target: Target, seconds: int, core: int) -> CaseRun:
        """Load a target with h2load from a core. Raises WrongAnswerError for a wrong response."""
        address = target.grpc_address
        size = len(self.check(address)) + h2load.PREFIX_BYTES

        def fire() -> LoadRun:
            run = h2load.fire(
                *(address, INFER, self.body),
                connections=self.connections,
                streams=self.streams,
                seconds=seconds,
                core=core,
            )
            if fault := run.fault(size, self.in_flight):
                raise WrongAnswerError(f"{self.name}, {self.in_flight} calls at once: {fault}")
            return run

        measured = measure_load(target, fire, len(self.scores))
        self.check(address)
        return measured

    def result(self, server: str, runs: list[CaseRun]) -> CaseResult:
        """Combine the runs on a server."""
        return CaseResult(self.name, server, GRPC, len(self.scores), self.in_flight, runs)

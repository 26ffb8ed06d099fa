"""Other servers for the same model compared with ours, under the same load in one run of about half an hour.

Each peer has its own environment, one worker and one core; the load generator (wrk, or h2load for gRPC) has the other
core. All peers are started at first, and all but the measured one are paused. Every score is checked before and after a
run, and every status during it.
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.load import h2load, wrk
from benchmarks.load.scoring import WrongAnswerError
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environment import install, installed_versions
from benchmarks.peers.process import PeerProcess, running
from benchmarks.report import machine
from benchmarks.report.measurements import CaseRun, PeerResult
from benchmarks.report.results import OURS, Peers
from benchmarks.scenarios.cases import Case, Workload, each_round
from benchmarks.scenarios.grpc_cases import GrpcCase

CASES = (
    "single-1",
    "single-32",
    *(f"{kind}-{size}" for kind in ("json", "binary") for size in ("10", "100", "1k", "10k")),
)
GRPC_CASES = ("grpc-single-1", "grpc-single-32", "grpc-10k")
START_S = 120
WARM_UP_S = 1
"""Duration of the warm-up of each case."""
LARGE_BODY_BYTES, LARGE_TIMES = 1_000_000, 3
"""Longer bodies are sent for three times as long, because some peers would serve few or none in a second."""


def run(model: str, names: Sequence[str], rounds: int, seconds: int) -> Peers:
    """Measure the peers of these names, or all, and our own service in alternation."""
    provenance = machine.provenance()
    wrk.find_program()
    h2load.find_program()
    cores = machine.split_cores()
    workload = Workload(str(Path(model).resolve()))
    with ExitStack() as stack:
        peers = [MeasuredPeer(name, workload, cores) for name in dict.fromkeys((OURS, *(names or PEERS)))]
        for peer in peers:
            print(f"{peer.key}: install, start, warm up", flush=True)
            stack.callback(peer.stop)
            peer.attempt(peer.start)
        for _ in each_round(rounds):
            for peer in peers:
                peer.attempt(partial(peer.measure, seconds))
    return Peers(
        **provenance,
        model=workload.artefact.identity,
        rounds=rounds,
        seconds=seconds,
        peers={peer.key: peer.result() for peer in peers},
    )


def duration_s(case: Case | GrpcCase, seconds: int) -> int:
    """Return the duration of the load of a case."""
    return seconds * LARGE_TIMES if len(case.body) > LARGE_BODY_BYTES else seconds


class MeasuredPeer:
    """A peer, its cases, its runs so far, and why it failed, if it did."""

    server: PeerProcess

    def __init__(self, key: str, workload: Workload, cores: tuple[int, int]) -> None:
        self.key = key
        self.peer = PEERS[key]
        self.failure: str | None = None
        # Sizes of heads differ if a response has a unique identifier.
        http = [replace(workload.case(name, self.peer.routes), same_size=False) for name in CASES]
        calls = [GrpcCase.of(workload, name) for name in GRPC_CASES if self.peer.speaks_grpc]
        self.cases: list[Case | GrpcCase] = [*http, *calls]
        self._runs: dict[str, list[CaseRun]] = {case.name: [] for case in self.cases}
        self._first = http[0]
        self._versions: dict[str, str] = {}
        self._model = workload.model
        self._core, self._load_core = cores
        self._stack = ExitStack()
        self.stop = self._stack.close

    def attempt(self, step: Callable[[], None]) -> None:
        """Run a step unless a previous one has failed; stop the peer on a failure."""
        if self.failure is None:
            try:
                step()
            except (RuntimeError, OSError) as error:
                self.failure = str(error)
                print(f"{self.key} FAILED: {error}", file=sys.stderr, flush=True)
                self.stop()

    def start(self) -> None:
        """Install and start the peer, wait until it responds, warm it up with each case, and pause it."""
        program = install(self.key, self.peer.packages, self.peer.interpreter)
        self._versions = installed_versions(program, self.peer.packages)
        self.server = self._stack.enter_context(running(self.key, self._model, self._core))
        self._wait_until_ready()
        for case in self.cases:
            case.measure(self.server, duration_s(case, WARM_UP_S), self._load_core)
        self.server.pause()

    def measure(self, seconds: int) -> None:
        """Run each case for `seconds`; raises RuntimeError for a refusal or a wrong score before, during or after."""
        self.server.proceed()
        self._wait_until_ready()  # its internal connections may have timed out during the pause
        for case in self.cases:
            self._runs[case.name].append(case.measure(self.server, duration_s(case, seconds), self._load_core))
        self.server.pause()

    def result(self) -> PeerResult:
        """Return the summary of the runs."""
        cases = {} if self.failure else {case.name: case.result(self.key, self._runs[case.name]) for case in self.cases}
        return PeerResult(self.peer.name, self.peer.notes, self._versions, self.failure, cases)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            self.server.require_running()
            try:
                self._first.check(self.server.base_url)
                return
            except (WrongAnswerError, OSError) as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"not ready after {START_S} s: {error}; see {self.server.log}") from error
            time.sleep(0.2)

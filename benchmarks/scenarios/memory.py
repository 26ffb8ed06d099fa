"""The memory of the service under the largest bodies of every format, with concurrent small requests."""

import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.load.background import Background
from benchmarks.load.scoring import largest_requests
from benchmarks.report import machine
from benchmarks.report.measurements import MemorySample
from benchmarks.report.results import Memory
from benchmarks.scenarios.cases import Case, Workload
from benchmarks.targets.launcher import Server
from benchmarks.targets.processes import peak_mb, resident_mb
from benchmarks.targets.service import service
from service.settings import Settings

LOAD = (
    "one client posts bodies of 64 MiB, JSON, MessagePack, MessagePack with binary events, raw and .npy in turn; "
    "another posts single events and batches of 10 and 10 k events in JSON, and of 1 k raw; neither pauses"
)
SMALL = ("single-1", "json-10", "raw-1k", "json-10k")


def run(model: str, minutes: float) -> Memory:
    """Load one worker and watch its memory; raises RuntimeError for a wrong answer, OSError for a lost connection."""
    provenance = machine.provenance()
    server_core, _ = machine.split_cores()
    workload = Workload(model)
    largest = largest_requests(workload.events, Settings().max_body_bytes)
    cases = {
        "large": [Case(one.name, one, workload.scorer.score(one.events), 1) for one in largest],
        "small": [workload.case(name) for name in SMALL],
    }
    with service(model, cores=[server_core]) as server:
        idle_mb, url = resident_mb(server.processes()), server.base_url
        loads = {name: Background(url, [case.exchange(url) for case in some]) for name, some in cases.items()}
        with ExitStack() as stack:
            for load in loads.values():
                stack.enter_context(load)
            samples = list(watch(server, minutes * 60))
        return Memory(
            **provenance,
            model=workload.artefact.identity,
            load=LOAD,
            responses={name: load.seen.responses for name, load in loads.items()},
            idle_mb=idle_mb,
            peak_mb=peak_mb(server.processes()),
            samples=samples,
        )


def watch(server: Server, seconds: float) -> Iterator[MemorySample]:
    """Look at the memory of a server every second."""
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        yield MemorySample(passed, resident_mb(server.processes()), peak_mb(server.processes()))
        time.sleep(1)

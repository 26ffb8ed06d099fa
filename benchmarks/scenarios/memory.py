"""The memory of the service under the largest bodies of every format, with small requests beside them."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.load.background import Background
from benchmarks.load.scoring import largest_requests, read_sample
from benchmarks.report import machine
from benchmarks.report.measurements import Sample
from benchmarks.report.results import Memory
from benchmarks.scenarios.cases import Case, batch_case, single_case
from benchmarks.targets.launcher import serving
from benchmarks.targets.processes import peak_mb, resident_mb
from benchmarks.targets.service import service_flags
from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from service.settings import Settings

LOAD = (
    "one client posts bodies of 64 MiB, JSON, MessagePack, MessagePack with binary events, raw and .npy in turn; "
    "another posts single events and batches of 10 and 10 k events in JSON, and of 1 k raw; neither pauses"
)


def run(model: str, minutes: float) -> Memory:
    """Load one worker and watch its memory; raises RuntimeError for a wrong answer, OSError for a lost connection."""
    provenance = machine.provenance(f"python -m benchmarks memory --minutes {minutes:g}")
    server_core, load_core = machine.cores()
    os.sched_setaffinity(0, {load_core})
    artefact = load_artefact(model)
    cases = {"large": list(large_cases(artefact)), "small": list(small_cases(artefact))}
    with serving("service", *service_flags(model), cores=[server_core]) as server:
        idle_mb, url = resident_mb(server.pid), server.base_url
        loads = {name: Background(url, [case.exchange(url) for case in some]) for name, some in cases.items()}
        with ExitStack() as stack:
            for load in loads.values():
                stack.enter_context(load)
            samples = list(watch(server.pid, minutes * 60))
        return Memory(
            **provenance,
            model=artefact.identity,
            load=LOAD,
            replies={name: load.seen.responses for name, load in loads.items()},
            idle_mb=idle_mb,
            peak_mb=peak_mb(server.pid),
            samples=samples,
        )


def large_cases(artefact: Artefact) -> Iterator[Case]:
    """Make a body of nearly the largest size in every format."""
    scorer = Scorer(artefact)
    for request in largest_requests(read_sample(artefact.n_features), Settings().max_body_bytes):
        yield Case(request.name, request, scorer.score(request.events), 1)


def small_cases(artefact: Artefact) -> Iterator[Case]:
    """Make the small requests that go beside."""
    scorer, events = Scorer(artefact), read_sample(artefact.n_features)
    yield single_case(scorer, events, 1)
    yield batch_case(scorer, events[:10], "json")
    yield batch_case(scorer, events[:1_000], "raw")
    yield batch_case(scorer, events[:10_000], "json")


def watch(pid: int, seconds: float) -> Iterator[Sample]:
    """Look at a process's memory every second."""
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        yield Sample(passed, resident_mb(pid), peak_mb(pid))
        time.sleep(1)

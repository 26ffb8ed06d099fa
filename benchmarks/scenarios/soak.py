"""A long run with faults of all kinds: no request may be lost, no score wrong, and memory must not grow."""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.load.attacks import ATTACKS
from benchmarks.load.bad_clients import BadClients
from benchmarks.load.closed_loop import ClosedLoop
from benchmarks.load.formats import JSON, MSGPACK, NPY, RAW
from benchmarks.load.outcomes import Failure, Outcome, Report, merged
from benchmarks.load.scoring import Score, ScoringRequest, checked, largest_requests, mixed_requests, read_sample
from benchmarks.report import machine, results
from benchmarks.report.measurements import Counts, Event, ProcessSample, Second
from benchmarks.scenarios import soak_actions as actions
from benchmarks.targets.processes import Watch, growths, sockets
from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from service.settings import Settings

OTHER_MODEL: Final = "exported/exposed/autoencoder.onnx"
BURST_EVENTS: Final = 100_000
SETTINGS: Final = Settings(header_s=5, stall_s=5)
LOAD: Final = (
    "single events and batches of 10 and 100 in every format on 6 connections, batches of 1 k and 10 k on 2, 2 clients "
    "that leave after 5 requests, and bodies of 64 MiB in turn; 19 kinds of wrong request, clients that leave in 5 "
    f"ways, that stall and that read no response; {actions.BURST_CLIENTS} connections with batches of "
    f"{BURST_EVENTS // 1000} k each {actions.BURST_S} s for {actions.BURST_LASTS_S} s; another model each "
    f"{actions.RELOAD_S} s, each {actions.DAMAGED_EVERY}th time a damaged file before it; another of {len(ATTACKS)} "
    f"attacks each {actions.ATTACK_S} s; the youngest worker killed each {actions.KILL_S} s"
)
SHOWN: Final = 50
"""Maximum number of failures with details; others are only counted."""
POINTS: Final = 240
"""Maximum number of stored samples of each process and of the latency."""

T = TypeVar("T")


@dataclass
class Findings:
    """The findings of a run; times are in seconds since the start of the clients."""

    seconds: float = 0.0
    reports: dict[str, Report] = field(default_factory=dict)
    bursts: list[Report] = field(default_factory=list)
    by_second: list[Second] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[ProcessSample]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    log: Counter[str] = field(default_factory=Counter)
    cut_at_most: int = 0
    """The sockets of the workers that were killed."""


def run(model: str, minutes: float) -> results.Soak:
    """Start a service and load it for some minutes, or until Ctrl+C; raises RuntimeError where it cannot serve."""
    provenance = machine.provenance()
    artefact = load_artefact(model)
    artefacts = [artefact, actions.recalibrated(artefact), load_artefact(OTHER_MODEL)]
    found = Findings()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        path = Path(folder, "model.onnx")
        actions.put(artefact.graph, path)
        try:
            with actions.running(path, SETTINGS) as service:
                idle = max(map(sockets, service.workers()))
                load_service(service, artefacts, minutes, found)
                require_no_sockets_left(service, idle, found)
                read_log(service, found)
        except (RuntimeError, OSError) as error:
            found.faults.append(str(error))
    if not found.reports:  # it never came to a request
        raise RuntimeError("; ".join(found.faults))
    return sum_up(found, [one.identity for one in artefacts], provenance)


def load_service(service: actions.Service, artefacts: Sequence[Artefact], minutes: float, found: Findings) -> None:
    """Run all clients and actions for some minutes; store the findings also after an error."""
    print("making the requests", file=sys.stderr)
    events = read_sample(artefacts[0].n_features)
    scores = {one.identity: Scorer(one).score for one in artefacts}
    loops = closed_loops(service.url, events, scores)
    [burst] = checked(service.url, [ScoringRequest.of(RAW, events[:BURST_EVENTS])], scores)
    bad = BadClients(service.url, artefacts[0].n_features, SETTINGS)
    acts = actions.Actions(service, artefacts, burst, loops["small"].report)

    def keep() -> None:
        found.reports = {**{name: loop.report() for name, loop in loops.items()}, "wrong": bad.report()}
        found.by_second, found.left = loops["small"].record.seconds(), dict(bad.left)
        found.events, found.bursts, found.cut_at_most = acts.events, acts.bursts, acts.cut_at_most
        found.faults += acts.faults

    with ExitStack() as stack:
        stack.callback(keep)
        found.samples = stack.enter_context(Watch(service.named_processes)).samples
        for loop in loops.values():
            stack.enter_context(loop)
        stack.enter_context(bad)
        stack.enter_context(acts.attack)
        try:
            while (passed := acts.run_due()) < minutes * 60:
                counts = {str(name): count for name, count in loops["small"].report().outcomes.items() if count}
                print(f"\r{passed:6.0f} s: {counts}; {len(acts.faults)} faults ", end="", file=sys.stderr)
                time.sleep(min(1.0, minutes * 60 - passed))
                found.seconds = passed
        except KeyboardInterrupt:
            print("\nended early", file=sys.stderr)
        found.seconds = acts.run_due()


def closed_loops(url: str, events: NDArray[np.float32], scores: Mapping[str, Score]) -> dict[str, ClosedLoop]:
    """Return the clients that send valid requests."""
    small = checked(url, mixed_requests(events), scores)
    sizes = [(fmt, size) for size in (1_000, 10_000) for fmt in (JSON, MSGPACK, RAW, NPY)]
    medium = checked(url, [ScoringRequest.of(fmt, events[:size]) for fmt, size in sizes], scores)
    large = checked(url, largest_requests(events, SETTINGS.max_body_bytes), scores)
    return {
        "small": ClosedLoop(url, small, clients=6, pause_s=0.004),
        "churning": ClosedLoop(url, small, clients=2, pause_s=0.02, per_connection=5),
        "medium": ClosedLoop(url, medium, clients=2, pause_s=0.05),
        "large": ClosedLoop(url, large, clients=1, pause_s=3),
    }


def require_no_sockets_left(service: actions.Service, idle: int, found: Findings) -> None:
    """Wait until the workers hold no more sockets than before the first request."""
    most, deadline = idle + 2, time.monotonic() + actions.EFFECT_TIMEOUT_S  # with that which asks for /metrics
    while held := {pid: count for pid in service.workers() if (count := sockets(pid)) > most}:
        if time.monotonic() > deadline:
            found.faults.append(f"workers hold these sockets after all clients: {held}, expected {most} each")
            return
        time.sleep(1)


def read_log(service: actions.Service, found: Findings) -> None:
    """Count what the log says beyond information; an error is a fault, but the refusals of damaged files."""
    for line in service.server.log_lines:
        if line.get("level") != "INFO":
            found.log[line["event"][:200]] += 1
        if line.get("level") in {"ERROR", "CRITICAL"} and line["event"] != "model refused":
            found.faults.append(f"the log says {msgspec.json.encode(line).decode()[:500]}")


def judge(found: Findings) -> list[str]:
    """Return all faults."""
    faults = list(found.faults)
    cut, failed = failures(found)
    faults += [f"{name}: {failure}" for name, failure in failed[:SHOWN]]
    if len(failed) > SHOWN:
        faults.append(f"{len(failed) - SHOWN} failures more")
    if len(cut) > found.cut_at_most:
        faults.append(f"{len(cut)} requests were lost at kills of workers that had {found.cut_at_most} sockets")
    if found.bursts and not merged(found.bursts).outcomes[Outcome.REFUSED]:
        faults.append("no burst was more than the service takes: no request was refused")
    faults += [f"the memory grows: {growth}" for growth in growths(found.samples) if not growth.flat]
    return faults


def failures(found: Findings) -> tuple[list[tuple[str, Failure]], list[tuple[str, Failure]]]:
    """Return the requests that were lost in a killed worker, and those that failed otherwise."""
    kills = [event.second for event in found.events if event.what == "kill"]
    # The clients' clocks began with the actions', but for those of bursts, which meet no kill.
    steady = [(name, failure) for name, report in found.reports.items() for failure in report.failures]
    burst = [("bursts", failure) for report in found.bursts for failure in report.failures]
    cut = [one for one in steady if by_kill(one[1], kills)]
    return cut, [one for one in steady if not by_kill(one[1], kills)] + burst


def by_kill(failure: Failure, kills: Sequence[float]) -> bool:
    """Return whether a request was lost while a worker was killed."""
    lost = failure.outcome in {Outcome.RESET, Outcome.CUT}
    return lost and any(failure.began_s - 1 <= kill <= failure.ended_s + 1 for kill in kills)


def sum_up(found: Findings, models: list[str], provenance: dict[str, Any]) -> results.Soak:
    """Return the results."""
    reports: dict[str, Report] = {**found.reports, **({"bursts": merged(found.bursts)} if found.bursts else {})}
    cut, failed = failures(found)
    return results.Soak(
        **provenance,
        model=models[0],
        models=models,
        load=LOAD,
        minutes=found.seconds / 60,
        requests={name: counts(report) for name, report in reports.items()},
        left=found.left,
        log=dict(found.log),
        cut_by_kills=len(cut),
        failures=len(failed),
        faults=judge(found),
        events=found.events,
        growths=growths(found.samples),
        processes={name: thinned(seen) for name, seen in found.samples.items()},
        seconds=thinned(found.by_second),
    )


def counts(report: Report) -> Counts:
    """Return the counts of a report."""
    return Counts(report.begun, {str(outcome): count for outcome, count in report.outcomes.items() if count})


def thinned(found: list[T]) -> list[T]:
    """Keep some, evenly."""
    return found[:: max(1, len(found) // POINTS)]

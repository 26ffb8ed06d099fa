"""The course of a soak: a real service, everything that is let loose on it, and what happens when.

It does not know what is in order and what is not, but for what has to happen in time.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.bodies import JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW
from benchmarks.disorder import Disorder, Limits
from benchmarks.results import Event
from benchmarks.running import Running, running
from benchmarks.stage import read_sample
from benchmarks.steady import Question, Score, SteadyLoad, mixed_questions
from benchmarks.tally import Report, Seen
from benchmarks.vitals import Vital, Watch, sockets, started
from service.model.artefact import Artefact, load_artefact, with_metadata
from service.model.scorer import Scorer
from service.settings import Settings

OTHER = "exported/exposed/autoencoder.onnx"
WORKERS = 2
RELOAD_S, CORRUPT_EVERY = 30, 4
BURST_S, BURST_LASTS_S, BURST_CLIENTS, BURST_EVENTS = 60, 3, 128, 100_000
KILL_S = 180
PATIENCE_S = 60
LIMITS = Limits(64 * 2**20, 16 * 2**10, 4 * 2**10, header_s=5, stall_s=5)
FLAGS = ("--workers", str(WORKERS), "--header-s", f"{LIMITS.header_s:g}", "--stall-s", f"{LIMITS.stall_s:g}")
LOAD = (
    "single events and batches of 10 and 100 in every format on 6 connections, batches of 1 k and 10 k on 2, 2 clients "
    "that leave after 5 requests, and bodies of 64 MiB in turn; 19 kinds of wrong request, clients that leave in 5 "
    f"ways, that stall and that take no reply; {BURST_CLIENTS} connections with batches of {BURST_EVENTS // 1000} k "
    f"each {BURST_S} s for {BURST_LASTS_S} s; another model each {RELOAD_S} s, each {CORRUPT_EVERY}th time a damaged "
    f"file before it; the youngest worker killed each {KILL_S} s"
)


@dataclass
class Findings:
    """What was found so far; times are in seconds since the clients began."""

    seconds: float = 0.0
    reports: dict[str, Report] = field(default_factory=dict)
    bursts: list[Report] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    vitals: dict[str, list[Vital]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    log: Counter[str] = field(default_factory=Counter)
    cut_at_most: int = 0
    """The sockets of the workers that were killed."""


class Course:
    """Lets everything loose on a service for some minutes, and keeps what it finds in `found`."""

    def __init__(self, folder: Path, model: str, minutes: float) -> None:
        self._folder = folder
        self._minutes = minutes
        self._model = folder / "model.onnx"
        artefact = load_artefact(model)
        self._artefacts = [artefact, recalibrated(artefact), load_artefact(OTHER)]
        self._scores: dict[str, Score] = {one.identity: Scorer(one).score for one in self._artefacts}
        self._sample = read_sample(artefact)
        self._turn = 0
        self.found = Findings()

    @property
    def models(self) -> list[str]:
        """Name the models that take turns."""
        return list(self._scores)

    def run(self) -> None:
        """Start the service, and let everything loose on it; raises RuntimeError if it cannot serve."""
        self._put(self._artefacts[0].graph)
        with running(*FLAGS, "--model", str(self._model), log=self._folder / "log") as service:
            idle = {pid: sockets(pid) for pid in service.workers()}
            self._load(service)
            self._require_that_all_have_left(service, idle)
            self._read_log(service)

    def _load(self, service: Running) -> None:
        print("making the requests", file=sys.stderr)
        loads = self._loads(service.url)
        disorder = Disorder(service.url, self._artefacts[0].n_features, LIMITS)
        self._started = time.monotonic()
        with ExitStack() as stack:
            stack.callback(lambda: self._keep(loads, disorder))
            watch = stack.enter_context(Watch(lambda: named(service)))
            self.found.vitals = watch.seen
            for load in loads.values():
                stack.enter_context(load)
            stack.enter_context(disorder)
            try:
                self._follow_the_timetable(service, loads["small"])
            except KeyboardInterrupt:
                print("\nended early", file=sys.stderr)

    def _keep(self, loads: dict[str, SteadyLoad], disorder: Disorder) -> None:
        """Keep what the clients report, whatever ended them."""
        self.found.seconds = time.monotonic() - self._started
        self.found.reports = {**{name: load.report() for name, load in loads.items()}, "wrong": disorder.report()}
        self.found.left = dict(disorder.left)

    def _loads(self, url: str) -> dict[str, SteadyLoad]:
        """Make the clients that ask rightly."""
        sample, scores = self._sample, self._scores
        small = mixed_questions(sample)
        return {
            "small": SteadyLoad(url, small, scores, clients=6, pause_s=0.004),
            "churning": SteadyLoad(url, small, scores, clients=2, pause_s=0.02, per_connection=5),
            "medium": SteadyLoad(
                url,
                [Question.of(fmt, sample[:size]) for size in (1_000, 10_000) for fmt in (JSON, MSGPACK, RAW, NPY)],
                scores,
                clients=2,
                pause_s=0.05,
            ),
            "large": SteadyLoad(url, list(largest(sample)), scores, clients=1, pause_s=3),
        }

    def _follow_the_timetable(self, service: Running, steady: SteadyLoad) -> None:
        """Reload, kill and overload at their times, and show how it goes."""
        ends = self._started + self._minutes * 60
        due = {self._reload: RELOAD_S / 2, self._burst: BURST_S / 2, self._kill: KILL_S / 2}
        every = {self._reload: RELOAD_S, self._burst: BURST_S, self._kill: KILL_S}
        while (now := time.monotonic()) < ends:
            for act, at in due.items():
                if now - self._started >= at:
                    due[act] += every[act]
                    act(service, steady)
            report = steady.report()
            counts = ", ".join(f"{count} {outcome}" for outcome, count in report.outcomes.items() if count)
            print(
                f"\r{now - self._started:6.0f} s: {counts}; {len(self.found.faults)} faults ", end="", file=sys.stderr
            )
            if service.process.poll() is not None:
                raise RuntimeError(f"the service ended with status {service.process.returncode}")
            time.sleep(max(0.0, min(1.0, ends - now)))

    def _reload(self, service: Running, steady: SteadyLoad) -> None:
        """Give the service another model, now and then a damaged one first, and wait until it shows."""
        self._require_one_model(steady.report().versions, self._artefacts[self._turn % len(self._artefacts)].identity)
        self._turn += 1
        if self._turn % CORRUPT_EVERY == 0:
            refused = service.count("model refused")
            self._put(self._artefacts[0].graph[:-1000])
            service.load_again()
            self._note("refused file")
            try:
                service.wait_for("model refused", refused + 1)
            except RuntimeError:
                self._fault("a damaged model was not refused")
        artefact = self._artefacts[self._turn % len(self._artefacts)]
        before = steady.report().versions.get(artefact.identity)
        self._put(artefact.graph)
        service.load_again()
        self._note("reload")
        deadline = time.monotonic() + PATIENCE_S
        while (seen := steady.report().versions.get(artefact.identity)) is None or (
            before is not None and seen.answers == before.answers
        ):
            if time.monotonic() > deadline:
                self._fault(f"{artefact.identity} was not in use {PATIENCE_S} s after its reload")
                return
            time.sleep(0.1)

    def _require_one_model(self, versions: dict[str, Seen], current: str) -> None:
        """Have any other model that still answers, so long after the last reload, be a fault."""
        now = time.monotonic() - self._started
        for identity, seen in versions.items():
            if identity != current and seen.last_s > now - 1:
                self._fault(f"{identity} still answers {now:.0f} s after the start, though {current} was loaded")

    def _burst(self, service: Running, _: SteadyLoad) -> None:
        """Ask for more than the service may take at once."""
        question = Question.of(RAW, self._sample[:BURST_EVENTS])
        self._note("burst")
        with SteadyLoad(service.url, [question], self._scores, clients=BURST_CLIENTS, pause_s=0.05) as burst:
            time.sleep(BURST_LASTS_S)
        self.found.bursts.append(burst.report())

    def _kill(self, service: Running, _: SteadyLoad) -> None:
        """Kill the youngest worker, and wait for its successor."""
        doomed = max(service.workers(), key=started)  # the memory of the other is watched on
        self.found.cut_at_most += sockets(doomed)
        self._note("kill")
        os.kill(doomed, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_S
        while len(alive := set(service.workers()) - {doomed}) < WORKERS:
            if time.monotonic() > deadline:
                self._fault(f"{len(alive)} workers {PATIENCE_S} s after one was killed, expected {WORKERS}")
                return
            time.sleep(0.2)

    def _require_that_all_have_left(self, service: Running, idle: dict[int, int]) -> None:
        """Wait until the workers hold no more sockets than before the first request."""
        most, deadline = max(idle.values()) + 2, time.monotonic() + PATIENCE_S  # with that which asks for /metrics
        while held := {pid: count for pid in service.workers() if (count := sockets(pid)) > most}:
            if time.monotonic() > deadline:
                self._fault(f"workers hold these sockets though all clients have left: {held}, expected {most} each")
                return
            time.sleep(1)

    def _read_log(self, service: Running) -> None:
        """Count what the log says beyond information; an error is a fault, but the refusals of damaged files."""
        for line in service.lines():
            if line.get("level") != "INFO":
                self.found.log[line["event"][:200]] += 1
            if line.get("level") in {"ERROR", "CRITICAL"} and line["event"] != "model refused":
                self._fault(f"the log says {msgspec.json.encode(line).decode()[:500]}")

    def _put(self, graph: bytes) -> None:
        """Give the model's file new content, whole."""
        aside = self._folder / "aside.onnx"
        aside.write_bytes(graph)
        aside.replace(self._model)

    def _note(self, what: str) -> None:
        self.found.events.append(Event(time.monotonic() - self._started, what))

    def _fault(self, what: str) -> None:
        self.found.faults.append(what)


def recalibrated(artefact: Artefact) -> Artefact:
    """Give the same graph with other working points, as another version."""
    points = [
        msgspec.structs.replace(point, threshold=point.threshold * 1.1) for point in artefact.metadata.working_points
    ]
    changed = msgspec.structs.replace(artefact.metadata, model_version="soak", working_points=points)
    return with_metadata(onnx.load_model_from_string(artefact.graph), changed)


def largest(sample: NDArray[np.float32]) -> Iterator[Question]:
    """Ask for nearly as many events as a body of the largest size holds, in every format."""
    for fmt in (RAW, JSON, MSGPACK, MSGPACK_BINARY, NPY):
        per_event = len(fmt.write("events", sample)) / len(sample)
        n_events = int(0.995 * Settings().max_body_bytes / per_event)
        yield Question.of(fmt, np.resize(sample, (n_events, sample.shape[1])))


def named(service: Running) -> dict[str, int]:
    """Give the processes to watch."""
    return {"parent": service.process.pid, **{f"worker {pid}": pid for pid in service.workers()}}

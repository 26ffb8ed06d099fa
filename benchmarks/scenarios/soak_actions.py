"""Actions on a service under load: new models, damaged files, bursts of requests, attacks, killed workers."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Final

import msgspec
import onnx

from benchmarks.load.attacks import ATTACKS, attacking
from benchmarks.load.closed_loop import ClosedLoop
from benchmarks.load.connection import Request, address
from benchmarks.load.outcomes import Report
from benchmarks.report.measurements import Event
from benchmarks.targets.launcher import Server
from benchmarks.targets.processes import sockets, started
from benchmarks.targets.service import service, workers
from service.model.artefact import Artefact, with_metadata
from service.settings import Settings

WORKERS: Final = 2
RELOAD_S, DAMAGED_EVERY = 30, 4
BURST_S, BURST_LASTS_S, BURST_CLIENTS = 60, 3, 128
ATTACK_S: Final = 20
KILL_S: Final = 180
EFFECT_TIMEOUT_S: Final = 60
"""Limit of a wait for the effect of an action."""


class Service:
    """A running service with several workers, a model file that is replaced, and an operations port."""

    def __init__(self, server: Server, model: Path, operations_port: int) -> None:
        self.server = server
        self.url = server.base_url
        self._model = model
        self._operations_url = f"http://127.0.0.1:{operations_port}"

    def workers(self) -> list[int]:
        """Return the process IDs of the workers. Raises RuntimeError if the service is not available."""
        return workers(self._operations_url)

    def named_processes(self) -> dict[str, int]:
        """Return the processes to watch."""
        return {"parent": self.server.pid, **{f"worker {pid}": pid for pid in self.workers()}}

    def load(self, graph: bytes) -> None:
        """Replace the model file and send SIGHUP."""
        put(graph, self._model)
        self.server.signal(signal.SIGHUP)


@contextmanager
def running(model: Path, settings: Settings) -> Iterator[Service]:
    """Run a service that serves the file `model` until the end of the block; raises RuntimeError as `serving` does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = msgspec.structs.replace(settings, workers=WORKERS, ops_port=port)
    with service(model, cores=os.sched_getaffinity(0), settings=settings) as server:
        yield Service(server, model, port)


def put(graph: bytes, model: Path) -> None:
    """Replace the model's file atomically."""
    aside = model.with_suffix(".new")
    aside.write_bytes(graph)
    aside.replace(model)


class Actions:
    """Reloads, attacks, kills and overloads a service by a timetable; the seconds of its events count from its start.

    `cut_at_most` counts the sockets of the workers that were killed.
    """

    def __init__(
        self, service: Service, artefacts: Sequence[Artefact], burst: Request, report: Callable[[], Report]
    ) -> None:
        """`report` tells what the small requests, which show the models in use, have got so far."""
        self._service = service
        self._artefacts = artefacts
        self._burst_request = burst
        self._report = report
        self._reloads = 0
        self._started = time.monotonic()
        self._every_s = {self._reload: RELOAD_S, self._burst: BURST_S, self._attack: ATTACK_S, self._kill: KILL_S}
        self._due_s = {act: every_s / 2 for act, every_s in self._every_s.items()}
        self.events: list[Event] = []
        self.faults: list[str] = []
        self.bursts: list[Report] = []
        self.cut_at_most = 0
        self._attacks = cycle(ATTACKS)
        self.attack = ExitStack()
        """The running attack, until it is closed."""

    def run_due(self) -> float:
        """Run due actions; return the seconds since the start. Raises RuntimeError if the service has ended."""
        for act, due_s in self._due_s.items():
            if self._seconds() >= due_s:
                self._due_s[act] += self._every_s[act]
                act()
        if self._service.server.process.poll() is not None:
            raise RuntimeError(f"the service ended with status {self._service.server.process.returncode}")
        return self._seconds()

    def _reload(self) -> None:
        """Replace the model, sometimes after a damaged one, and wait until the new model is in use."""
        self._require_one_model(self._model().identity)
        self._reloads += 1
        server = self._service.server
        if self._reloads % DAMAGED_EVERY == 0:
            refused = len(server.events("model refused"))
            self._service.load(self._artefacts[0].graph[:-1000])
            self._note("refused file")
            self._require(lambda: len(server.events("model refused")) > refused, "a damaged model was not refused")
        identity = self._model().identity
        before = self._answers(identity)
        self._service.load(self._model().graph)
        self._note("reload")
        self._require(lambda: self._answers(identity) > before, f"{identity} was not in use after its reload")

    def _model(self) -> Artefact:
        """Return the model that should be in use after the reloads so far."""
        return self._artefacts[self._reloads % len(self._artefacts)]

    def _answers(self, identity: str) -> int:
        seen = self._report().versions.get(identity)
        return seen.answers if seen else 0

    def _require_one_model(self, current: str) -> None:
        """Record a fault if another model still answers long after the last reload."""
        now_s = self._seconds()
        self.faults += [
            f"{identity} still answers {now_s:.0f} s after the start, though {current} was loaded"
            for identity, seen in self._report().versions.items()
            if identity != current and seen.last_s > now_s - 1
        ]

    def _burst(self) -> None:
        """Send more requests than the service admits at a time."""
        self._note("burst")
        with ClosedLoop(self._service.url, [self._burst_request], clients=BURST_CLIENTS, pause_s=0.05) as burst:
            time.sleep(BURST_LASTS_S)
        self.bursts.append(burst.report())

    def _attack(self) -> None:
        """Replace the current attack by the next one."""
        self.attack.close()
        _, port = address(self._service.url)
        self.attack.enter_context(attacking(next(self._attacks), port))
        self._note("attack")

    def _kill(self) -> None:
        """Kill the youngest worker, and wait for its replacement."""
        victim = max(self._service.workers(), key=started)  # so that the memory of the other is monitored for longer
        self.cut_at_most += sockets(victim)
        self._note("kill")
        os.kill(victim, signal.SIGKILL)
        self._require(
            lambda: len(set(self._service.workers()) - {victim}) >= WORKERS, "a killed worker was not replaced"
        )

    def _note(self, what: str) -> None:
        self.events.append(Event(self._seconds(), what))

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _require(self, happened: Callable[[], bool], fault: str) -> None:
        """Wait for the effect of an action; record a fault after the timeout."""
        deadline = time.monotonic() + EFFECT_TIMEOUT_S
        while not happened():
            if time.monotonic() > deadline:
                self.faults.append(f"{fault} within {EFFECT_TIMEOUT_S} s")
                return
            time.sleep(0.1)


def recalibrated(artefact: Artefact) -> Artefact:
    """Return the same graph with other working points, as another version."""
    points = [
        msgspec.structs.replace(point, threshold=point.threshold * 1.1) for point in artefact.metadata.working_points
    ]
    changed = msgspec.structs.replace(artefact.metadata, model_version="soak", working_points=points)
    return with_metadata(onnx.load_model_from_string(artefact.graph), changed)

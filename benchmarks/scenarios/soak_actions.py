"""What is done to a service under load: new models, damaged files, bursts of requests, killed workers."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import onnx

from benchmarks.load.closed_loop import ClosedLoop
from benchmarks.load.connection import Request
from benchmarks.load.outcomes import Report, Seen
from benchmarks.report.measurements import Event
from benchmarks.targets.launcher import Server, serving
from benchmarks.targets.processes import sockets, started
from benchmarks.targets.service import workers
from service.model.artefact import Artefact, with_metadata

WORKERS = 2
RELOAD_S, CORRUPT_EVERY = 30, 4
BURST_S, BURST_LASTS_S, BURST_CLIENTS = 60, 3, 128
KILL_S = 180
PATIENCE_S = 60


class Service:
    """A running service with several workers, a model file that is replaced, and an operations port."""

    def __init__(self, server: Server, model: Path, operations_port: int) -> None:
        self.server = server
        self.url = server.base_url
        self._model = model
        self._operations_url = f"http://127.0.0.1:{operations_port}"

    def workers(self) -> list[int]:
        """Ask for the process numbers of the workers; raises RuntimeError where it cannot be asked."""
        return workers(self._operations_url)

    def processes(self) -> dict[str, int]:
        """Give the processes to watch."""
        return {"parent": self.server.pid, **{f"worker {pid}": pid for pid in self.workers()}}

    def load(self, graph: bytes) -> None:
        """Replace the model file and send SIGHUP."""
        put(graph, self._model)
        self.server.signal(signal.SIGHUP)


@contextmanager
def running(model: Path, *flags: str) -> Iterator[Service]:
    """Run a service that serves the file `model` until the end of the block; raises RuntimeError as `serving` does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = ("--workers", str(WORKERS), "--model", str(model), "--port", "0", "--ops-port", str(port), *flags)
    with serving("service", *flags, cores=os.sched_getaffinity(0)) as server:
        yield Service(server, model, port)


def put(graph: bytes, model: Path) -> None:
    """Give the model's file new content, whole."""
    aside = model.with_suffix(".new")
    aside.write_bytes(graph)
    aside.replace(model)


class Actions:
    """Reloads, kills and overloads a service by a timetable; the seconds of its events count from its start.

    `cut_at_most` counts the sockets of the workers that were killed.
    """

    def __init__(
        self, service: Service, artefacts: list[Artefact], burst: Request, report: Callable[[], Report]
    ) -> None:
        """`report` tells what the small requests, which show the models in use, have got so far."""
        self._service = service
        self._artefacts = artefacts
        self._burst_request = burst
        self._report = report
        self._turn = 0
        self._started = time.monotonic()
        self._due = {self._reload: RELOAD_S / 2, self._burst: BURST_S / 2, self._kill: KILL_S / 2}
        self._every = {self._reload: RELOAD_S, self._burst: BURST_S, self._kill: KILL_S}
        self.events: list[Event] = []
        self.faults: list[str] = []
        self.bursts: list[Report] = []
        self.cut_at_most = 0

    def run_due(self) -> float:
        """Do what is due, and give the seconds since the start; raises RuntimeError if the service has ended."""
        for act, at in self._due.items():
            if self._seconds() >= at:
                self._due[act] += self._every[act]
                act()
        if self._service.server.process.poll() is not None:
            raise RuntimeError(f"the service ended with status {self._service.server.process.returncode}")
        return self._seconds()

    def _reload(self) -> None:
        """Give the service another model, now and then a damaged one first, and wait until it shows."""
        self._require_one_model(self._report().versions, self._artefacts[self._turn % len(self._artefacts)].identity)
        self._turn += 1
        if self._turn % CORRUPT_EVERY == 0:
            self._load_damaged()
        artefact = self._artefacts[self._turn % len(self._artefacts)]
        before = self._answers(artefact)
        self._service.load(artefact.graph)
        self._note("reload")
        if not _within_patience(lambda: self._answers(artefact) > before):
            self.faults.append(f"{artefact.identity} was not in use {PATIENCE_S} s after its reload")

    def _load_damaged(self) -> None:
        server, refused = self._service.server, len(self._service.server.events("model refused"))
        self._service.load(self._artefacts[0].graph[:-1000])
        self._note("refused file")
        if not _within_patience(lambda: len(server.events("model refused")) > refused):
            self.faults.append("a damaged model was not refused")

    def _answers(self, artefact: Artefact) -> int:
        seen = self._report().versions.get(artefact.identity)
        return seen.answers if seen else 0

    def _require_one_model(self, versions: dict[str, Seen], current: str) -> None:
        """Find a fault where any other model still answers, so long after the last reload."""
        now = self._seconds()
        self.faults += [
            f"{identity} still answers {now:.0f} s after the start, though {current} was loaded"
            for identity, seen in versions.items()
            if identity != current and seen.last_s > now - 1
        ]

    def _burst(self) -> None:
        """Ask for more than the service may take at once."""
        self._note("burst")
        with ClosedLoop(self._service.url, [self._burst_request], clients=BURST_CLIENTS, pause_s=0.05) as burst:
            time.sleep(BURST_LASTS_S)
        self.bursts.append(burst.report())

    def _kill(self) -> None:
        """Kill the youngest worker, and wait for its successor."""
        victim = max(self._service.workers(), key=started)  # the memory of the other is watched on
        self.cut_at_most += sockets(victim)
        self._note("kill")
        os.kill(victim, signal.SIGKILL)
        if not _within_patience(lambda: len(set(self._service.workers()) - {victim}) >= WORKERS):
            self.faults.append(f"a killed worker was not replaced within {PATIENCE_S} s")

    def _note(self, what: str) -> None:
        self.events.append(Event(self._seconds(), what))

    def _seconds(self) -> float:
        return time.monotonic() - self._started


def _within_patience(happened: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def recalibrated(artefact: Artefact) -> Artefact:
    """Give the same graph with other working points, as another version."""
    points = [
        msgspec.structs.replace(point, threshold=point.threshold * 1.1) for point in artefact.metadata.working_points
    ]
    changed = msgspec.structs.replace(artefact.metadata, model_version="soak", working_points=points)
    return with_metadata(onnx.load_model_from_string(artefact.graph), changed)

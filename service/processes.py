"""The processes of the service: one that serves, or a parent that keeps several serving and gives them connections.

It does not know how a process serves, nor requests or formats.
"""

import logging
import math
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import msgspec
from prometheus_client.multiprocess import mark_process_dead

from service.artefact import Artefact, ArtefactError, load_artefact
from service.connections import Outlet, spread
from service.logs import configure_logging
from service.metrics import MULTIPROCESS_VARIABLE
from service.scorer import Scorer
from service.server import BACKLOG, SIGNALS, serve
from service.settings import Settings

logger = logging.getLogger(__name__)

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""A container's share of time, in microseconds of each period of microseconds."""


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, and give the exit status.

    It is 0 after a signal, and 1, with one line in the log, where the model, the address or a worker's start fails.
    """
    configure_logging(settings.log_level)
    settings = msgspec.structs.replace(settings, workers=settings.workers or usable_cores())
    try:
        artefact = load_artefact(settings.model)
        Scorer(artefact)  # a model that cannot score is refused here, once, rather than by each worker
        listener = listen(settings.host, settings.port)
    except ArtefactError as error:
        logger.error("cannot use the model", extra={"detail": str(error)})
        return 1
    except OSError as error:
        detail = f"{settings.host}:{settings.port}: {error.strerror}; choose another --host or --port"
        logger.error("cannot listen", extra={"detail": detail})
        return 1

    def log_ready() -> None:
        extra = {"url": url(listener), "model": artefact.identity, "workers": settings.workers}
        logger.info("ready", extra=extra)

    with listener:
        if settings.workers == 1:
            serve(settings, artefact, log_ready, listener)
            status = 0
        else:
            status = supervise(settings, artefact, listener, log_ready)
    logger.info("stopped", extra={"status": status})
    return status


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; raises OSError for an address that is unknown, not ours or taken."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address, family=family, backlog=BACKLOG)


def url(listener: socket.socket) -> str:
    """Write the address that the socket listens on as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def usable_cores() -> int:
    """Count the cores that this process may use: those it may run on, or as many as its container is given time for."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no control group of version 2, or one without a limit: "max"
        quota_us, period_us = map(int, CPU_LIMIT.read_text().split())
        cores = min(cores, math.ceil(quota_us / period_us))
    return cores


def supervise(settings: Settings, artefact: Artefact, listener: socket.socket, on_ready: Callable[[], None]) -> int:
    """Serve in several processes that share the socket, the metrics and the artefact; gives the exit status."""
    with tempfile.TemporaryDirectory(prefix="anomaly-workers-") as directory:
        os.environ[MULTIPROCESS_VARIABLE] = directory
        # A worker that starts later serves what the others serve, whatever lies at the model's own path by then. It is
        # a file, for writing to the pipe of a new process never ends if that dies before it has read a large model.
        copy = Path(directory, "model.onnx")
        copy.write_bytes(artefact.graph)
        return Supervisor(msgspec.structs.replace(settings, model=str(copy)), listener, on_ready).run()


class Worker:
    """A process that serves; `ready` once it has said so."""

    def __init__(self, settings: Settings) -> None:
        # A new interpreter for each: a fork would copy the runtime's locks without its threads.
        spawn = multiprocessing.get_context("spawn")
        self.greeting, greeter = spawn.Pipe(duplex=False)
        self.outlet = Outlet()
        self.process: SpawnProcess = spawn.Process(target=_work, args=(settings, self.outlet.workers_end, greeter))
        self.process.start()
        greeter.close()
        self.outlet.workers_end.close()
        self.ready = False


class Supervisor:
    """Keeps as many workers as the settings ask for, until it is told to stop or one cannot start."""

    def __init__(self, settings: Settings, listener: socket.socket, on_ready: Callable[[], None]) -> None:
        self._settings = settings
        self._listener = listener
        self._on_ready = on_ready
        self._workers: list[Worker] = []
        self._stopping = False
        self._status = 0
        self._announced = False

    def run(self) -> int:
        """Start workers, give them connections, replace those that die, and give the exit status when all are gone."""
        for sig in SIGNALS:
            signal.signal(sig, lambda *_: self._stop())
        # Else it is started with the first worker, and lets the signals through to that.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._listener.setblocking(False)
        for _ in range(self._settings.workers):
            if not self._stopping:
                self._start()
        while self._workers:
            self._watch()
        return self._status

    def _start(self) -> None:
        self._workers.append(Worker(self._settings))

    def _stop(self) -> None:
        """Tell every worker to stop; told again, they hurry."""
        self._stopping = True
        for worker in self._workers:
            worker.process.terminate()

    def _watch(self) -> None:
        """Wait until there is a connection, or a worker is ready, has news or has died.

        Signals come here alone: whom they stop is settled, and a worker is born with them waiting for its own handlers.
        """
        ready = [worker for worker in self._workers if worker.ready and worker.outlet.taken_from]
        watched: list[int | Connection | socket.socket] = [worker.process.sentinel for worker in self._workers]
        watched += [worker.greeting for worker in self._workers if not worker.ready]
        watched += [worker.outlet.channel for worker in ready]
        if ready:
            watched.append(self._listener)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        happened = wait(watched)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for worker in ready:
            if worker.outlet.channel in happened:
                worker.outlet.read_reports()
        if self._listener in happened and not spread(self._listener, [worker.outlet for worker in ready]):
            logger.warning("no worker could take a connection; its client was disconnected")
        for worker in list(self._workers):
            if worker.greeting in happened:
                self._greet(worker)
            if worker.process.sentinel in happened:
                self._replace(worker)

    def _greet(self, worker: Worker) -> None:
        try:
            worker.greeting.recv()
        except EOFError:  # it died instead
            return
        worker.ready = True
        if not self._announced and all(worker.ready for worker in self._workers):
            self._announced = True
            self._on_ready()

    def _replace(self, worker: Worker) -> None:
        worker.process.join()
        worker.greeting.close()
        worker.outlet.close()
        self._workers.remove(worker)
        pid, exit_code = worker.process.pid, worker.process.exitcode
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
        if self._stopping:
            return
        if worker.ready:
            logger.warning("worker died; another is started", extra={"worker": pid, "exit_code": exit_code})
            self._start()
        else:  # its successors would fail as it did
            logger.error("worker cannot start; all stop", extra={"worker": pid, "exit_code": exit_code})
            self._status = 1
            self._stop()


def _work(settings: Settings, channel: socket.socket, greeter: Connection) -> None:
    """Serve as a worker: the whole of a child process."""
    configure_logging(settings.log_level)
    with channel, greeter:
        try:
            artefact = load_artefact(settings.model)
        except ArtefactError as error:
            logger.error("cannot use the model", extra={"detail": str(error)})
            sys.exit(1)
        serve(settings, artefact, lambda: greeter.send(os.getpid()), channel=channel)

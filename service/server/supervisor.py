"""A parent that keeps several processes serving: it gives them connections and orders, and replaces those that die.

It does not know how a process serves, nor requests or formats.
"""

import logging
import math
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

from service.logs import configure_logging
from service.metrics import MULTIPROCESS_VARIABLE, reserve
from service.model.artefact import ArtefactError, load_artefact
from service.reload.watcher import HELD, Followed, Order
from service.security.api_keys import KeysError
from service.security.tls import TlsError
from service.server.listener import Entrance, Outlet
from service.server.worker import SIGNALS, Given, Own, serve
from service.settings import Settings

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1
LONGEST_PAUSE_S: Final = 30
"""Seconds before another try where a worker cannot start; twice as many after each, up to the longest."""

WRONG_FILES: Final = {
    ArtefactError: "cannot use the model",
    KeysError: "cannot use the keys",
    TlsError: "cannot use the certificate",
}
"""Files that keep a process from starting, as the log calls it."""


class Worker:
    """A process that serves; `ready` once it has said so."""

    def __init__(self, settings: Settings, *, with_operations: bool) -> None:
        """Start it; raises OSError where the machine has no more processes or descriptors."""
        # A new interpreter for each: a fork would copy the runtime's locks without its threads.
        spawn = multiprocessing.get_context("spawn")
        self.orders, followers_end = spawn.Pipe()
        self.outlet = Outlet()
        self.operations = Outlet() if with_operations else None
        operations_end = None if self.operations is None else self.operations.workers_end
        given = Given(self.outlet.workers_end, operations_end, followers_end)
        self.process: SpawnProcess = spawn.Process(target=_work, args=(settings, given))
        self.process.start()
        followers_end.close()
        for outlet in self.outlets:
            outlet.workers_end.close()
        self.followed = Followed(0, settings.model)
        self.ready = False
        self.listens = True
        self._told = 0

    @property
    def outlets(self) -> list[Outlet]:
        """The ways that connections go to it."""
        return [self.outlet] if self.operations is None else [self.outlet, self.operations]

    def tell(self, order: Order) -> None:
        """Send the order, unless it has another to follow yet: it will be told again when it has."""
        if self.ready and self.listens and self._told == self.followed.number < order.number:
            with suppress(OSError):  # it has died
                self.orders.send(order)
                self._told = order.number

    def hear(self) -> None:
        """Take what it says: that it is ready, or what it has followed."""
        try:
            self.followed = self.orders.recv()
        except (EOFError, OSError):  # it died instead
            self.listens = False
        else:
            self.ready = True

    def close(self) -> None:
        """Close all ways to it."""
        self.orders.close()
        for outlet in self.outlets:
            outlet.close()


class Supervisor:
    """Keeps as many workers as the settings ask for, until it is told to stop or none is left and none can start."""

    def __init__(self, settings: Settings, own: Own, on_ready: Callable[[], None]) -> None:
        self._settings = settings
        self._own = own
        self._rollout = own.rollout
        self._on_ready = on_ready
        self._workers: list[Worker] = []
        self._stopping = False
        self._closes_at = math.inf
        self._status = 0
        self._announced = False
        self._pause_s = FIRST_PAUSE_S
        self._starts_at = math.inf
        """When the missing workers are started, where one could not."""

    def run(self) -> int:
        """Start workers, give them connections, replace those that die, and give the exit status when all are gone."""
        for sig in SIGNALS:
            signal.signal(sig, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, lambda *_: self._look())
        # Else it is started with the first worker, and lets the signals through to that.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        for _ in range(self._settings.workers):
            if not self._stopping:
                self._start()
        while self._workers:
            self._watch()
        return self._status

    def _start(self) -> None:
        settings = self._rollout.order.settings
        try:
            self._workers.append(Worker(settings, with_operations=self._own.operations is not None))
        except OSError as error:
            self._do_without({"detail": f"{error.strerror}; raise the limits"})

    def _do_without(self, why: dict[str, object]) -> None:
        """Take it that a worker cannot start: others that serve serve on, and it is tried again; else all stop."""
        if not self._announced or not any(worker.ready for worker in self._workers):
            logger.error("worker cannot start; all stop", extra=why)
            self._status = 1
            self._stop()
            return
        if math.isinf(self._starts_at):
            self._starts_at = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        again_s = round(self._starts_at - time.monotonic(), 1)
        logger.error("worker cannot start; the others serve on", extra={**why, "again_s": again_s})

    def _start_missing(self) -> None:
        """Try again, if it is time to."""
        if not self._stopping and time.monotonic() >= self._starts_at:
            self._starts_at = math.inf
            for _ in range(self._settings.workers - len(self._workers)):
                self._start()

    def _stop(self) -> None:
        """Tell every worker to stop; told again, they hurry."""
        self._closes_at = time.monotonic() + (0 if self._stopping else self._settings.drain_s)
        self._stopping = True
        for worker in self._workers:
            worker.process.terminate()

    def _look(self) -> None:
        if not self._stopping:
            self._rollout.look()

    def _watch(self) -> None:
        """Wait until there is a connection, or a worker is ready, has news or has died, or the files were looked at.

        Signals come here alone: whom they stop is settled, and a worker is born with them waiting for its own handlers.
        """
        ready = [worker for worker in self._workers if worker.ready]
        if time.monotonic() >= self._closes_at and not self._own.entrance.closed:
            # Before the workers take no more, so that no client is let in whom nobody serves.
            self._own.entrance.spread_all([worker.outlet for worker in ready if worker.outlet.taken_from])
            self._own.entrance.close()
        outlets = [outlet for worker in ready for outlet in worker.outlets if outlet.taken_from]
        doors = []
        if not self._own.entrance.closed:
            doors.append((self._own.entrance, [worker.outlet for worker in ready if worker.outlet in outlets]))
        if self._own.operations is not None:
            to = [worker.operations for worker in ready if worker.operations is not None]
            doors.append((self._own.operations, [outlet for outlet in to if outlet in outlets]))
        watched: list[int | Connection | socket.socket] = [worker.process.sentinel for worker in self._workers]
        watched += [worker.orders for worker in self._workers if worker.listens]
        watched += [outlet.channel for outlet in outlets]
        watched += [entrance.listener for entrance, to in doors if to and not entrance.rest_s]
        watched.append(self._rollout.news)
        happened = self._wait(watched, [entrance for entrance, to in doors if to])
        for outlet in outlets:
            if outlet.channel in happened:
                outlet.read_reports()
        for worker in ready:
            self._take_back(worker)
        for entrance, to in doors:
            if to and not entrance.rest_s and (entrance.listener in happened or entrance.waited_for):
                entrance.spread(to)
        for worker in list(self._workers):
            if worker.orders in happened:
                self._hear(worker)
            if worker.process.sentinel in happened:
                self._replace(worker)
        self._start_missing()
        self._roll_out(news=self._rollout.news in happened)

    def _wait(
        self, watched: Sequence[int | Connection | socket.socket], entrances: Sequence[Entrance]
    ) -> Sequence[object]:
        limits_s = [entrance.rest_s for entrance in entrances if entrance.rest_s or entrance.waited_for]
        if not self._stopping:
            to_wait_s = (self._rollout.wait_s, max(self._starts_at - time.monotonic(), 0))
            limits_s += [limit_s for limit_s in to_wait_s if not math.isinf(limit_s)]
        if self._stopping and not self._own.entrance.closed:
            limits_s.append(max(self._closes_at - time.monotonic(), 0))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        happened = wait(watched, min(limits_s, default=None))
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        return happened

    def _hear(self, worker: Worker) -> None:
        worker.hear()
        if sum(worker.ready for worker in self._workers) == self._settings.workers:
            self._pause_s = FIRST_PAUSE_S
        if not self._announced and all(worker.ready for worker in self._workers):
            self._announced = True
            self._on_ready()

    def _roll_out(self, *, news: bool) -> None:
        """Look at the files in time, tell each worker the newest order, and say once all have followed it."""
        if news:
            self._rollout.take()
        if self._stopping:
            return
        self._rollout.look_when_due()
        for worker in self._workers:
            worker.tell(self._rollout.order)
        if self._announced:
            self._rollout.settle([worker.followed for worker in self._workers])

    def _take_back(self, worker: Worker) -> None:
        """Give connections that never arrived at a worker which has gone to another."""
        for outlet, entrance in ((worker.outlet, self._own.entrance), (worker.operations, self._own.operations)):
            if outlet is not None and entrance is not None:
                entrance.give_again(outlet.take_back())

    def _replace(self, worker: Worker) -> None:
        worker.process.join()
        self._take_back(worker)
        worker.close()
        self._workers.remove(worker)
        pid, exit_code = worker.process.pid, worker.process.exitcode
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
        if self._stopping:
            return
        if worker.ready:
            logger.warning("worker died; another is started", extra={"worker": pid, "exit_code": exit_code})
            self._start()
        else:  # a successor at once would fail as it did
            with suppress(OSError):  # it has counted nothing, and there may be many like it
                for path in Path(os.environ[MULTIPROCESS_VARIABLE]).glob(f"*_{pid}.db"):
                    path.unlink()
            self._do_without({"worker": pid, "exit_code": exit_code})


def _work(settings: Settings, given: Given) -> None:
    """Serve as a worker: the whole of a child process."""
    configure_logging(settings.log_level)

    def greet() -> None:
        try:
            reserve()
        except OSError as error:
            logger.error("no room for the metrics", extra={"detail": f"{error.strerror}; make room, or set TMPDIR"})
            sys.exit(1)
        given.orders.send(Followed(0, settings.model))

    try:
        artefact = load_artefact(settings.model, max_bytes=settings.max_model_bytes)
        serve(settings, artefact, given, greet)
    except tuple(WRONG_FILES) as error:
        logger.error(WRONG_FILES[type(error)], extra={"detail": str(error)})
        sys.exit(1)

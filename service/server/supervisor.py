"""The supervisor: keeps workers running, hands them connections and sends them snapshots."""

import logging
import math
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from service.metrics.rows import SharedRow, create_rows, open_rows
from service.reload.snapshot import Applied, Snapshot
from service.reload.watcher import HANDLED_SIGNALS, Watcher
from service.server.handoff import Channel, HandOff
from service.server.listener import Listener
from service.server.sources import WorkerEnds
from service.server.worker import STOP_SIGNALS, work

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1
SIGNAL_S: Final = 0.2
"""Maximum seconds of a wait: a signal's handler does not end it, and its effects are seen after it."""

LONGEST_PAUSE_S: Final = 30
"""Seconds before a failed start of a worker is retried, doubled after each failure up to the longest."""


class Worker:
    """A worker process, `ready` once it serves."""

    def __init__(
        self, snapshot: Snapshot, operations: Listener | None, grpc_address: str | None, row: SharedRow
    ) -> None:
        """Start the process with this snapshot; raises OSError if no process or descriptor is left."""
        # A new interpreter for each: a fork would copy the runtime's locks without its threads.
        spawn = multiprocessing.get_context("spawn")
        self.orders, workers_end = spawn.Pipe()
        self.channel = Channel()
        shared = operations.socket if operations else None
        ends = WorkerEnds(self.channel.workers_end, shared, grpc_address, workers_end, row)
        # A daemon, so that no worker outlives an unexpected end of the supervisor.
        self.process: SpawnProcess = spawn.Process(target=work, args=(snapshot, ends), daemon=True)
        self.process.start()
        workers_end.close()
        self.channel.workers_end.close()
        self.row = row.number
        self.applied = Applied.of(snapshot)
        self.ready = False
        self.connected = True
        self._sent_revision = snapshot.revision

    def send(self, snapshot: Snapshot) -> None:
        """Send a newer snapshot, unless the worker has not received the last one yet; the caller then tries again."""
        if self.ready and self.connected and self._sent_revision == self.applied.received < snapshot.revision:
            with suppress(OSError):  # it has died
                self.orders.send(snapshot)
                self._sent_revision = snapshot.revision

    def stop(self) -> None:
        """Stop the worker by a message, since workers ignore signals that reach all processes; kill a starting one."""
        if self.ready:
            with suppress(OSError):  # it has died
                self.orders.send(None)
        else:
            self.process.kill()

    def receive(self) -> None:
        """Receive what the worker has applied; the first message means that it is ready."""
        try:
            self.applied = self.orders.recv()
        except (EOFError, OSError):  # it died instead
            self.connected = False
        else:
            self.ready = True


class Supervisor:
    """Keeps the configured number of workers running, until it is stopped or none is left and none can start."""

    def __init__(
        self,
        main: Listener,
        operations: Listener | None,
        grpc_address: str | None,
        watcher: Watcher,
        on_ready: Callable[[], None],
    ) -> None:
        settings = watcher.snapshot.settings
        self._n_workers, self._drain_s = settings.workers, settings.drain_s
        self._hand_off = HandOff(main)
        self._operations, self._grpc_address = operations, grpc_address
        self._watcher = watcher
        self._on_ready = on_ready
        self._rows_path = create_rows(self._n_workers)
        self._rows = open_rows(self._rows_path)
        self._workers: list[Worker] = []
        self._stopping = False
        self._closes_at = math.inf
        self._status = 0
        self._announced = False
        self._pause_s = FIRST_PAUSE_S
        self._starts_at = math.inf
        """The monotonic time at which missing workers are started, after one could not start."""

    def run(self) -> int:
        """Start the workers, keep them until they are stopped, and return the exit status when all have ended."""
        for sig in STOP_SIGNALS:
            signal.signal(sig, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, lambda *_: None if self._stopping else self._watcher.read())
        # Else it starts with the first worker, and unblocks the signals for that.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        for _ in range(self._n_workers):
            if not self._stopping:
                self._start()
        try:
            while self._workers:
                self._supervise()
        finally:
            for worker in self._workers:  # after an unexpected error, the closed pipe stops them
                worker.orders.close()
        return self._status

    def _supervise(self) -> None:
        """Wait for the next event of a connection, a worker, a file or a timer, and handle it."""
        if time.monotonic() >= self._closes_at and not self._hand_off.closed:
            self._hand_off.close()  # before the workers take no more connections
        happened = self._wait()
        self._hand_off.handle(happened)
        for worker in list(self._workers):
            if worker.orders in happened:
                self._receive(worker)
            if worker.process.sentinel in happened:
                self._replace(worker)
        if not self._stopping and time.monotonic() >= self._starts_at:
            self._starts_at = math.inf
            for _ in range(self._n_workers - len(self._workers)):
                self._start()
        if self._watcher.news in happened:
            self._watcher.receive()
        if not self._stopping:
            self._reload()

    def _wait(self) -> Sequence[object]:
        """Wait with signals unblocked: handlers run only here, and workers start with signals blocked."""
        now = time.monotonic()
        limit_s = min(self._hand_off.wait_s, SIGNAL_S)
        if not self._stopping:
            limit_s = min(limit_s, self._watcher.wait_s, self._starts_at - now)
        elif not self._hand_off.closed:
            limit_s = min(limit_s, self._closes_at - now)
        awaited: list[int | Connection | socket.socket] = [self._watcher.news, *self._hand_off.sockets]
        awaited += [worker.process.sentinel for worker in self._workers]
        awaited += [worker.orders for worker in self._workers if worker.connected]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        happened = wait(awaited, max(limit_s, 0))
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        return happened

    def _start(self) -> None:
        try:
            number = min(set(range(self._n_workers)) - {worker.row for worker in self._workers})
            row = SharedRow(self._rows_path, number)
            self._workers.append(Worker(self._watcher.snapshot, self._operations, self._grpc_address, row))
        except OSError as error:
            self._start_later({"detail": f"{error.strerror}; raise the limits"})

    def _start_later(self, why: dict[str, object]) -> None:
        """Retry a failed start of a worker after a pause, or stop if no other worker serves."""
        if not self._announced or not any(worker.ready for worker in self._workers):
            logger.error("worker cannot start; all stop", extra=why)
            self._status = 1
            self._stop()
            return
        if math.isinf(self._starts_at):
            self._starts_at = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        again_s = round(self._starts_at - time.monotonic(), 1)
        logger.error("worker cannot start; the others continue", extra={**why, "again_s": again_s})

    def _stop(self) -> None:
        """Stop every worker; the second call skips the drain."""
        self._closes_at = time.monotonic() + (0 if self._stopping else self._drain_s)
        self._stopping = True
        for worker in self._workers:
            worker.stop()

    def _receive(self, worker: Worker) -> None:
        was_ready = worker.ready
        worker.receive()
        if self._announced and worker.ready and not was_ready:
            self._hand_off.add(worker.channel)
        n_ready = sum(worker.ready for worker in self._workers)
        if n_ready == self._n_workers:
            self._pause_s = FIRST_PAUSE_S
        if not self._announced and n_ready == len(self._workers):
            self._announced = True
            for one in self._workers:  # only now, else the first one would get all connections that have waited
                self._hand_off.add(one.channel)
            self._on_ready()

    def _reload(self) -> None:
        """Read changed files when due, send each worker the newest snapshot, and confirm it once all have it."""
        self._watcher.read_when_due()
        for worker in self._workers:
            worker.send(self._watcher.snapshot)
        if self._announced and all(worker.ready for worker in self._workers):
            self._watcher.confirm([worker.applied for worker in self._workers])

    def _replace(self, worker: Worker) -> None:
        worker.process.join()
        self._hand_off.remove(worker.channel)
        worker.orders.close()
        self._workers.remove(worker)
        pid, exit_code = worker.process.pid, worker.process.exitcode
        self._rows[worker.row]["pid"] = 0
        if self._stopping:
            return
        if worker.ready:
            logger.warning("worker died; another is started", extra={"worker": pid, "exit_code": exit_code})
            self._start()
        else:  # a successor would fail at once for the same reason
            self._start_later({"worker": pid, "exit_code": exit_code})

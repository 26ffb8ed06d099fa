"""The source of a process' connections and snapshots: its own listener and watcher, or the supervisor."""

import logging
import signal
import socket
from asyncio import get_running_loop
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from service.metrics.rows import SharedRow
from service.reload.snapshot import Applied, Snapshot
from service.reload.watcher import Watcher
from service.server.handoff import ConnectionReceiver
from service.server.listener import Listener

logger = logging.getLogger(__name__)

HANDOVER_S: Final = 0.3
"""Seconds for which a draining worker still takes connections, so that the supervisor can hand over those that wait."""


class Standalone:
    """A single process with its own listener and watcher."""

    def __init__(
        self,
        main: Listener,
        operations: Listener | None,
        grpc_address: str | None,
        watcher: Watcher,
        on_ready: Callable[[], None],
    ) -> None:
        self.main = main
        self.operations = operations
        self.grpc_address = grpc_address
        self.row: SharedRow | None = None
        self._watcher = watcher
        self._on_ready = on_ready
        self._draining = False

    def open(self, apply: Callable[[Snapshot], None], _stop: Callable[[], None]) -> None:
        """Read files at SIGHUP, and apply the snapshots that follow."""

        def receive() -> None:
            self._watcher.receive()
            apply(self._watcher.snapshot)

        get_running_loop().add_reader(self._watcher.news, receive)
        get_running_loop().add_signal_handler(signal.SIGHUP, self._read)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def announce(self, _applied: Applied) -> None:
        """Log that the service is ready."""
        self._on_ready()

    def tick(self, _n_connections: int) -> None:
        """Read changed files when due."""
        if not self._draining:
            self._watcher.read_when_due()

    def confirm(self, applied: Applied) -> None:
        """Pass what was loaded to the watcher, which logs it."""
        self._watcher.confirm([applied])

    def drain(self) -> float:
        """Stop reading files."""
        self._draining = True
        return 0

    def _read(self) -> None:
        if not self._draining:
            self._watcher.read()


class WorkerEnds(NamedTuple):
    """What a worker gets from the supervisor."""

    main: socket.socket
    """The worker's end of the hand-off of connections."""
    operations: socket.socket | None
    """The listening socket of the operations port, which all workers share."""
    grpc_address: str | None
    """The address on which each worker listens for gRPC."""
    orders: Connection
    """Snapshots to apply, or None to stop; what was applied is sent back."""
    row: SharedRow
    """The worker's row of the metrics."""


class Supervised:
    """A worker, which gets its connections and snapshots from the supervisor."""

    def __init__(self, ends: WorkerEnds) -> None:
        self.main = ConnectionReceiver(ends.main)
        self.operations = None if ends.operations is None else Listener(ends.operations, spare=0)
        self.grpc_address = ends.grpc_address
        self.row: SharedRow | None = ends.row
        self._orders = ends.orders

    def open(self, apply: Callable[[Snapshot], None], stop: Callable[[], None]) -> None:
        """Apply the snapshots that arrive, and stop when the supervisor sends None or ends."""

        def receive() -> None:
            try:
                snapshot: Snapshot | None = self._orders.recv()
            except (EOFError, OSError):
                get_running_loop().remove_reader(self._orders)
                logger.error("the parent process died; this worker stops")
                snapshot = None
            if snapshot is None:
                stop()
            else:
                apply(snapshot)

        get_running_loop().add_reader(self._orders, receive)

    def announce(self, applied: Applied) -> None:
        """Tell the supervisor that this worker is ready."""
        self.confirm(applied)

    def tick(self, n_connections: int) -> None:
        """Report the number of open connections."""
        self.main.report(n_connections)

    def confirm(self, applied: Applied) -> None:
        """Report what was applied to the supervisor."""
        with suppress(OSError):  # the supervisor has ended, so this worker will too
            self._orders.send(applied)

    def drain(self) -> float:
        """Return the seconds that the supervisor needs to hand over the connections that wait."""
        return HANDOVER_S


Source = Standalone | Supervised

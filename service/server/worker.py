"""A process that serves: uvicorn's server, until a signal."""

import asyncio
import logging
import math
import multiprocessing
import signal
import socket
import sys
import time
from asyncio import get_running_loop
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.server import ServerState

from service.api.app import Application, create_app
from service.api.extensions import Scored
from service.api.middleware import log_refusal, log_request
from service.logs import StderrHandler, configure_logging
from service.metrics.rows import MetricsError
from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from service.reload.applier import Applier
from service.reload.snapshot import FILE_FAULTS, Snapshot
from service.reload.watcher import HANDLED_SIGNALS
from service.server import memory
from service.server.connections import ConnectionServer, all_sent
from service.server.known_heads import KnownHead, KnownHeads
from service.server.limits import Limits
from service.server.listener import CannotListenError
from service.server.protocol import Protocol, check_timeouts
from service.server.request_parser import SHUTDOWN_GRACE_S, Shared
from service.server.sources import Source, Supervised, WorkerEnds
from service.server.timeouts import Timeouts

if TYPE_CHECKING:
    from service.server.rpc.server import GrpcServer

logger = logging.getLogger(__name__)

TIMEOUT_CHECK_S: Final = 1
"""Interval in seconds at which timeouts are checked."""

RELEASE_S: Final = 30
"""Interval in seconds at which freed memory is returned to the system."""

TICKS_S: Final = 10
"""Ticks of the server in a second."""

FAULTS: Final[dict[type[Exception], str]] = {
    **FILE_FAULTS,
    MetricsError: "cannot keep the metrics",
    CannotListenError: "cannot listen",
}
"""Errors that keep a process from serving, as the log names them."""

STOP_SIGNALS: Final = {signal.SIGINT, signal.SIGTERM}


def work(snapshot: Snapshot, ends: WorkerEnds) -> None:
    """Serve as a worker; the main function of a child process."""
    settings = snapshot.settings
    configure_logging(settings.log_level)
    try:
        artefact = load_artefact(settings.model, max_bytes=settings.max_model_bytes)
        Server(snapshot, artefact, Supervised(ends)).run()
    except tuple(FAULTS) as error:
        logger.error(FAULTS[type(error)], extra={"detail": str(error)})
        sys.exit(1)


class Server(uvicorn.Server):
    """uvicorn's server, with a drain after the first signal, in which it scores with /health at 503.

    A second signal ends the drain, a third abandons the requests in flight. The operations port closes last.
    """

    def __init__(self, snapshot: Snapshot, artefact: Artefact, source: Source) -> None:
        """Prepare the application; raises KeysError and TlsError. `run` exits with 3 if it cannot start."""
        settings = snapshot.settings
        self._application = application = create_app(settings, artefact, row=source.row)
        super().__init__(_config(application, snapshot))
        self._settings = settings
        self._limits, self._timeouts = Limits.of(settings), Timeouts.of(settings)
        self._deployment = application.deployment
        known_heads = KnownHeads(self._deployment, application.keys, self._note_request)
        self._shared = Shared.of(settings, self._deployment, known_heads)
        self._source = source
        self._applier = Applier(
            snapshot, self._deployment.metrics, application.keys, self._use_model, on_applied=source.confirm
        )
        self._main: ConnectionServer | None = None
        # A separate state, so that its connections count towards no limit, and shutdown does not wait for them.
        self._operations: ConnectionServer | None = None
        self._operations_state = ServerState()
        self._grpc: GrpcServer | None = None
        self._silent: set[Any] = set()
        """Connections that were closing, with everything sent, at the last check."""
        self._closes_at = self._tick_due_s = math.inf
        self._n_dropped = 0
        """Number of dropped log lines that were counted so far."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to take connections and snapshots, and announce the readiness, unless stopped already."""
        if self.should_exit:
            return
        await super().startup(sockets or [])
        memory.keep_freed()
        memory.collect_garbage_rarely()
        times_s = (self._settings.header_s, self._settings.request_s)
        make = partial(self._make_protocol, self.server_state, None)
        self._main = ConnectionServer(
            self._source.main,
            make,
            lambda: self._applier.tls,
            *times_s,
            self.server_state.connections,
            self._limits.connections,
        )
        self.servers.append(self._main)  # type: ignore[arg-type]
        if self._source.operations is not None:
            operations: Any = self._application.operations
            make = partial(self._make_protocol, self._operations_state, operations)
            self._operations = ConnectionServer(
                self._source.operations, make, lambda: None, *times_s, self._operations_state.connections
            )
        if self._source.grpc_address is not None:
            from service.server.rpc.server import GrpcServer  # needs an optional package

            self._grpc = GrpcServer(
                self._application, self._settings, self._source.grpc_address, lambda: self._applier.pem
            )
            await self._grpc.start()
        self._source.open(self._applier.submit, self._stop)
        if not self.should_exit:
            self._source.announce(self._applier.applied)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close after the pending TLS handshakes, the operations port last."""
        checking = get_running_loop().create_task(self._check_timeouts_until_cancelled())
        try:
            if self._main is not None:
                self._main.close()
                await self._main.wait_started(SHUTDOWN_GRACE_S)
            closing = [super().shutdown(sockets)]
            if self._grpc is not None:
                closing.append(self._grpc.stop(self._settings.shutdown_s, lambda: self.force_exit))
            await asyncio.gather(*closing)
        finally:
            checking.cancel()
        if self._operations is not None:
            self._operations.stop()
            for connection in list(self._operations_state.connections):
                connection.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unblock signals while they have handlers."""
        with super().capture_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)

    async def on_tick(self, counter: int) -> bool:
        """Run periodic work, ten times a second, and return whether to close."""
        now_s = time.monotonic()
        self._deployment.metrics.note_loop_lag(max(now_s - self._tick_due_s, 0.0))
        self._deployment.metrics.set_inflight(*self._deployment.inflight)
        self._deployment.metrics.fold()
        self._deployment.monitor.tick()
        if StderrHandler.n_dropped > self._n_dropped:
            self._deployment.metrics.note_dropped_log_lines(StderrHandler.n_dropped - self._n_dropped)
            self._n_dropped = StderrHandler.n_dropped
        if counter % (TIMEOUT_CHECK_S * TICKS_S) == 0:
            self._check_timeouts()
        if counter % (RELEASE_S * TICKS_S) == 0:
            memory.release_freed()
        if self._main is not None:
            n_connections = self._main.n_starting + len(self.server_state.connections)
            self._deployment.metrics.set_connections(n_connections)
            self._source.tick(n_connections)
        if now_s >= self._closes_at:
            self.should_exit = True
        leave = await super().on_tick(counter)
        self._operations_state.default_headers = self.server_state.default_headers
        self._tick_due_s = time.monotonic() + 1 / TICKS_S
        return leave

    def handle_exit(self, _sig: int, _frame: FrameType | None) -> None:
        """Handle a signal, unless this is a worker: systemd and terminals signal all processes at once.

        Workers are stopped by the supervisor. uvicorn would raise the signal again at the end, and so turn a clean
        stop into a death by signal.
        """
        if multiprocessing.parent_process() is None:
            self._stop()

    def _stop(self) -> None:
        """Drain; close at the second call; abandon the requests in flight at the third."""
        if not self.started:
            self.should_exit = True
        elif math.isinf(self._closes_at):
            self._deployment.status = "draining"
            if self._grpc is not None:
                self._grpc.note_health()
            self._closes_at = time.monotonic() + self._settings.drain_s + self._source.drain()
        elif not self.should_exit:
            self.should_exit = True
        else:
            self.force_exit = True

    def _make_protocol(self, state: ServerState, app: ASGI3Application | None) -> Protocol:
        """Make the HTTP protocol of a new connection."""
        return Protocol(
            self.config,
            state,
            self.lifespan.state,
            limits=self._limits,
            timeouts=self._timeouts,
            shared=self._shared,
            note=self._note_refusal,
            app=app,
        )

    def _note_request(
        self,
        known: KnownHead,
        status: int,
        seconds: float,
        n_events: int,
        client: tuple[str, int] | None,
        client_name: str | None,
    ) -> None:
        path = known.shortcut.path
        if n_events:
            self._deployment.metrics.note_events(n_events)
        self._deployment.metrics.note_request(path, status, seconds)
        if self._settings.access_log:
            scored = Scored(n_events, known.shortcut.model) if n_events else None
            log_request(client, client_name, path, status, seconds, scored, known.body_bytes, known.request_id)

    def _note_refusal(
        self, client: tuple[str, int] | None, status: int, seconds: float, request_id: bytes | None
    ) -> None:
        self._deployment.metrics.note_request("", status, seconds)
        if self._settings.access_log:
            log_refusal(client, status, seconds, request_id)

    def _check_timeouts(self) -> None:
        for state in (self.server_state, self._operations_state):
            check_timeouts(state.connections, time.monotonic())
        # TLS waits for the client's close message, which an idle client does not send.
        silent = {
            one for one in self.server_state.connections if one.transport.is_closing() and all_sent(one.transport)
        }
        for connection in silent & self._silent:
            connection.transport.abort()
        self._silent = silent

    async def _check_timeouts_until_cancelled(self) -> None:
        while True:
            await asyncio.sleep(TIMEOUT_CHECK_S)
            self._check_timeouts()

    def _use_model(self, scorer: Scorer) -> None:
        """Score the requests that begin from now on with another model."""
        self._application.use_model(scorer)
        memory.collect_garbage_rarely()


def _config(application: Application, snapshot: Snapshot) -> uvicorn.Config:
    settings = snapshot.settings
    return uvicorn.Config(
        application.main,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=1,  # else uvicorn reads it from the environment
        timeout_keep_alive=settings.keep_alive_s,
        headers=[("Keep-Alive", f"timeout={settings.keep_alive_s}")],
        timeout_graceful_shutdown=settings.shutdown_s,
    )

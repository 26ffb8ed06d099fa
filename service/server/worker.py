"""One process that serves: uvicorn's server, taking connections from listeners or from a parent, until a signal.

It does not know that there are other workers, nor requests, formats or what the application does with them.
"""

import asyncio
import gc
import logging
import math
import multiprocessing
import signal
import socket
import time
from asyncio import get_running_loop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NamedTuple

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.server import ServerState

from service.api.app import Application, create_app
from service.model.artefact import Artefact
from service.model.scorer import Scorer
from service.reload.applier import Follower
from service.reload.watcher import HELD, Followed, Order, Rollout
from service.server.discard import DiscardRate
from service.server.limits import Limits
from service.server.listener import Acceptor, Entrance, Intake, Welcome, all_sent
from service.server.protocol import Protocol, check_timeouts
from service.server.timeouts import Timeouts
from service.settings import Settings

logger = logging.getLogger(__name__)

KEPT_BYTES = 2**24

GARBAGE_OBJECTS = 50_000
"""New objects, less those gone again, before a search for cycles; thirty requests at once make the default of 700."""

ENFORCE_S = 1
"""Seconds between looks for what takes too long."""
HANDOVER_S = 0.3
"""How long a worker goes on taking connections for its parent to give it those that wait, and to take no more."""

TICKS_S = 10
"""Ticks of the server in a second."""

SIGNALS = {signal.SIGINT, signal.SIGTERM}
"""What stops the service."""


class Own(NamedTuple):
    """What a process that is alone takes connections from, and looks at the files with."""

    entrance: Entrance
    operations: Entrance | None
    rollout: Rollout


class Given(NamedTuple):
    """A worker's ways from its parent: of connections, of those of operations, and of orders."""

    channel: socket.socket
    operations: socket.socket | None
    orders: Connection


def keep_freed_memory() -> None:
    """Have the C library keep what pieces of bodies leave, instead of asking the system for it again and again.

    It takes the largest block that was ever mapped and freed for what is worth keeping: without one, raw batches took
    a tenth more time, in page faults.
    """
    bytearray(KEPT_BYTES)


def collect_garbage_rarely() -> None:
    """Spare requests the search for cycles among what lives as long as the process, and among each other's objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)


def serve(settings: Settings, artefact: Artefact, source: Own | Given, on_ready: Callable[[], None]) -> None:
    """Serve in this process until it is told to stop.

    Raises KeysError and TlsError; exits the process with 3 if the application cannot start.
    """
    application = create_app(settings, artefact)
    config = uvicorn.Config(
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
        workers=1,  # else uvicorn reads a number from the environment
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    Server(config, settings, application, source, on_ready).run()


class Server(uvicorn.Server):
    """uvicorn's server, which for some seconds after the first signal goes on scoring with /health at 503.

    A second signal ends that time, a third leaves the requests in flight. The operations port answers to the end.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        settings: Settings,
        application: Application,
        source: Own | Given,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._settings = settings
        self._limits, self._timeouts = Limits.of(settings), Timeouts.of(settings)
        self._application = application
        self._deployment = application.deployment
        self._operations: Any = application.operations
        self._follower = Follower(settings, self._deployment.metrics, application.keys, self._use_model)
        self._source = source
        self._discard_rate = DiscardRate()
        self._on_ready = on_ready
        self._intake: Intake | None = None
        # Apart, so that they count for none of the limits, and are not waited for.
        self._operations_state = ServerState()
        self._operations_server: Acceptor | Intake | None = None
        self._order: Order = self._follower.order
        self._following: asyncio.Task[None] | None = None
        self._silent: set[Any] = set()
        """Connections that were closed, and had all that was sent to them, when last looked at."""
        self._closes_at = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start unless already told to stop, take connections and orders, and say that all is ready."""
        if self.should_exit:
            return
        await super().startup(sockets or [])
        keep_freed_memory()
        collect_garbage_rarely()
        if isinstance(self._source, Own):
            self._open_own(self._source)
        else:
            self._open_given(self._source)
        if not self.should_exit:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close, and the operations port last."""
        enforcing = get_running_loop().create_task(self._enforce_to_the_end())
        try:
            await super().shutdown(sockets)
        finally:
            enforcing.cancel()
        if self._operations_server is not None:
            self._operations_server.close()
            for connection in list(self._operations_state.connections):
                connection.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let signals come while there are handlers for them, and have them wait before and after."""
        with super().capture_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, HELD)

    async def on_tick(self, counter: int) -> bool:
        """Tell whether to close, and others how it goes, ten times a second."""
        admission = self._deployment.admission
        self._deployment.metrics.set_inflight(admission.requests, admission.events, admission.bytes)
        self._deployment.metrics.fold()
        if counter % (ENFORCE_S * TICKS_S) == 0:
            self._enforce()
        if self._intake is not None:
            self._intake.report(len(self.server_state.connections))
        elif isinstance(self._source, Own) and math.isinf(self._closes_at):
            self._source.rollout.look_when_due()
        if time.monotonic() >= self._closes_at:
            self.should_exit = True
        leave = await super().on_tick(counter)
        self._operations_state.default_headers = self.server_state.default_headers
        return leave

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        """Take a signal: drain, then close, then leave.

        uvicorn would raise it again at the end, and so turn a clean stop into a death by signal.
        """
        if sig == signal.SIGINT and multiprocessing.parent_process() is not None:
            return  # Ctrl+C reaches the parent too, which passes it on as SIGTERM
        if not self.started:  # there is nobody to score on for
            self.should_exit = True
        elif math.isinf(self._closes_at):
            self._deployment.status = "draining"
            handover_s = HANDOVER_S if isinstance(self._source, Given) else 0
            self._closes_at = time.monotonic() + self._settings.drain_s + handover_s
        elif not self.should_exit:
            self.should_exit = True
        else:
            self.force_exit = True

    def _open_own(self, own: Own) -> None:
        loop, main, operations = get_running_loop(), self._welcome(), self._welcome_to_operations()
        self.servers.append(Acceptor(own.entrance, main))  # type: ignore[arg-type]
        if own.operations is not None:
            self._operations_server = Acceptor(own.operations, operations)
        loop.add_reader(own.rollout.news, self._take_news, own.rollout)
        loop.add_signal_handler(signal.SIGHUP, self._look, own.rollout)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _open_given(self, given: Given) -> None:
        loop, main, operations = get_running_loop(), self._welcome(), self._welcome_to_operations()
        self._intake = Intake(given.channel, main)
        self.servers.append(self._intake)  # type: ignore[arg-type]
        if given.operations is not None:
            self._operations_server = Intake(given.operations, operations, spare=0)
        loop.add_reader(given.orders, self._take_order, given.orders)
        parent = multiprocessing.parent_process()
        assert parent is not None
        loop.add_reader(parent.sentinel, self._stop_orphaned, parent.sentinel)

    def _welcome(self) -> Welcome:
        make = partial(self._make_protocol, self.server_state, None)
        return Welcome(make, lambda: self._follower.tls, self._settings.header_s, self._settings.request_s)

    def _welcome_to_operations(self) -> Welcome:
        make = partial(self._make_protocol, self._operations_state, self._operations)
        return Welcome(make, lambda: None, self._settings.header_s, self._settings.request_s)

    def _make_protocol(self, state: ServerState, app: ASGI3Application | None) -> Protocol:
        """Make what speaks HTTP on a new connection, as uvicorn does for those of a listener."""
        return Protocol(
            self.config,
            state,
            self.lifespan.state,
            limits=self._limits,
            timeouts=self._timeouts,
            discard_rate=self._discard_rate,
            note=self._deployment.metrics.note_request,
            app=app,
        )

    def _enforce(self) -> None:
        for state in (self.server_state, self._operations_state):
            check_timeouts(state.connections, time.monotonic())
        # TLS waits for a word from whom it has left, which a client that is idle does not say.
        silent = {
            one for one in self.server_state.connections if one.transport.is_closing() and all_sent(one.transport)
        }
        for connection in silent & self._silent:
            connection.transport.abort()
        self._silent = silent

    async def _enforce_to_the_end(self) -> None:
        while True:
            await asyncio.sleep(ENFORCE_S)
            self._enforce()

    def _look(self, rollout: Rollout) -> None:
        if math.isinf(self._closes_at):
            rollout.look()

    def _take_news(self, rollout: Rollout) -> None:
        if rollout.take():
            self._follow(rollout.order)

    def _take_order(self, orders: Connection) -> None:
        try:
            self._follow(orders.recv())
        except (EOFError, OSError):  # the parent has gone
            get_running_loop().remove_reader(orders)

    def _follow(self, order: Order) -> None:
        self._order = order
        if self._following is None:
            self._following = get_running_loop().create_task(self._catch_up())

    async def _catch_up(self) -> None:
        """Follow the newest order, and say so."""
        try:
            while self._follower.order.number < self._order.number:
                await self._follower.follow(self._order)
        finally:
            self._following = None
        followed = Followed(self._follower.order.number, self._follower.model)
        if isinstance(self._source, Own):
            self._source.rollout.settle([followed])
        else:
            self._source.orders.send(followed)

    def _use_model(self, scorer: Scorer) -> None:
        """Have what comes from now on scored by another model; what is in flight ends with the one it began with."""
        self._application.use_model(scorer)
        collect_garbage_rarely()

    def _stop_orphaned(self, sentinel: int) -> None:
        get_running_loop().remove_reader(sentinel)
        logger.error("the parent process died; this worker stops")
        self.handle_exit(signal.SIGTERM, None)

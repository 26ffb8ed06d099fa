"""One process that serves: uvicorn's server, taking connections from a listener or from a parent, until a signal.

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
from types import FrameType

import uvicorn

from service.app import create_app
from service.artefact import Artefact
from service.connections import Intake
from service.protocol import Protocol
from service.scoring import Deployment
from service.settings import Settings

logger = logging.getLogger(__name__)

BACKLOG = 2048

GARBAGE_OBJECTS = 50_000
"""New objects, less those gone again, before a search for cycles; thirty requests at once make the default of 700."""

SIGNALS = {signal.SIGINT, signal.SIGTERM}
"""What stops the service; they wait, blocked, until a process has its handlers for them."""


def collect_garbage_rarely() -> None:
    """Spare requests the search for cycles among what lives as long as the process, and among each other's objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)


def serve(
    settings: Settings,
    artefact: Artefact,
    on_ready: Callable[[], None],
    listener: socket.socket | None = None,
    channel: socket.socket | None = None,
) -> None:
    """Serve in this process, from a listener or what comes by the channel, until it is told to stop.

    Exits the process with 3 if the application cannot start.
    """
    app = create_app(settings, artefact)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        log_level=settings.log_level,
        access_log=settings.access_log,
        server_header=False,
        proxy_headers=False,
        workers=1,  # else uvicorn reads a number from the environment
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    server = Server(config, app.state["deployment"], settings.drain_s, on_ready, channel)
    server.run(sockets=[listener] if listener else [])


class Server(uvicorn.Server):
    """uvicorn's server, which for some seconds after the first signal goes on scoring with /health at 503.

    A second signal ends that time, a third leaves the requests in flight.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        deployment: Deployment,
        drain_s: float,
        on_ready: Callable[[], None],
        channel: socket.socket | None,
    ) -> None:
        super().__init__(config)
        self._channel = channel
        self._intake: Intake | None = None
        self._deployment = deployment
        self._drain_s = drain_s
        self._on_ready = on_ready
        self._closes_at = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start unless already told to stop, watch the parent process where there is one, and say that all is ready."""
        if self.should_exit:
            return
        await super().startup(sockets)
        collect_garbage_rarely()
        if self._channel is not None:
            self._intake = Intake(self._channel, self._make_protocol)
            self.servers.append(self._intake)  # type: ignore[arg-type]
        parent = multiprocessing.parent_process()
        if parent is not None:
            get_running_loop().add_reader(parent.sentinel, self._stop_orphaned, parent.sentinel)
        if not self.should_exit:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let signals come while there are handlers for them, and have them wait before and after."""
        with super().capture_signals():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    async def on_tick(self, counter: int) -> bool:
        """Tell whether to close, and others how it goes, ten times a second."""
        self._deployment.metrics.fold()
        if self._intake is not None:
            self._intake.report(len(self.server_state.connections))
        if time.monotonic() >= self._closes_at:
            self.should_exit = True
        return await super().on_tick(counter)

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
            self._closes_at = time.monotonic() + self._drain_s
        elif not self.should_exit:
            self.should_exit = True
        else:
            self.force_exit = True

    def _make_protocol(self) -> asyncio.Protocol:
        """Make what speaks HTTP on a new connection, as uvicorn does for those of a listener."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def _stop_orphaned(self, sentinel: int) -> None:
        get_running_loop().remove_reader(sentinel)
        logger.error("the parent process died; this worker stops")
        self.handle_exit(signal.SIGTERM, None)

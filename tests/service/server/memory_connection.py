"""The whole service in this process, on connections in memory, whose bytes arrive when a test says so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from service.api.app import Application, create_app
from service.metrics.exposition import render
from service.model.artefact import Artefact
from service.server.known_heads import KnownHeads
from service.server.limits import Limits
from service.server.protocol import Protocol
from service.server.request_parser import Shared
from service.server.timeouts import Timeouts
from service.settings import Settings
from tests.live import samples

QUIET_ITERATIONS: Final = 30
"""So many iterations of the event loop without a byte sent, and nothing goes on any more."""


class Transport(asyncio.Transport):
    """One connection: keeps what the service sends, and what it does not read yet."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closing = self.ended = self._paused = False
        self._waiting: list[bytes] = []
        self.protocol: Protocol

    @property
    def waits(self) -> bool:
        """Whether bytes wait until the service reads again."""
        return bool(self._waiting) and not self.closing

    def receive(self, data: bytes) -> None:
        """Have bytes arrive, now or once the service reads again."""
        if not self.closing:
            if self._paused:
                self._waiting.append(data)
            else:
                self.protocol.data_received(data)

    def pause_reading(self) -> None:  # noqa: D102
        self._paused = True

    def resume_reading(self) -> None:  # noqa: D102
        self._paused = False
        asyncio.get_running_loop().call_soon(self._receive_waiting)

    def _receive_waiting(self) -> None:
        while self._waiting and not self._paused and not self.closing:
            self.protocol.data_received(self._waiting.pop(0))

    def write(self, data: Any) -> None:  # noqa: D102
        assert not self.closing
        self.sent += data

    def write_eof(self) -> None:  # noqa: D102
        self.ended = True

    def can_write_eof(self) -> bool:  # noqa: D102
        return True

    def is_closing(self) -> bool:  # noqa: D102
        return self.closing

    def get_write_buffer_size(self) -> int:  # noqa: D102
        return 0

    def close(self) -> None:  # noqa: D102
        if not self.closing:
            self.closing = self.ended = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close


class Worker:
    """A service in this process, and how many requests have come to its application."""

    def __init__(self, artefact: Artefact, settings: Settings) -> None:
        self.application: Application = create_app(settings, artefact)
        self.n_asked = 0
        """Requests of the application: those that took the long way."""
        self.log: list[tuple[str, int]] = []
        main, self._settings = self.application.main, settings

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            self.n_asked += scope["type"] == "http"
            await main(scope, receive, send)

        self._config = uvicorn.Config(counted, lifespan="on", interface="asgi3", log_config=None, ws="none")
        self._config.load()
        self._lifespan = self._config.lifespan_class(self._config)
        self._state = ServerState()
        self._known_heads = KnownHeads(
            self.application.deployment,
            self.application.keys,
            lambda known, *rest: self._note(known.shortcut.path, *rest),
        )
        self._shared = Shared.of(settings, self.application.deployment, self._known_heads)

    def connect(self) -> Transport:
        """Open a connection."""
        transport = Transport()
        transport.protocol = Protocol(
            self._config,
            self._state,
            self._lifespan.state,
            asyncio.get_running_loop(),
            limits=Limits.of(self._settings),
            timeouts=Timeouts.of(self._settings),
            shared=self._shared,
            note=lambda _, status, seconds, __: self._note("", status, seconds),
        )
        transport.protocol.connection_made(transport)
        return transport

    def metrics(self) -> dict[str, float]:
        """Return the metrics, without durations and what the process takes."""
        metrics = self.application.deployment.metrics
        metrics.set_inflight(*self.application.deployment.inflight)
        counted = samples(render(metrics).decode())
        timed = (
            "anomaly_request_seconds_bucket",
            "anomaly_request_seconds_sum",
            "anomaly_last_reload_seconds",
            "process_",
        )
        return {name: n for name, n in counted.items() if not name.startswith(timed) and "_duration_us" not in name}

    def _note(self, path: str, status: int, seconds: float, n_events: int = 0, *_: object) -> None:
        if n_events:
            self.application.deployment.metrics.note_events(n_events)
        self.application.deployment.metrics.note_request(path, status, seconds)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Worker"]:
        """Start the application, and stop it at the end."""
        await self._lifespan.startup()
        yield self
        await self._lifespan.shutdown()


async def settle(*transports: Transport) -> None:
    """Wait until nothing goes on any more on these connections."""
    n_bytes, quiet = -1, 0
    while quiet < QUIET_ITERATIONS:
        paused = any(one.waits for one in transports)
        await asyncio.sleep(0.001 if paused else 0)
        sent = sum(len(one.sent) for one in transports)
        n_bytes, quiet = sent, quiet + 1 if sent == n_bytes and not paused else 0

"""A message of a few slices does not wait for those who send many: connections in memory, on one event loop."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from service.inference.deployment import Deployment
from service.metrics import Metrics
from service.server.limits import Limits
from service.server.protocol import Protocol
from service.server.request_parser import Shared
from service.server.short_way import KnownHeads
from service.server.timeouts import Timeouts
from service.settings import Settings
from tests.service.inference.loops import on_a_loop, pass_iterations

N_SENDERS, N_REQUESTS = 50, 200
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = b"x" * 6000
LARGE = [
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    b"GET / HTTP/1.1\r\nHost: a\r\nCookie: %b\r\n\r\n" % BODY,
]


class Transport(asyncio.Transport):
    """Counts the responses."""

    n_responses = 0

    def write(self, data: Any) -> None:
        """Count one."""
        self.n_responses += bytes(data).startswith(b"HTTP/1.1 200 ")

    def get_write_buffer_size(self) -> int:
        """Tell that all was taken."""
        return 0

    def is_closing(self) -> bool:
        """Tell that the client is there."""
        return False

    def pause_reading(self) -> None:
        """Read no more: nothing more comes."""

    def resume_reading(self) -> None:
        """Read again."""


async def answer(_scope: Any, receive: Any, send: Any) -> None:
    """Read a whole body, and answer it."""
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


class Worker:
    """Connections that share what those of a worker do."""

    def __init__(self) -> None:
        settings = Settings()
        deployment = Deployment(settings, Metrics([]))
        self._config = uvicorn.Config(answer, lifespan="off", interface="asgi3", log_config=None, ws="none")
        self._given = {
            "limits": Limits.of(settings),
            "timeouts": Timeouts.of(settings),
            "shared": Shared.of(settings, deployment, KnownHeads(deployment, None, lambda *_: None)),
            "note": lambda *_: None,
        }

    def connect(self) -> tuple[Protocol, Transport]:
        """Open a connection."""
        transport = Transport()
        protocol = Protocol(self._config, ServerState(), {}, asyncio.get_running_loop(), **self._given)  # type: ignore[arg-type]
        protocol.connection_made(transport)
        return protocol, transport


@on_a_loop
async def test_a_message_of_a_few_slices_is_parsed_before_further_requests() -> None:
    """Chunks and long heads are answered before those who send one request after another have had two slices each."""
    for large in LARGE:
        worker = Worker()
        senders = [worker.connect() for _ in range(N_SENDERS)]
        for protocol, _ in senders:
            protocol.data_received(HEALTH * N_REQUESTS)
        protocol, transport = worker.connect()
        protocol.data_received(large)
        while not transport.n_responses:
            await pass_iterations(1)
        answered = sum(transport.n_responses for _, transport in senders)
        assert answered < 2 * N_SENDERS * 1024 / len(HEALTH)
        for _, transport in senders:
            while transport.n_responses < N_REQUESTS:
                await pass_iterations(1)

"""A response is sent whole and once, whatever the application asks the connection to do."""

import asyncio
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from service.server.protocol import Cycle


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written += data


def cycle_on(transport: Transport, method: str = "GET") -> Cycle:
    """Begin a request that is complete."""
    cycle = Cycle(
        scope={"type": "http", "method": method, "headers": []},  # type: ignore[typeddict-item]
        transport=transport,
        flow=FlowControl(transport),
        logger=None,  # type: ignore[arg-type]
        access_logger=None,  # type: ignore[arg-type]
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
    cycle.more_body = False
    return cycle


async def send(cycle: Cycle, *headers: tuple[bytes, bytes]) -> None:
    """Send a response of two bytes."""
    await cycle.send({"type": "http.response.start", "status": 200, "headers": [*headers, (b"content-length", b"2")]})
    await cycle.send({"type": "http.response.body", "body": b"ok"})


def test_an_application_can_end_the_connection() -> None:
    """Its `Connection: close` is written once, and the connection does not stay open."""
    transport = Transport()

    async def respond() -> None:
        cycle = cycle_on(transport)
        await send(cycle, (b"connection", b"close"))
        assert not cycle.keep_alive

    asyncio.run(respond())
    assert transport.written == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


def test_a_second_body_is_an_error() -> None:
    """Nothing is written after a whole response."""
    transport = Transport()

    async def respond_twice() -> None:
        cycle = cycle_on(transport)
        await send(cycle)
        with pytest.raises(RuntimeError, match="unexpected ASGI message http"):
            await cycle.send({"type": "http.response.body", "body": b"ok"})

    asyncio.run(respond_twice())
    assert transport.written == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def test_a_response_to_head_has_no_body() -> None:
    """Its headers are those of GET."""
    transport = Transport()

    async def respond() -> None:
        await send(cycle_on(transport, "HEAD"))

    asyncio.run(respond())
    assert transport.written == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"

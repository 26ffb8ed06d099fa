"""A response is sent whole and once, whatever the application asks the connection to do."""

import asyncio
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from service.server.cycle import Cycle


class Transport(asyncio.Transport):
    """Keeps what is written."""

    written = b""

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written += data


async def send(transport: Transport, *bodies: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Cycle:
    """Send the start of a response, and these bodies, to a request that is complete."""
    cycle = Cycle(
        scope={"type": "http", "method": "GET", "headers": []},  # type: ignore[typeddict-item]
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
    await cycle.send({"type": "http.response.start", "status": 200, "headers": headers})
    for body in bodies:
        await cycle.send({"type": "http.response.body", "body": body})
    return cycle


def test_an_application_can_end_the_connection() -> None:
    """Its `Connection: close` is written once, and the connection does not stay open."""
    transport = Transport()
    cycle = asyncio.run(send(transport, b"ok", headers=((b"connection", b"close"),)))
    assert transport.written == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok"
    assert not cycle.keep_alive


def test_a_second_body_is_an_error() -> None:
    """Nothing is written after a whole response."""
    transport = Transport()
    with pytest.raises(RuntimeError, match=r"unexpected ASGI message http\.response\.body"):
        asyncio.run(send(transport, b"ok", b"ok"))
    assert transport.written == b"HTTP/1.1 200 OK\r\n\r\nok"

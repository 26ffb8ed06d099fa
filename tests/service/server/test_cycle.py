"""A response is sent whole and once, whatever the application asks the connection to do."""

import asyncio
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from service.server.cycle import SECURED_BYTES, Cycle


class Transport(asyncio.Transport):
    """Keeps what is written, of which the client takes so many bytes."""

    def __init__(self, taken_bytes: int = 0) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self._taken_bytes = taken_bytes

    def write(self, data: Any) -> None:
        """Keep it."""
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        """Return the bytes that the client has not taken."""
        return max(len(self.written) - self._taken_bytes, 0)

    def is_closing(self) -> bool:
        """Tell that the client is there."""
        return False

    @property
    def written(self) -> bytes:
        """All that was written."""
        return b"".join(self.writes)


async def send(
    transport: Transport,
    *bodies: bytes,
    status: int = 200,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    scheme: str = "http",
) -> Cycle:
    """Send the start of a response, and these bodies, to a request that is complete."""
    cycle = Cycle(
        scope={"type": "http", "scheme": scheme, "method": "GET", "headers": []},  # type: ignore[typeddict-item]
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
    await cycle.send({"type": "http.response.start", "status": status, "headers": headers})
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


def test_a_long_response_over_tls_is_counted() -> None:
    """It is written in pieces while the client takes them; what it does not take is one write, all of which counts."""
    body = bytes(5 * SECURED_BYTES)
    for taken_bytes, n_pieces in ((2 * len(body), 5), (SECURED_BYTES, 2), (3 * SECURED_BYTES, 4)):
        transport = Transport(taken_bytes)
        asyncio.run(send(transport, body, scheme="https"))
        head, *pieces = transport.writes
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (b"".join(pieces), len(pieces)) == (body, n_pieces)


def test_a_refusal_is_known_however_it_is_sent() -> None:
    """A 503 tells the client to retry later: its connection is read again by then."""
    assert not asyncio.run(send(Transport(), b"ok")).refused
    assert asyncio.run(send(Transport(), b"no", status=503)).refused

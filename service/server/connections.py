"""Connections from a listener or a hand-off, started on the event loop with the current TLS context."""

import asyncio
import fcntl
import logging
import socket
import ssl
import sys
import termios
from asyncio import get_running_loop
from collections.abc import Callable, Set
from functools import partial
from operator import itemgetter
from time import monotonic
from typing import Any, Final

from service.server.handoff import ConnectionReceiver
from service.server.listener import Listener

logger = logging.getLogger(__name__)

PLAIN_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"status_code":400,"detail":"the request is plain HTTP, expected HTTPS on this port"}'
)
PLAIN_BYTES: Final = 65_536

SCAN_PAUSES: Final = 10
"""Pause after a scan for unused connections that found too few, in durations of that scan: scanning thousands takes
milliseconds."""

MakeProtocol = Callable[[], Any]
"""Makes an asyncio.Protocol with a `transport`, initially None, and a `shutdown`, as uvicorn's protocols have."""


Incoming = Listener | ConnectionReceiver
"""The source of connections: both types have a readable `socket`, `take`, `pause` and `close`."""


class ConnectionServer:
    """Starts connections as they arrive; closed like an asyncio server."""

    def __init__(
        self,
        incoming: Incoming,
        make_protocol: MakeProtocol,
        tls: Callable[[], ssl.SSLContext | None],
        handshake_s: float,
        close_s: float,
        connections: Set[Any],
        max_connections: int | None = None,
    ) -> None:
        """Serve with timeouts in seconds for the TLS handshake and for the TLS shutdown after the last response.

        Above `max_connections`, new connections replace unused ones.
        """
        self._incoming = incoming
        self._make_protocol = make_protocol
        self._tls = tls
        self._handshake_s = handshake_s
        self._tls_timeouts = {"ssl_handshake_timeout": handshake_s, "ssl_shutdown_timeout": close_s}
        self._connections, self._max_connections = connections, max_connections
        self._starting: dict[asyncio.Task[None], tuple[float, socket.socket]] = {}
        """The connections that are being started: the monotonic time at which each began, and its socket."""
        self._scans_again_s = 0.0
        self._resumption: asyncio.TimerHandle | None = None
        self._closed = False
        self._listen()

    @property
    def n_starting(self) -> int:
        """Number of connections that are being started."""
        return len(self._starting)

    def close(self) -> None:
        """Start the connections that wait, then stop."""
        if not self._closed:
            while self._start_waiting():
                pass
            self.stop()

    def stop(self) -> None:
        """Start no more connections; those that wait on a shared listener are left to other workers."""
        self._closed = True
        if self._resumption is not None:
            self._resumption.cancel()
        get_running_loop().remove_reader(self._incoming.socket)
        self._incoming.close()

    async def wait_started(self, timeout_s: float) -> None:
        """Wait for the connections that are being started, for at most `timeout_s` seconds."""
        if self._starting:
            await asyncio.wait(self._starting, timeout=timeout_s)

    async def wait_closed(self) -> None:
        """Cancel the connections that are still being started."""
        for task in self._starting:
            task.cancel()

    def _listen(self) -> None:
        self._resumption = None
        get_running_loop().add_reader(self._incoming.socket, self._on_readable)

    def _on_readable(self) -> None:
        self._start_waiting()
        if pause_s := self._incoming.pause.left_s:
            get_running_loop().remove_reader(self._incoming.socket)
            self._resumption = get_running_loop().call_later(pause_s, self._listen)

    def _start_waiting(self) -> int:
        """Start a batch of connections, and return their number."""
        taken, began_s = self._incoming.take(), monotonic()
        for connection in taken:
            task = get_running_loop().create_task(self._start(connection))
            self._starting[task] = monotonic(), connection
            task.add_done_callback(self._forget)
        if taken and self._max_connections is not None:
            self._end_unused(self._max_connections, began_s)
        return len(taken)

    def _end_unused(self, most: int, before_s: float) -> None:
        """Close unused connections above `most`, of those that are older than `before_s`.

        Those without a first request are closed first, the oldest ones before others, then those whose input is only
        discarded, then idle ones.
        """
        n_more = self.n_starting + len(self._connections) - most
        began_s = monotonic()
        if n_more <= 0 or began_s < self._scans_again_s:
            return
        # Without TLS a connection starts at once, and cancelling its task would not close it.
        handshakes = self._starting if self._tls() is not None else {}
        starting = [((0, since_s), partial(self._give_up, task)) for task, (since_s, _) in handshakes.items()]
        waiting = [(unused, one.give_up) for one in self._connections if (unused := one.unused) is not None]
        unused = [one for one in (*starting, *waiting) if one[0][1] < before_s]
        # A few more, so that not every new connection causes a scan.
        for _, end in sorted(unused, key=itemgetter(0))[: n_more + most // 64]:
            end()
        if len(unused) < n_more:
            ended_s = monotonic()
            self._scans_again_s = ended_s + SCAN_PAUSES * (ended_s - began_s)

    def _give_up(self, task: asyncio.Task[None]) -> None:
        _, connection = self._starting[task]
        if not has_arrived(connection):
            self._forget(task)
            task.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._starting.pop(task, None)

    async def _begins_tls(self, connection: socket.socket) -> bool:
        """Wait for the first byte, and refuse a request in plain HTTP; raises OSError if nothing arrives in time."""
        try:
            async with asyncio.timeout(self._handshake_s):
                await _readable(connection)
            first = connection.recv(1, socket.MSG_PEEK)
            if plain := first.isalpha():
                connection.send(PLAIN_HTTP)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(PLAIN_BYTES)  # closed with bytes unread, TCP would reset it
        except BaseException:
            connection.close()
            raise
        if plain or not first:
            connection.close()
        return bool(first) and not plain

    async def _start(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        tls = self._tls()
        timeouts = {} if tls is None else self._tls_timeouts
        try:
            if tls is not None and not await self._begins_tls(connection):
                return
            protocol = self._make_protocol()
            try:
                await get_running_loop().connect_accepted_socket(lambda: protocol, connection, ssl=tls, **timeouts)
            except asyncio.CancelledError:
                if protocol.transport is not None:  # it was started before the cancellation
                    protocol.transport.abort()
                raise
        except OSError as error:  # the client left, or speaks no TLS or an insecure version
            logger.debug("connection not started", extra={"detail": str(error)})
        else:
            if self._closed:
                protocol.shutdown()


async def _readable(connection: socket.socket) -> None:
    """Wait until something has arrived."""
    loop, arrived = get_running_loop(), asyncio.Event()
    loop.add_reader(connection, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(connection)


def has_arrived(connection: socket.socket | None) -> bool:
    """Return whether the socket has unread bytes; a closed transport has no socket."""
    if connection is None or connection.fileno() < 0:
        return False
    return any(fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(4)))


def all_sent(transport: asyncio.BaseTransport) -> bool:
    """Return whether the client has acknowledged all that was sent; a TLS transport knows only a part of it."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return False
    n_unsent = int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return n_unsent <= 1  # the end of what is sent counts as a byte

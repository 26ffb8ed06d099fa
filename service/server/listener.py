"""Connections: accepted while there are descriptors for them, started, or spread over workers by a parent.

The parent accepts each, and hands it to the worker that has the fewest. Workers that accepted for themselves would
share unevenly: whoever is idle takes all that come at once, and a socket for each (SO_REUSEPORT) draws lots. It does
not know processes, signals or what is said on a connection.
"""

import asyncio
import fcntl
import logging
import math
import select
import socket
import ssl
import struct
import termios
import time
from asyncio import get_running_loop
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from service.server.descriptors import EXHAUSTED, SPARE_DESCRIPTORS, Descriptors, Shortage

logger = logging.getLogger(__name__)

REPORT: Final = struct.Struct("<QQ")
"""What a worker reports: how many connections it has taken so far, and how many of them have ended."""

BATCH: Final = 64
"""Connections that are taken before anything else is looked after."""

REST_S: Final = 0.2
"""How long none is taken where there is no descriptor or no worker for it; the clients wait in the backlog."""


MakeProtocol = Callable[[], Any]
"""Makes an asyncio.Protocol that has the `shutdown` of uvicorn's: to end the connection with its next reply."""


class Entrance:
    """A listening socket, which rests while there is nobody or nothing to take its connections with."""

    def __init__(self, listener: socket.socket, spare: int = SPARE_DESCRIPTORS) -> None:
        listener.setblocking(False)
        self.listener = listener
        self._descriptors = Descriptors(spare)
        self._untaken = Shortage()
        self._rests_until = -math.inf
        self._kept: deque[socket.socket] = deque()
        self.closed = False

    @property
    def rest_s(self) -> float:
        """How long it still rests in seconds; 0 where it does not."""
        return max(self._rests_until - time.monotonic(), 0)

    @property
    def waited_for(self) -> bool:
        """Whether a connection was accepted that no worker has taken yet."""
        return bool(self._kept)

    def accept(self) -> socket.socket | None:
        """Accept a connection; None if nobody waits, or if there is no descriptor for it, and then it rests."""
        if not self._descriptors.left(self.listener.fileno()):
            self._rest()
            return None
        try:
            connection, _ = self.listener.accept()
        except OSError as error:  # nobody waits any more, or has left again
            if error.errno in EXHAUSTED:
                self._descriptors.ran_out()
                self._rest()
            return None
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def spread(self, outlets: Sequence["Outlet"]) -> None:
        """Hand those who wait to the worker with the fewest each; whom none takes is kept, and it rests."""
        for _ in range(BATCH):
            connection = self._kept.popleft() if self._kept else self.accept()
            if connection is None:
                return
            if not any(_handed(connection, outlet) for outlet in sorted(outlets, key=lambda o: o.open_connections)):
                self._kept.appendleft(connection)
                self._untaken.note("no worker takes connections", "new ones wait until one does")
                self._rest()
                return

    def spread_all(self, outlets: Sequence["Outlet"]) -> None:
        """Hand out all who wait, as far as there are workers and descriptors for them."""
        while outlets and not self.rest_s and (self._kept or select.select([self.listener], [], [], 0)[0]):
            self.spread(outlets)

    def give_again(self, connections: Sequence[socket.socket]) -> None:
        """Keep connections that a worker never got for another, or end them if none is to get any more."""
        self._kept.extend(connections)
        if self.closed:
            self._end_kept()

    def close(self) -> None:
        """Close the socket."""
        self._end_kept()
        self.listener.close()
        self.closed = True

    def _rest(self) -> None:
        self._rests_until = time.monotonic() + REST_S

    def _end_kept(self) -> None:
        for connection in self._kept:
            connection.close()
        self._kept.clear()


class Outlet:
    """The parent's end of the way to one worker."""

    def __init__(self) -> None:
        self.channel, self.workers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self.taken_from = True
        """Whether the worker still takes connections."""
        self._handed = 0
        self._closed = 0
        self._on_their_way: deque[socket.socket] = deque()

    @property
    def open_connections(self) -> int:
        """How many connections the worker has, as far as is known."""
        return self._handed - self._closed

    def hand(self, connection: socket.socket) -> None:
        """Give the connection away; raises OSError if the worker has gone, or has more waiting than it may.

        It is kept as well until the worker says that it has it: one that is killed loses what is on its way.
        """
        socket.send_fds(self.channel, [b"c"], [connection.fileno()])
        self._handed += 1
        self._on_their_way.append(connection)

    def read_reports(self) -> None:
        """Learn how many connections have arrived and ended, and whether more are taken."""
        try:
            while report := self.channel.recv(REPORT.size):
                taken, self._closed = REPORT.unpack(report)
                while len(self._on_their_way) > self._handed - taken:
                    self._on_their_way.popleft().close()
        except BlockingIOError:
            return
        except OSError:  # it died with connections on their way
            pass
        self.taken_from = False

    def take_back(self) -> list[socket.socket]:
        """Give the connections that never arrived at a worker that has gone."""
        self.read_reports()
        never_arrived = [] if self.taken_from else list(self._on_their_way)
        if never_arrived:
            self._handed -= len(never_arrived)
            self._on_their_way.clear()
        return never_arrived

    def close(self) -> None:
        """Close both ends, and what is on its way."""
        self.channel.close()
        self.workers_end.close()
        for connection in self._on_their_way:
            connection.close()


class Welcome:
    """How an accepted connection is started: by which protocol, and with the TLS of the moment."""

    def __init__(
        self,
        make_protocol: MakeProtocol,
        tls: Callable[[], ssl.SSLContext | None],
        handshake_s: float,
        close_s: float,
    ) -> None:
        """Give TLS so many seconds to begin with, and after the last reply to end with."""
        self._make_protocol = make_protocol
        self._tls = tls
        self._handshake_s = handshake_s
        self._close_s = close_s
        self._starting: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def n_starting(self) -> int:
        """How many connections are being started."""
        return len(self._starting)

    def start(self, connection: socket.socket) -> None:
        """Start it as soon as the loop has time."""
        start = get_running_loop().create_task(self._start(connection))
        self._starting.add(start)
        start.add_done_callback(self._starting.discard)

    def close(self) -> None:
        """Have those that are being started closed."""
        self._closed = True

    def cancel(self) -> None:
        """Give up those that are being started."""
        for start in self._starting:
            start.cancel()

    async def _start(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        tls = self._tls()
        times: dict[str, float] = {}
        if tls is not None:
            times = {"ssl_handshake_timeout": self._handshake_s, "ssl_shutdown_timeout": self._close_s}
        try:
            _, protocol = await get_running_loop().connect_accepted_socket(
                self._make_protocol, connection, ssl=tls, **times
            )
        except OSError as error:  # it left, or does not speak TLS, or none that is safe
            logger.debug("connection not started", extra={"detail": str(error)})
        else:
            if self._closed:
                protocol.shutdown()


class Acceptor:
    """Takes connections from an entrance in the process that serves them, and is closed like a server of asyncio."""

    def __init__(self, entrance: Entrance, welcome: Welcome) -> None:
        self._entrance = entrance
        self._welcome = welcome
        self._resumption: asyncio.TimerHandle | None = None
        self._watch()

    def close(self) -> None:
        """Take those who wait, and no more connections."""
        if self._resumption is not None:
            self._resumption.cancel()
        get_running_loop().remove_reader(self._entrance.listener)
        while connection := self._entrance.accept():
            self._welcome.start(connection)
        self._entrance.close()
        self._welcome.close()

    async def wait_closed(self) -> None:
        """Wait for nobody: who has not started by now is given up."""
        self._welcome.cancel()

    def _watch(self) -> None:
        self._resumption = None
        get_running_loop().add_reader(self._entrance.listener, self._take)

    def _take(self) -> None:
        for _ in range(BATCH):
            connection = self._entrance.accept()
            if connection is None:
                break
            self._welcome.start(connection)
        if rest_s := self._entrance.rest_s:
            get_running_loop().remove_reader(self._entrance.listener)
            self._resumption = get_running_loop().call_later(rest_s, self._watch)


class Intake:
    """A worker's end: takes connections as a listening server does, and is closed like one."""

    def __init__(self, channel: socket.socket, welcome: Welcome, spare: int = SPARE_DESCRIPTORS) -> None:
        self._channel = channel
        self._welcome = welcome
        self._descriptors = Descriptors(spare)
        self._resumption: asyncio.TimerHandle | None = None
        self._taken = 0
        self._reported = (0, 0)
        channel.setblocking(False)
        self._watch()

    def report(self, n_open: int) -> None:
        """Tell the parent how many connections have arrived and ended, where that is news."""
        self._tell(max(self._taken - self._welcome.n_starting - n_open, self._reported[1]))

    def _tell(self, n_closed: int) -> None:
        if (self._taken, n_closed) != self._reported:
            with suppress(OSError):  # the parent is busy, or gone: the next report says as much
                self._channel.send(REPORT.pack(self._taken, n_closed))
                self._reported = (self._taken, n_closed)

    def close(self) -> None:
        """Take those that were handed over, and no more connections."""
        self._take()
        if self._resumption is not None:
            self._resumption.cancel()
        get_running_loop().remove_reader(self._channel)
        self._channel.close()
        self._welcome.close()

    async def wait_closed(self) -> None:
        """Wait for nobody: who has not started by now is given up."""
        self._welcome.cancel()

    def _watch(self) -> None:
        self._resumption = None
        get_running_loop().add_reader(self._channel, self._take)

    def _take(self) -> None:
        """Take what was handed over, and say so before a byte of it is read."""
        self._receive()
        self._tell(self._reported[1])

    def _receive(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(BATCH):
                # Else the kernel would close what it cannot give: so it stays in the channel, and then in the backlog.
                if not self._descriptors.left(self._channel.fileno()):
                    get_running_loop().remove_reader(self._channel)
                    self._resumption = get_running_loop().call_later(REST_S, self._watch)
                    return
                message, fds, _, _ = socket.recv_fds(self._channel, 1, 1)
                if not message:  # the parent has gone
                    get_running_loop().remove_reader(self._channel)
                    return
                self._taken += 1
                if fds:
                    self._welcome.start(socket.socket(fileno=fds[0]))
                else:  # a thread has taken the last one meanwhile
                    self._descriptors.ran_out()


def all_sent(transport: asyncio.BaseTransport) -> bool:
    """Tell whether the client has all that was sent to it, of which a transport of TLS knows but a part."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return False
    unsent = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
    return not any(unsent)


def _handed(connection: socket.socket, outlet: Outlet) -> bool:
    try:
        outlet.hand(connection)
    except OSError:
        return False
    return True

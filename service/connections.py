"""Connections spread over workers: the parent accepts each, and hands it to the worker that has the fewest.

Workers that accepted for themselves would share unevenly: whoever is idle takes all that come at once, and a socket for
each (SO_REUSEPORT) draws lots. It does not know processes, signals or what is said on a connection.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress

CLOSED = struct.Struct("<Q")
"""What a worker reports: how many of its connections have ended so far."""


class Outlet:
    """The parent's end of the way to one worker."""

    def __init__(self) -> None:
        self.channel, self.workers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)
        self.taken_from = True
        """Whether the worker still takes connections."""
        self._handed = 0
        self._closed = 0

    @property
    def open_connections(self) -> int:
        """How many connections the worker has, as far as is known."""
        return self._handed - self._closed

    def hand(self, connection: socket.socket) -> None:
        """Give the connection away; raises OSError if the worker has gone, or has more waiting than it may."""
        socket.send_fds(self.channel, [b"c"], [connection.fileno()])
        self._handed += 1

    def read_reports(self) -> None:
        """Learn how many connections have ended, and whether more are taken."""
        try:
            while report := self.channel.recv(CLOSED.size):
                (self._closed,) = CLOSED.unpack(report)
        except BlockingIOError:
            return
        except OSError:  # it died with connections on their way
            pass
        self.taken_from = False

    def close(self) -> None:
        """Close both ends."""
        self.channel.close()
        self.workers_end.close()


class Intake:
    """A worker's end: takes connections as a listening server does, and is closed like one."""

    def __init__(self, channel: socket.socket, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        self._channel = channel
        self._make_protocol = make_protocol
        self._taken = 0
        self._reported = 0
        self._starting: set[asyncio.Task[None]] = set()
        channel.setblocking(False)
        asyncio.get_running_loop().add_reader(channel, self._take)

    def report(self, n_open: int) -> None:
        """Tell the parent how many connections have ended, where that is news."""
        closed = self._taken - len(self._starting) - n_open
        if closed > self._reported:
            with suppress(OSError):  # the parent is busy, or gone: the next report says as much
                self._channel.send(CLOSED.pack(closed))
                self._reported = closed

    def close(self) -> None:
        """Take no more connections."""
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()

    async def wait_closed(self) -> None:
        """Wait for nothing: `close` is all."""

    def _take(self) -> None:
        with suppress(BlockingIOError):
            while True:
                _, fds, _, _ = socket.recv_fds(self._channel, 1, 1)
                if not fds:  # the parent has gone
                    asyncio.get_running_loop().remove_reader(self._channel)
                    return
                self._taken += 1
                start = asyncio.get_running_loop().create_task(self._start(socket.socket(fileno=fds[0])))
                self._starting.add(start)
                start.add_done_callback(self._starting.discard)

    async def _start(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)


def spread(listener: socket.socket, outlets: Sequence[Outlet]) -> bool:
    """Accept what waits at the listener, of non-blocking mode, and hand each connection to the worker with the fewest.

    Tells whether all of it found a worker; the client of one that did not is disconnected.
    """
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # nobody waits any more, or has left again
            return True
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not any(_handed(connection, outlet) for outlet in sorted(outlets, key=lambda o: o.open_connections)):
                return False


def _handed(connection: socket.socket, outlet: Outlet) -> bool:
    try:
        outlet.hand(connection)
    except OSError:
        return False
    return True

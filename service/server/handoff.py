"""The hand-off of connections from the supervisor, which accepts them, to the worker with the fewest.

Workers that accept by themselves share unevenly: an idle one takes all that arrive at once, and a socket for each
(SO_REUSEPORT) distributes at random.
"""

import math
import select
import socket
import struct
from collections import deque
from collections.abc import Container
from contextlib import suppress
from typing import Final

from service.server.descriptors import Descriptors, Pause
from service.server.listener import BATCH, Listener

HANDED: Final = 64
"""Maximum number of connections that are handed over in one batch."""

REPORT: Final = struct.Struct("<QQ")
"""A worker's report: the number of connections that it has taken so far, and of those that have ended."""


class Channel:
    """The supervisor's end of the hand-off to one worker."""

    def __init__(self) -> None:
        self.socket, self.workers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        self.open = True
        """Whether the worker takes connections."""
        self._n_handed = self._n_ended = 0
        self._unconfirmed: deque[socket.socket] = deque()

    @property
    def n_connections(self) -> int:
        """Number of connections of the worker, by its last report."""
        return self._n_handed - self._n_ended

    def hand(self, connection: socket.socket) -> bool:
        """Hand the connection over; False if the worker has ended or its socket is full.

        A copy is kept until the worker confirms it, since a killed worker loses connections that it has not received.
        """
        try:
            socket.send_fds(self.socket, [b"c"], [connection.fileno()])
        except OSError:
            return False
        self._n_handed += 1
        self._unconfirmed.append(connection)
        return True

    def read_reports(self) -> None:
        """Read the worker's reports of taken and ended connections, and whether it takes more."""
        try:
            while report := self.socket.recv(REPORT.size):
                n_taken, self._n_ended = REPORT.unpack(report)
                while len(self._unconfirmed) > self._n_handed - n_taken:
                    self._unconfirmed.popleft().close()
        except BlockingIOError:
            return
        except OSError:  # it died before it received all
            pass
        self.open = False

    def take_back(self) -> list[socket.socket]:
        """Return the connections that the worker has never received."""
        never_arrived = list(self._unconfirmed)
        self._n_handed -= len(never_arrived)
        self._unconfirmed.clear()
        return never_arrived

    def close(self) -> None:
        """Close both ends."""
        self.socket.close()
        self.workers_end.close()


class HandOff:
    """The supervisor's distribution of a listener's connections to workers."""

    def __init__(self, listener: Listener) -> None:
        self.closed = False
        self._listener = listener
        self._channels: list[Channel] = []
        self._pause = Pause()
        self._waiting: deque[socket.socket] = deque()
        """Accepted connections that were not handed to a worker yet."""

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets to wait for; `handle` is called once they are readable."""
        listening = self._channels and not self.closed and not self._pause_s
        return [*([self._listener.socket] if listening else []), *(channel.socket for channel in self._channels)]

    @property
    def wait_s(self) -> float:
        """Seconds after which `handle` is called in any case."""
        return self._pause_s if self._channels and (self._pause_s or self._waiting) else math.inf

    def add(self, channel: Channel) -> None:
        """Add a worker to the distribution."""
        self._channels.append(channel)

    def remove(self, channel: Channel) -> None:
        """Remove a worker that has ended, and keep the connections that it has never received for others."""
        if channel in self._channels:
            channel.read_reports()
            self._retire(channel)
        channel.close()

    def handle(self, readable: Container[object]) -> None:
        """Read reports, and distribute the connections that wait."""
        listens = self._listener.socket in readable
        for channel in list(self._channels):
            if channel.socket in readable:
                channel.read_reports()
            if not channel.open:
                self._retire(channel)
        if self._channels and not self._pause_s and (listens or self._waiting):
            self._distribute()

    def close(self) -> None:
        """Distribute the connections that wait while workers and descriptors are left, and close the listener."""
        listening = [self._listener.socket]
        while self._channels and not self._pause_s and (self._waiting or select.select(listening, [], [], 0)[0]):
            self._distribute()
        self.closed = True
        self._end_waiting()
        self._listener.close()

    @property
    def _pause_s(self) -> float:
        return max(self._pause.left_s, self._listener.pause.left_s)

    def _distribute(self) -> None:
        """Hand a batch of connections over, each to the worker with the fewest."""
        for _ in range(HANDED):
            connection = self._waiting.popleft() if self._waiting else self._listener.accept()
            if connection is None:
                return
            if not any(channel.hand(connection) for channel in sorted(self._channels, key=lambda c: c.n_connections)):
                self._waiting.appendleft(connection)
                self._pause.begin("no worker takes connections", "new ones wait until one does")
                return

    def _retire(self, channel: Channel) -> None:
        self._channels.remove(channel)
        self._waiting.extend(channel.take_back())
        if self.closed:
            self._end_waiting()

    def _end_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().close()


class ConnectionReceiver:
    """A worker's end of the hand-off, with the interface of a listener."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self.socket = channel
        self._descriptors = Descriptors()
        self.pause = self._descriptors.pause
        self._n_taken = 0
        self._reported = (0, 0)

    def take(self) -> list[socket.socket]:
        """Receive up to a batch of connections, and report them before anything is read from them."""
        taken: list[socket.socket] = []
        with suppress(BlockingIOError, ConnectionResetError):  # reset: the supervisor was killed
            # Without a free descriptor the kernel would close the connection, so it stays in the channel.
            while len(taken) < BATCH and self._descriptors.left(self.socket.fileno()):
                message, descriptors, _, _ = socket.recv_fds(self.socket, 1, 1)
                if not message:  # the supervisor has ended, so this worker will too
                    self.pause.begin()
                    break
                self._n_taken += 1
                if descriptors:
                    taken.append(socket.socket(fileno=descriptors[0]))
                else:  # a thread has taken the last descriptor meanwhile
                    self._descriptors.ran_out()
        self._report(self._reported[1])
        return taken

    def report(self, n_connections: int) -> None:
        """Report the numbers of taken and ended connections if they changed; `n_connections` are open."""
        self._report(max(self._n_taken - n_connections, self._reported[1]))

    def close(self) -> None:
        """Close this end."""
        self.socket.close()

    def _report(self, n_ended: int) -> None:
        if (self._n_taken, n_ended) != self._reported:
            with suppress(OSError):  # the supervisor is busy or has ended; the next report includes this one
                self.socket.send(REPORT.pack(self._n_taken, n_ended))
                self._reported = (self._n_taken, n_ended)

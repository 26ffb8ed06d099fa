"""Connections go to the worker that has the fewest, and those of one that has gone to the others."""

import asyncio
import math
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from service.server import connections
from service.server.connections import ConnectionServer
from service.server.handoff import REPORT, Channel, ConnectionReceiver, HandOff
from service.server.listener import Listener
from tests.live import TIMEOUT_S


class Supervisor:
    """A listener, the supervisor's hand-off of its connections, and ways to workers."""

    def __init__(self, n_workers: int, stack: ExitStack) -> None:
        self.listener = Listener(socket.create_server(("127.0.0.1", 0), backlog=100))
        self.hand_off = HandOff(self.listener)
        self.channels: list[Channel] = []
        self._stack = stack
        for _ in range(n_workers):
            self.start_worker()

    def start_worker(self) -> Channel:
        """Add a worker, and return its channel."""
        channel = Channel()
        self.channels.append(channel)
        self.hand_off.add(channel)
        return channel

    def connect(self, count: int) -> list[socket.socket]:
        """Open connections, which wait to be accepted by then."""
        address = self.listener.socket.getsockname()
        return [self._stack.enter_context(socket.create_connection(address, TIMEOUT_S)) for _ in range(count)]

    def handle(self) -> None:
        """Do what the supervisor does once any of the sockets is readable."""
        self.hand_off.handle(select.select(self.hand_off.sockets, [], [], 0)[0])

    def n_connections(self) -> list[int]:
        """Count each worker's connections, as far as is known."""
        return [channel.n_connections for channel in self.channels]


@contextmanager
def supervising(n_workers: int) -> Iterator[Supervisor]:
    """Listen as the supervisor of so many workers does."""
    with ExitStack() as clients:
        supervisor = Supervisor(n_workers, clients)
        try:
            yield supervisor
        finally:
            supervisor.hand_off.close()
            for channel in supervisor.channels:
                supervisor.hand_off.remove(channel)


def take(channel: Channel) -> list[socket.socket]:
    """Take all that was handed to a worker, at the worker's end, without a report."""
    channel.workers_end.setblocking(False)
    taken: list[socket.socket] = []
    with suppress(BlockingIOError):
        while fds := socket.recv_fds(channel.workers_end, 1, 1)[1]:
            taken.append(socket.socket(fileno=fds[0]))
    return taken


def greet(channel: Channel) -> int:
    """Take all that was handed to a worker, say hello on each connection and close it; return their number."""
    taken = take(channel)
    for connection in taken:
        with connection:
            connection.sendall(b"hello")
    return len(taken)


@pytest.mark.parametrize(("n_workers", "n_connections"), [(1, 3), (2, 8), (3, 33), (4, 6)])
def test_connections_are_spread_evenly(n_workers: int, n_connections: int) -> None:
    """However many come at once, no worker has more than one more than another."""
    with supervising(n_workers) as supervisor:
        clients = supervisor.connect(n_connections)
        supervisor.handle()
        assert math.isinf(supervisor.hand_off.wait_s)
        shares = supervisor.n_connections()
        assert sum(shares) == n_connections
        assert max(shares) - min(shares) <= 1
        assert [greet(channel) for channel in supervisor.channels] == shares
        assert all(client.recv(5) == b"hello" for client in clients)


def test_without_waiting_clients_nothing_is_handed_over() -> None:
    """A listener without connections, or with one that has left, hands nothing over and does not pause."""
    with supervising(2) as supervisor:
        supervisor.hand_off.handle([supervisor.listener.socket])
        assert math.isinf(supervisor.hand_off.wait_s)
        assert supervisor.n_connections() == [0, 0]


def test_connections_that_ended_count_no_more() -> None:
    """A worker that reports connections as ended gets the next ones."""
    with supervising(2) as supervisor:
        first, second = supervisor.channels
        supervisor.connect(6)
        supervisor.handle()
        first.workers_end.send(REPORT.pack(2, 1))
        first.workers_end.send(REPORT.pack(3, 3))  # all so far, not since the last report
        supervisor.handle()
        assert supervisor.n_connections() == [0, 3]
        supervisor.connect(3)
        supervisor.handle()
        assert supervisor.n_connections() == [3, 3]
        assert greet(first) + greet(second) == 9


@pytest.mark.parametrize("known", [True, False])
def test_a_worker_that_has_gone_is_skipped(known: bool) -> None:
    """Its connections go to the others, whether it is known by then that it has gone or not."""
    with supervising(2) as supervisor:
        gone, there = supervisor.channels
        gone.workers_end.close()
        supervisor.connect(3)
        supervisor.hand_off.handle([supervisor.listener.socket, *([gone.socket] if known else [])])
        assert math.isinf(supervisor.hand_off.wait_s)
        assert supervisor.n_connections() == [0, 3]
        assert gone.open != known
        supervisor.handle()
        assert (gone.open, there.open) == (False, True)
        assert greet(there) == 3


def test_what_never_arrived_at_a_worker_goes_to_another() -> None:
    """Of two connections one had arrived when the worker died, and died with it; the other client is served."""
    with supervising(1) as supervisor:
        [dying] = supervisor.channels
        clients = supervisor.connect(2)
        supervisor.handle()
        for connection in take(dying):
            connection.close()
        dying.workers_end.send(REPORT.pack(1, 0))
        dying.workers_end.close()
        supervisor.hand_off.remove(dying)
        supervisor.hand_off.remove(dying)  # is nothing
        other = supervisor.start_worker()
        assert supervisor.hand_off.wait_s == 0
        supervisor.handle()
        assert greet(other) == 1
        assert [client.recv(5) for client in clients] == [b"", b"hello"]


def test_what_never_arrived_ends_once_the_listener_is_closed() -> None:
    """A client whose worker dies while the service stops is not kept waiting."""
    with supervising(1) as supervisor:
        [client] = supervisor.connect(1)
        [dying] = supervisor.channels
        supervisor.hand_off.close()  # which hands over the clients that wait
        assert supervisor.n_connections() == [1]
        dying.workers_end.close()
        supervisor.handle()
        assert client.recv(5) == b""


def test_a_connection_that_no_worker_takes_waits(caplog: pytest.LogCaptureFixture) -> None:
    """Where all workers have gone, a client waits for the next one, and the log says so once."""
    with supervising(2) as supervisor:
        [client] = supervisor.connect(1)
        for channel in supervisor.channels:
            channel.workers_end.close()
        supervisor.hand_off.handle([supervisor.listener.socket])
        assert supervisor.hand_off.wait_s > 0
        for _ in range(3):
            supervisor.handle()
        next_one = supervisor.start_worker()
        time.sleep(supervisor.hand_off.wait_s)
        assert supervisor.hand_off.wait_s == 0
        supervisor.handle()
        assert math.isinf(supervisor.hand_off.wait_s)
        assert greet(next_one) == 1
        assert client.recv(5) == b"hello"
        assert [record.message for record in caplog.records] == ["no worker takes connections"]


def test_a_worker_that_takes_none_does_not_stop_the_others() -> None:
    """Once a worker has as many waiting as it may, the next one gets the connection."""
    with supervising(2) as supervisor:
        full, free = supervisor.channels
        [one] = supervisor.connect(1)
        n_handed = 0
        while full.hand(one):
            n_handed += 1
        full.workers_end.send(REPORT.pack(0, n_handed))
        full.read_reports()
        assert supervisor.n_connections() == [0, 0]
        supervisor.handle()
        [client] = supervisor.connect(1)
        supervisor.handle()
        assert math.isinf(supervisor.hand_off.wait_s)
        assert supervisor.n_connections() == [0, 2]
        assert greet(free) == 2
        assert client.recv(5) == b"hello"
        for connection in take(full):
            connection.close()


class Echo(asyncio.Protocol):
    """Sends back what comes, and counts who is there."""

    def __init__(self, connections: set[asyncio.BaseTransport]) -> None:
        self._connections = connections
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count one more."""
        self._connections.add(transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        assert isinstance(self.transport, asyncio.WriteTransport)
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count one less."""
        del exc
        assert self.transport is not None
        self._connections.discard(self.transport)


async def until(told: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(TIMEOUT_S):
        while not told():
            await asyncio.sleep(0.001)


def serve_echo(channel: Channel) -> tuple[ConnectionServer, ConnectionReceiver, set[asyncio.BaseTransport]]:
    """Serve what is handed to a worker, as the worker."""
    connections: set[asyncio.BaseTransport] = set()
    receiver = ConnectionReceiver(channel.workers_end)
    server = ConnectionServer(receiver, lambda: Echo(connections), lambda: None, TIMEOUT_S, TIMEOUT_S, connections)
    return server, receiver, connections


def test_a_worker_takes_what_is_handed_over_and_reports_what_ended() -> None:
    """A worker reads each connection from its first byte, and the supervisor learns how many have ended."""

    async def work(supervisor: Supervisor) -> None:
        [channel] = supervisor.channels
        server, receiver, connections = serve_echo(channel)

        def counted() -> int:
            receiver.report(server.n_starting + len(connections))
            channel.read_reports()
            return channel.n_connections

        clients = supervisor.connect(5)
        for client in clients:
            client.sendall(b"early")
        supervisor.handle()
        for _ in range(20):  # those on their way have not ended
            assert counted() == 5
            await asyncio.sleep(0)
        await until(lambda: len(connections) == 5)
        for client in clients:
            assert await asyncio.to_thread(client.recv, 5) == b"early"
        assert counted() == 5
        for client in clients[:2]:
            client.close()
        await until(lambda: len(connections) == 3)
        assert counted() == 3
        server.close()
        await server.wait_closed()
        channel.read_reports()
        assert not channel.open
        clients[2].sendall(b"on")  # what was taken before goes on
        assert await asyncio.to_thread(clients[2].recv, 2) == b"on"
        for client in clients[2:]:
            client.close()
        await until(lambda: not connections)
        receiver.report(0)  # to no one

    with supervising(1) as supervisor:
        asyncio.run(work(supervisor))


class Busy:
    """A connection that makes no room, and counts how often it was asked."""

    n_asked = 0

    @property
    def unused(self) -> None:
        """Tell that it is used."""
        self.n_asked += 1


def test_connections_that_make_no_room_are_not_asked_for_each_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a worker is full of busy connections, they are looked at, and then not again for a while."""
    monkeypatch.setattr(connections, "SCAN_PAUSES", 1e9)

    async def work() -> None:
        busy = Busy()
        echoing: set[asyncio.BaseTransport] = set()
        listener = Listener(socket.create_server(("127.0.0.1", 0)))
        times_s = (TIMEOUT_S, TIMEOUT_S)
        server = ConnectionServer(listener, lambda: Echo(echoing), lambda: None, *times_s, {busy}, 1)
        for _ in range(5):
            with socket.create_connection(listener.socket.getsockname(), TIMEOUT_S):
                await until(lambda: len(echoing) == 1)
            await until(lambda: not echoing)
        assert busy.n_asked == 1
        server.close()

    asyncio.run(work())


def test_a_worker_without_a_supervisor_does_not_spin() -> None:
    """When the supervisor has ended, a worker's connections go on, and its loop is not kept busy."""

    async def work(supervisor: Supervisor) -> None:
        [channel] = supervisor.channels
        server, receiver, connections = serve_echo(channel)
        [client] = supervisor.connect(1)
        with client:
            supervisor.handle()
            await until(lambda: len(connections) == 1)
            channel.socket.close()
            await until(lambda: receiver.pause.left_s > 0)
            assert not asyncio.get_running_loop().remove_reader(channel.workers_end)
            client.sendall(b"on")
            assert await asyncio.to_thread(client.recv, 2) == b"on"
        await until(lambda: not connections)
        receiver.report(0)
        server.close()
        supervisor.hand_off.remove(channel)

    with supervising(1) as supervisor:
        asyncio.run(work(supervisor))

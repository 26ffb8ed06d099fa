"""Connections go to the worker that has the fewest, and those of one that has gone to the others."""

import asyncio
import math
import os
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from benchmarks.load.formats import RAW
from service.server.connections import ConnectionServer
from service.server.handoff import REPORT, Channel, HandOff, Receiver
from service.server.listener import Listener
from tests.artefacts import sample_events
from tests.live import TIMEOUT_S, LiveService, live_service, samples


class Service:
    """A listener, the supervisor's hand-off of its connections, and ways to workers."""

    def __init__(self, n_workers: int) -> None:
        self.listener = Listener(socket.create_server(("127.0.0.1", 0), backlog=100))
        self.hand_off = HandOff(self.listener)
        self.channels = [Channel() for _ in range(n_workers)]
        for channel in self.channels:
            self.hand_off.add(channel)

    def connect(self) -> socket.socket:
        """Open a connection, which waits to be accepted by then."""
        return socket.create_connection(self.listener.socket.getsockname(), timeout=TIMEOUT_S)

    def handle(self) -> None:
        """Do what the supervisor does once any of the sockets is readable."""
        self.hand_off.handle(select.select(self.hand_off.sockets, [], [], 0)[0])

    def n_connections(self) -> list[int]:
        """Count each worker's connections, as far as is known."""
        return [channel.n_connections for channel in self.channels]


@contextmanager
def serving(n_workers: int) -> Iterator[Service]:
    """Listen as the supervisor of so many workers does."""
    service = Service(n_workers)
    try:
        yield service
    finally:
        service.hand_off.close()
        for channel in service.channels:
            service.hand_off.remove(channel)


def take(channel: Channel) -> list[socket.socket]:
    """Take all that was handed to a worker, at the worker's end, without a report."""
    channel.workers_end.setblocking(False)
    taken: list[socket.socket] = []
    with suppress(BlockingIOError):
        while fds := socket.recv_fds(channel.workers_end, 1, 1)[1]:
            taken.append(socket.socket(fileno=fds[0]))
    return taken


def close_all(connections: Sequence[socket.socket]) -> None:
    """Close connections."""
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(("n_workers", "n_connections"), [(1, 3), (2, 8), (3, 33), (4, 6)])
def test_connections_are_spread_evenly(n_workers: int, n_connections: int) -> None:
    """However many come at once, no worker has more than one more than another."""
    with serving(n_workers) as service, ExitStack() as stack:
        clients = [stack.enter_context(service.connect()) for _ in range(n_connections)]
        service.handle()
        assert math.isinf(service.hand_off.wait_s)
        shares = service.n_connections()
        assert sum(shares) == n_connections
        assert max(shares) - min(shares) <= 1
        for channel in service.channels:
            taken = take(channel)
            assert len(taken) == channel.n_connections
            for connection in taken:
                connection.sendall(b"hello")
                connection.close()
        assert all(client.recv(5) == b"hello" for client in clients)


def test_without_waiting_clients_nothing_is_handed_over() -> None:
    """A listener without connections, or with one that has left, hands nothing over and does not pause."""
    with serving(2) as service:
        service.hand_off.handle([service.listener.socket])
        assert math.isinf(service.hand_off.wait_s)
        assert service.n_connections() == [0, 0]


def test_connections_that_ended_count_no_more() -> None:
    """A worker that reports connections as ended gets the next ones."""
    with serving(2) as service, ExitStack() as stack:
        first, second = service.channels
        for _ in range(6):
            stack.enter_context(service.connect())
        service.handle()
        first.workers_end.send(REPORT.pack(2, 1))
        first.workers_end.send(REPORT.pack(3, 3))  # all so far, not since the last report
        service.handle()
        assert service.n_connections() == [0, 3]
        for _ in range(3):
            stack.enter_context(service.connect())
        service.handle()
        assert service.n_connections() == [3, 3]
        close_all(take(first) + take(second))


@pytest.mark.parametrize("known", [True, False])
def test_a_worker_that_has_gone_is_skipped(known: bool) -> None:
    """Its connections go to the others, whether it is known by then that it has gone or not."""
    with serving(2) as service, ExitStack() as stack:
        gone, there = service.channels
        gone.workers_end.close()
        for _ in range(3):
            stack.enter_context(service.connect())
        service.hand_off.handle([service.listener.socket, *([gone.socket] if known else [])])
        assert math.isinf(service.hand_off.wait_s)
        assert service.n_connections() == [0, 3]
        assert gone.open != known
        service.handle()
        assert (gone.open, there.open) == (False, True)
        close_all(take(there))


def test_what_never_arrived_at_a_worker_goes_to_another() -> None:
    """Of two connections one had arrived when the worker died, and died with it; the other client is served."""
    with serving(1) as service, ExitStack() as stack:
        [dying] = service.channels
        clients = [stack.enter_context(service.connect()) for _ in range(2)]
        service.handle()
        arrived, lost = take(dying)
        dying.workers_end.send(REPORT.pack(1, 0))
        close_all([arrived, lost])
        dying.workers_end.close()
        service.hand_off.remove(dying)
        service.hand_off.remove(dying)  # is nothing
        other = Channel()
        service.channels.append(other)
        service.hand_off.add(other)
        assert service.hand_off.wait_s == 0
        service.handle()
        [taken] = take(other)
        with taken:
            taken.sendall(b"hello")
        assert clients[1].recv(5) == b"hello"
        assert clients[0].recv(5) == b""


def test_what_never_arrived_ends_once_the_listener_is_closed() -> None:
    """A client whose worker dies while the service stops is not kept waiting."""
    with serving(1) as service, service.connect() as client:
        [dying] = service.channels
        service.hand_off.close()  # which hands over the clients that wait
        assert service.n_connections() == [1]
        dying.workers_end.close()
        service.handle()
        assert client.recv(5) == b""


def test_a_connection_that_no_worker_takes_waits(caplog: pytest.LogCaptureFixture) -> None:
    """Where all workers have gone, a client waits for the next one, and the log says so once."""
    with serving(2) as service, service.connect() as client:
        for channel in service.channels:
            channel.workers_end.close()
        service.hand_off.handle([service.listener.socket])
        assert service.hand_off.wait_s > 0
        for _ in range(3):
            service.handle()
        next_one = Channel()
        service.channels.append(next_one)
        service.hand_off.add(next_one)
        time.sleep(service.hand_off.wait_s)
        assert service.hand_off.wait_s == 0
        service.handle()
        assert math.isinf(service.hand_off.wait_s)
        [taken] = take(next_one)
        with taken:
            taken.sendall(b"hello")
        assert client.recv(5) == b"hello"
        assert [record.message for record in caplog.records] == ["no worker takes connections"]


def test_a_worker_that_takes_none_does_not_stop_the_others() -> None:
    """Once a worker has as many waiting as it may, the next one gets the connection."""
    with serving(2) as service, ExitStack() as stack:
        full, free = service.channels
        one = stack.enter_context(service.connect())
        n_handed = 0
        while full.hand(one):
            n_handed += 1
        full.workers_end.send(REPORT.pack(0, n_handed))
        full.read_reports()
        assert service.n_connections() == [0, 0]
        service.handle()
        client = stack.enter_context(service.connect())
        service.handle()
        assert math.isinf(service.hand_off.wait_s)
        assert service.n_connections() == [0, 2]
        for connection in take(free):
            connection.sendall(b"hello")
            connection.close()
        assert client.recv(5) == b"hello"
        close_all(take(full))


class Echo(asyncio.Protocol):
    """Sends back what comes, and counts who is there."""

    def __init__(self, connections: set[asyncio.BaseTransport]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count one more."""
        self._connections.add(transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        assert isinstance(self._transport, asyncio.WriteTransport)
        self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count one less."""
        del exc
        self._connections.discard(self._transport)


async def until(told: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(TIMEOUT_S):
        while not told():
            await asyncio.sleep(0.001)


def serve_echo(channel: Channel) -> tuple[ConnectionServer, Receiver, set[asyncio.BaseTransport]]:
    """Serve what is handed to a worker, as the worker."""
    connections: set[asyncio.BaseTransport] = set()
    receiver = Receiver(channel.workers_end)
    server = ConnectionServer(receiver, lambda: Echo(connections), lambda: None, TIMEOUT_S, TIMEOUT_S)
    return server, receiver, connections


def test_a_worker_takes_what_is_handed_over_and_reports_what_ended() -> None:
    """A worker reads each connection from its first byte, and the supervisor learns how many have ended."""

    async def work(service: Service) -> None:
        [channel] = service.channels
        server, receiver, connections = serve_echo(channel)

        def counted() -> int:
            receiver.report(server.n_starting + len(connections))
            channel.read_reports()
            return channel.n_connections

        clients = [service.connect() for _ in range(5)]
        for client in clients:
            client.sendall(b"early")
        service.handle()
        for _ in range(20):  # those on their way have not ended
            assert counted() == 5
            await asyncio.sleep(0)
        await until(lambda: len(connections) == 5)
        for client in clients:
            assert await asyncio.to_thread(client.recv, 5) == b"early"
        assert counted() == 5
        close_all(clients[:2])
        await until(lambda: len(connections) == 3)
        assert counted() == 3
        server.close()
        await server.wait_closed()
        channel.read_reports()
        assert not channel.open
        clients[2].sendall(b"on")  # what was taken before goes on
        assert await asyncio.to_thread(clients[2].recv, 2) == b"on"
        close_all(clients[2:])
        await until(lambda: not connections)
        receiver.report(0)  # to no one

    with serving(1) as service:
        asyncio.run(work(service))


def test_a_worker_without_a_supervisor_does_not_spin() -> None:
    """When the supervisor has ended, a worker's connections go on, and its loop is not kept busy."""

    async def work(service: Service) -> None:
        [channel] = service.channels
        server, receiver, connections = serve_echo(channel)
        with service.connect() as client:
            service.handle()
            await until(lambda: len(connections) == 1)
            channel.socket.close()
            await until(lambda: receiver.pause.left_s > 0)
            assert not asyncio.get_running_loop().remove_reader(channel.workers_end)
            client.sendall(b"on")
            assert await asyncio.to_thread(client.recv, 2) == b"on"
        await until(lambda: not connections)
        receiver.report(0)
        server.close()
        service.hand_off.remove(channel)

    with serving(1) as service:
        asyncio.run(work(service))


BODY = RAW.write("features", sample_events(1)[0])


class Client:
    """A connection that stays open."""

    def __init__(self, service: LiveService) -> None:
        self.connection = HTTPConnection(*service.address, timeout=TIMEOUT_S)
        self.connection.connect()

    def score(self) -> None:
        """Have one event scored."""
        self.connection.request("POST", "/score", BODY, {"Content-Type": RAW.media_type})
        response = self.connection.getresponse()
        assert (response.status, len(response.read())) == (200, 4)

    def count(self) -> dict[int, float]:
        """Read how many requests each worker has answered, before this one."""
        self.connection.request("GET", "/metrics")
        counted = samples(self.connection.getresponse().read().decode())
        prefix = "anomaly_worker_requests pid="
        return {int(name.removeprefix(prefix)): value for name, value in counted.items() if name.startswith(prefix)}


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [2, 3])
def test_each_worker_answers_its_even_share(model_path: Path, n_workers: int) -> None:
    """Of 4, 16 and 32 clients that come at once and stay, all workers get as many, to one."""
    with live_service(model_path, "--workers", str(n_workers)) as service, ExitStack() as stack:
        clients: list[Client] = []
        n_asked = n_polls = 0
        for n_clients in (4, 16, 32):
            new = [Client(service) for _ in range(n_clients - len(clients))]
            for client in new:
                stack.callback(client.connection.close)
                client.score()
            clients += new
            n_asked += len(new)
            deadline = time.monotonic() + TIMEOUT_S
            while sum((counted := clients[0].count()).values()) < n_asked + n_polls:
                n_polls += 1
                assert time.monotonic() < deadline
            # All polls went to one worker, and the last has not been counted yet.
            shares = list(counted.values())
            if n_polls:
                shares[shares.index(max(shares))] -= n_polls
            n_polls += 1
            assert sum(shares) == n_asked == n_clients
            assert len(shares) == n_workers
            assert max(shares) - min(shares) <= (n_clients % n_workers > 0)


@pytest.mark.process
@pytest.mark.slow
def test_a_killed_worker_takes_its_own_connections_with_it_alone(model_path: Path) -> None:
    """The other worker's clients notice nothing, and a client that connects again is answered."""
    with live_service(model_path, "--workers", "2") as service, ExitStack() as stack:
        clients = [Client(service) for _ in range(8)]
        for client in clients:
            stack.callback(client.connection.close)
            client.score()
        victim = service.wait_for("Application startup complete.", 2)["pid"]
        os.kill(victim, signal.SIGKILL)
        service.wait_for("worker died; another is started")
        outcomes: Counter[bool] = Counter()
        for client in clients:
            try:
                client.score()
            except (OSError, HTTPException):
                outcomes[False] += 1
                client.connection.close()
            else:
                outcomes[True] += 1
        assert outcomes == {True: 4, False: 4}
        for client in clients:
            client.score()  # those that were broken come again
        service.wait_for("Application startup complete.", 3)
        assert victim not in clients[0].count()
        for _ in range(4):
            newcomer = Client(service)
            stack.callback(newcomer.connection.close)
            newcomer.score()
        assert service.stop() == 0

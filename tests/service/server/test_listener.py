"""Connections go to the worker that has the fewest, and those of one that has gone to the others."""

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import httpx
import pytest

from service.server.listener import REPORT, Entrance, Intake, Outlet, Welcome
from tests.artefacts import sample_events
from tests.live import LiveService, live_service
from tests.service.formats.encodings import RAW
from tests.service.test_metrics import samples

PATIENCE_S = 30


@contextmanager
def outlets(count: int) -> Iterator[list[Outlet]]:
    """Open ways to so many workers."""
    opened = [Outlet() for _ in range(count)]
    try:
        yield opened
    finally:
        for outlet in opened:
            outlet.close()


@pytest.fixture
def entrance() -> Iterator[Entrance]:
    """Listen as the parent of workers does."""
    entrance = Entrance(socket.create_server(("127.0.0.1", 0), backlog=100))
    yield entrance
    entrance.close()


def connect(entrance: Entrance) -> socket.socket:
    """Open a connection, which the entrance has by then."""
    return socket.create_connection(entrance.listener.getsockname(), timeout=PATIENCE_S)


def take(outlet: Outlet) -> list[socket.socket]:
    """Take all that was handed to a worker, at the worker's end."""
    outlet.workers_end.setblocking(False)
    taken: list[socket.socket] = []
    with suppress(BlockingIOError):
        while fds := socket.recv_fds(outlet.workers_end, 1, 1)[1]:
            taken.append(socket.socket(fileno=fds[0]))
    return taken


def close_all(connections: Sequence[socket.socket]) -> None:
    """Close connections."""
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(("n_workers", "n_connections"), [(1, 3), (2, 8), (3, 33), (4, 6)])
def test_connections_are_spread_evenly(entrance: Entrance, n_workers: int, n_connections: int) -> None:
    """However many come at once, no worker has more than one more than another."""
    with outlets(n_workers) as workers, ExitStack() as stack:
        clients = [stack.enter_context(connect(entrance)) for _ in range(n_connections)]
        entrance.spread(workers)
        assert not entrance.rest_s
        shares = [worker.open_connections for worker in workers]
        assert sum(shares) == n_connections
        assert max(shares) - min(shares) <= 1
        for worker in workers:
            taken = take(worker)
            assert len(taken) == worker.open_connections
            for connection in taken:
                connection.sendall(b"hello")
                connection.close()
        assert all(client.recv(5) == b"hello" for client in clients)


def test_nobody_waiting_is_no_failure(entrance: Entrance) -> None:
    """A listener without connections, or with one that has left, hands nothing out and fails for nobody."""
    with outlets(2) as workers:
        entrance.spread(workers)
        assert not entrance.rest_s
        assert [worker.open_connections for worker in workers] == [0, 0]


def test_closed_connections_count_no_more(entrance: Entrance) -> None:
    """Whoever reports closed connections is given the next ones."""
    with outlets(2) as workers, ExitStack() as stack:
        first, second = workers
        for _ in range(6):
            stack.enter_context(connect(entrance))
        entrance.spread(workers)
        first.workers_end.send(REPORT.pack(2, 1))
        first.workers_end.send(REPORT.pack(3, 3))  # all so far, not since the last report
        first.read_reports()
        second.read_reports()
        assert (first.open_connections, second.open_connections) == (0, 3)
        for _ in range(3):
            stack.enter_context(connect(entrance))
        entrance.spread(workers)
        assert (first.open_connections, second.open_connections) == (3, 3)
        close_all(take(first) + take(second))


def test_a_worker_that_has_gone_is_skipped(entrance: Entrance) -> None:
    """Its connections go to the others, whether it is known by then that it has gone or not."""
    with outlets(2) as workers, ExitStack() as stack:
        gone, there = workers
        gone.workers_end.close()
        for _ in range(3):
            stack.enter_context(connect(entrance))
        entrance.spread(workers)
        assert not entrance.rest_s
        assert (gone.open_connections, there.open_connections) == (0, 3)
        assert gone.taken_from
        for worker in workers:
            worker.read_reports()
        assert (gone.taken_from, there.taken_from) == (False, True)
        close_all(take(there))


def test_a_worker_that_died_with_connections_on_their_way_is_known_to_be_gone(entrance: Entrance) -> None:
    """What it never took is no reason to hand it more."""
    with outlets(1) as [worker], connect(entrance):
        entrance.spread([worker])
        assert not entrance.rest_s
        worker.workers_end.close()
        worker.read_reports()
        assert not worker.taken_from


def test_what_never_arrived_at_a_worker_goes_to_another(entrance: Entrance) -> None:
    """Of two connections one had arrived when the worker died, and died with it; the other client is served."""
    with outlets(2) as [dying, other], ExitStack() as stack:
        clients = [stack.enter_context(connect(entrance)) for _ in range(2)]
        entrance.spread([dying])
        arrived, lost = take(dying)
        dying.workers_end.send(REPORT.pack(1, 0))
        close_all([arrived, lost])
        dying.workers_end.close()
        entrance.give_again(dying.take_back())
        assert dying.take_back() == []
        assert entrance.waited_for
        entrance.spread([other])
        [taken] = take(other)
        with taken:
            taken.sendall(b"hello")
        assert clients[1].recv(5) == b"hello"
        assert clients[0].recv(5) == b""


def test_a_connection_that_nobody_takes_waits_for_somebody(
    entrance: Entrance, caplog: pytest.LogCaptureFixture
) -> None:
    """Where all workers have gone, a client waits for the next one, and the log says so once."""
    with outlets(3) as [*gone, next_one], connect(entrance) as client:
        for worker in gone:
            worker.workers_end.close()
        for _ in range(3):
            entrance.spread(gone)
            assert entrance.waited_for
            assert entrance.rest_s
        entrance.spread([next_one])
        assert not entrance.waited_for
        [taken] = take(next_one)
        with taken:
            taken.sendall(b"hello")
        assert client.recv(5) == b"hello"
        assert [record.message for record in caplog.records] == ["no worker takes connections"]


def test_a_worker_that_takes_none_does_not_stop_the_others(entrance: Entrance) -> None:
    """Once a worker has as many waiting as it may, the next one gets the connection."""
    with outlets(2) as [full, free], ExitStack() as stack:
        one = stack.enter_context(connect(entrance))
        n_handed = 0
        with suppress(OSError):
            while True:
                full.hand(one)
                n_handed += 1
        full.workers_end.send(REPORT.pack(0, n_handed))
        full.read_reports()
        assert full.open_connections == 0
        entrance.spread([free])
        assert free.open_connections == 1
        client = stack.enter_context(connect(entrance))
        entrance.spread([full, free])
        assert not entrance.rest_s
        assert (full.open_connections, free.open_connections) == (0, 2)
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
    async with asyncio.timeout(PATIENCE_S):
        while not told():
            await asyncio.sleep(0.001)


def test_an_intake_takes_what_is_handed_and_reports_what_ended(entrance: Entrance) -> None:
    """A worker speaks on each connection from its first byte, and the parent learns how many have ended."""

    async def work(outlet: Outlet) -> None:
        connections: set[asyncio.BaseTransport] = set()
        intake = Intake(outlet.workers_end, Welcome(lambda: Echo(connections), lambda: None, PATIENCE_S, PATIENCE_S))
        clients = [connect(entrance) for _ in range(5)]
        for client in clients:
            client.sendall(b"early")
        entrance.spread([outlet])
        for _ in range(20):  # those on their way have not ended
            intake.report(len(connections))
            outlet.read_reports()
            assert outlet.open_connections == 5
            await asyncio.sleep(0)
        await until(lambda: len(connections) == 5)
        for client in clients:
            assert await asyncio.to_thread(client.recv, 5) == b"early"
        intake.report(len(connections))
        outlet.read_reports()
        assert outlet.open_connections == 5
        close_all(clients[:2])
        await until(lambda: len(connections) == 3)
        intake.report(len(connections))
        outlet.read_reports()
        assert outlet.open_connections == 3
        intake.close()
        await intake.wait_closed()
        outlet.read_reports()
        assert not outlet.taken_from
        clients[2].sendall(b"on")  # what was taken before goes on
        assert await asyncio.to_thread(clients[2].recv, 2) == b"on"
        close_all(clients[2:])
        await until(lambda: not connections)
        intake.report(0)  # to nobody

    with outlets(1) as [outlet]:
        asyncio.run(work(outlet))


def test_an_intake_without_a_parent_rests(entrance: Entrance) -> None:
    """When the parent has gone, a worker's connections go on, and its loop is not kept busy."""

    async def work(outlet: Outlet) -> None:
        connections: set[asyncio.BaseTransport] = set()
        intake = Intake(outlet.workers_end, Welcome(lambda: Echo(connections), lambda: None, PATIENCE_S, PATIENCE_S))
        with connect(entrance) as client:
            entrance.spread([outlet])
            await until(lambda: len(connections) == 1)
            outlet.channel.close()
            await asyncio.sleep(0.01)
            assert not asyncio.get_running_loop().remove_reader(outlet.workers_end)
            client.sendall(b"on")
            assert await asyncio.to_thread(client.recv, 2) == b"on"
        await until(lambda: not connections)
        intake.report(0)
        intake.close()

    with outlets(1) as [outlet]:
        asyncio.run(work(outlet))


BODY = RAW.write("features", sample_events(1)[0])


class Client:
    """A connection that stays open."""

    def __init__(self, service: LiveService) -> None:
        url = httpx.URL(service.base_url)
        self.connection = HTTPConnection(url.host, url.port or 80, timeout=PATIENCE_S)
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
            deadline = time.monotonic() + PATIENCE_S
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


def test_a_killed_worker_takes_its_own_connections_with_it_alone(model_path: Path) -> None:
    """The other worker's clients notice nothing, and whoever comes again is answered."""
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

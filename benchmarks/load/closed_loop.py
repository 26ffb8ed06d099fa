"""Checked closed-loop load: clients that send requests continuously, with exactly one outcome for each request.

Each client has a kept-alive connection and sends its next request after the response to the previous one. All clients
of a thread share one epoll, so that thousands are cheap. A repeated request is counted as a new one.
"""

import heapq
import random
import select
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from benchmarks.load.connection import TIMEOUT_S, Connection, LostError, Request, Response
from benchmarks.load.outcomes import Outcome, Record, Report

UNSENT_PAUSE_S: Final = 0.02
"""Time that a client waits after a failed connection attempt."""
TICK_S: Final = 0.1
"""Maximum interval at which the stop condition is checked."""


class Load(ABC):
    """Clients in a separate thread during a `with` block, each until its last response, and their outcomes.

    The end of the block raises RuntimeError if an outcome is missing, and any error that stopped the clients.
    """

    def __init__(self) -> None:
        self.record = Record()
        self._stopping = threading.Event()
        self._crash: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        if self._crash:
            raise self._crash
        report = self.report()
        if report.begun != sum(report.outcomes.values()):
            raise RuntimeError(f"{report.begun} requests were begun, but {report.outcomes} is what became of them")

    def report(self) -> Report:
        """Return the outcomes so far."""
        return self.record.report()

    def wait_for(self, happened: Callable[[Report], bool], timeout_s: float = TIMEOUT_S) -> Report:
        """Wait until the report fulfils a condition and return it. Raises RuntimeError after the timeout."""
        deadline = time.monotonic() + timeout_s
        while not happened(report := self.report()):
            if time.monotonic() > deadline or self._crash:
                raise RuntimeError(f"it did not happen within {timeout_s} s: {report} {self._crash!r}")
            time.sleep(0.02)
        return report

    def wait_for_answers(self, count: int) -> Report:
        """Wait for `count` more correct responses."""
        goal = self.report().outcomes[Outcome.ANSWERED] + count
        return self.wait_for(lambda report: report.outcomes[Outcome.ANSWERED] >= goal)

    @abstractmethod
    def _ask(self) -> None:
        """Let the clients send requests until `_stopping` is set, then wait for the responses to those in flight."""

    def _run(self) -> None:
        try:
            self._ask()
        except BaseException as error:
            self._crash = error


class ClosedLoop(Load):
    """Clients that send the requests in turn during a `with` block.

    A client waits for `pause_s` after each response, or with `obey_retry_after` after a refusal for its Retry-After and
    up to a second more. It opens a new connection after `per_connection` requests. The starts of the clients are spread
    evenly over `begin_within_s`.
    """

    def __init__(
        self,
        url: str,
        requests: Sequence[Request],
        *,
        clients: int = 4,
        pause_s: float = 0.0,
        per_connection: int | None = None,
        obey_retry_after: bool = False,
        begin_within_s: float = 0.0,
    ) -> None:
        super().__init__()
        self.requests = requests
        self.pause_s = pause_s
        self.per_connection = per_connection
        self.obey_retry_after = obey_retry_after
        # Different starts, so that the clients do not send the same request at the same time.
        self.clients = [
            _Client(self, Connection(url), place * len(requests) // clients, begin_within_s * place / clients)
            for place in range(clients)
        ]

    def _ask(self) -> None:
        drive([self], lambda: not self._stopping.is_set())


def drive(loops: Sequence[ClosedLoop], running: Callable[[], bool]) -> None:
    """Let the clients of all loops send requests while `running()`, then wait for the responses to those in flight."""
    start = looked_s = time.perf_counter()
    for loop in loops:
        loop.record.started = start
    clients = [client for loop in loops for client in loop.clients]
    due = [(start + client.begins_s, number, client) for number, client in enumerate(clients)]
    heapq.heapify(due)
    busy: dict[int, tuple[int, _Client]] = {}  # by file descriptor
    with ExitStack() as stack, select.epoll() as poll:
        for client in clients:
            stack.enter_context(client.connection)
        while (on := running()) or busy:
            now = time.perf_counter()
            while on and due and due[0][0] <= now:
                _, number, client = heapq.heappop(due)
                if client.begin(poll):
                    busy[client.connection.fileno()] = number, client
                else:
                    heapq.heappush(due, (client.due_s, number, client))
            wait_s = min(TICK_S, due[0][0] - now) if on and due else TICK_S
            ready = [descriptor for descriptor, _ in poll.poll(max(0.0, wait_s))]
            if now - looked_s > 1:  # stalled connections have no events
                looked_s, ready = now, list(busy)
            for descriptor in ready:
                number, client = busy[descriptor]
                if client.proceed(descriptor, poll):
                    del busy[descriptor]
                    heapq.heappush(due, (client.due_s, number, client))


class _Client:
    """A client: its connection, its position in the requests, and the time of the next one."""

    def __init__(self, loop: ClosedLoop, connection: Connection, place: int, begins_s: float) -> None:
        self.connection = connection
        self.begins_s = begins_s
        self.due_s = 0.0
        self._loop = loop
        self._place = place
        self._began_s = 0.0

    def begin(self, poll: select.epoll) -> bool:
        """Start the next request; return False if it was lost immediately."""
        self._began_s = self._loop.record.begin()
        try:
            self.connection.begin(self._loop.requests[self._place].data)
        except LostError as error:
            self._end(Outcome(error.how), str(error))
            return False
        events = select.EPOLLIN | (select.EPOLLOUT if self.connection.unsent else 0)
        poll.register(self.connection.fileno(), events)
        return True

    def proceed(self, descriptor: int, poll: select.epoll) -> bool:
        """Send and receive without blocking; return whether the request has ended."""
        sending = self.connection.unsent
        try:
            response = self.connection.proceed()
            if response is None and self.connection.is_stalled(time.perf_counter()):
                raise self.connection.lost(TimeoutError(f"nothing for {TIMEOUT_S} s"))
        except LostError as error:  # the connection is closed, and epoll has forgotten it
            self._end(Outcome(error.how), str(error))
            return True
        if response is None:
            if sending and not self.connection.unsent:
                poll.modify(descriptor, select.EPOLLIN)
            return False
        if self.connection.n_responses == self._loop.per_connection:
            self.connection.close()
        elif self.connection.is_open:
            poll.unregister(descriptor)
        self._end(*self._judge(response), response)
        return True

    def _judge(self, response: Response) -> tuple[Outcome, str]:
        if response.status == 200:
            fault = self._loop.requests[self._place].fault(response)
            return (Outcome.WRONG, fault) if fault else (Outcome.ANSWERED, "")
        refused = response.status == 503 and response.header("retry-after")
        return Outcome.REFUSED if refused else Outcome.ERROR, f"{response.status}: {response.body[:200]!r}"

    def _end(self, outcome: Outcome, detail: str, response: Response | None = None) -> None:
        """Record the outcome and schedule the next request."""
        version, ended = (response.header("model-version"), self.connection.received_s) if response else (None, None)
        name = self._loop.requests[self._place].name
        now = self._loop.record.end(name, self._began_s, outcome, detail, version, ended)
        if outcome is Outcome.CLOSED_IDLE:
            self.due_s = now
            return
        self._place = (self._place + 1) % len(self._loop.requests)
        pause_s = UNSENT_PAUSE_S if outcome is Outcome.UNSENT else self._loop.pause_s
        if outcome is Outcome.REFUSED and response and self._loop.obey_retry_after:
            # Up to a second more, so that clients refused at the same time do not all return at the same time.
            pause_s = int(response.header("retry-after") or 0) + random.random()
        self.due_s = now + pause_s

"""Many clients in one process, cheap enough to ask of a server four times what it can do; every reply is checked.

Each asks again as soon as it has its reply, or after a rest. It does not know what is asked, or what is made of the
latencies.
"""

import heapq
import random
import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Self

from benchmarks import client
from benchmarks.openloop import undisturbed

HEAD_BYTES: Final = 4_000
"""More than any head of a reply, and more than any refusal."""
PIECE_BYTES: Final = 1 << 18
UNSENT_BYTES: Final = 1 << 17
"""A network holds no more back: else whole bodies would wait in this system's memory for a server that reads slowly."""


class Asked(NamedTuple):
    """A request, the body of its right reply, the rest after that in seconds, and whether a refusal's is as told."""

    request: bytes
    reply_body: bytes
    rest_s: float = 0.0
    obedient: bool = True


class Replies:
    """What clients who ask the same got within the time that counts: seconds from the first byte to the last."""

    def __init__(self) -> None:
        self.accepted_s: list[float] = []
        self.refused_s: list[float] = []


class WrongReplyError(RuntimeError):
    """A reply that is neither the right one nor a refusal as it should be."""


class Crowd:
    """Clients on connections of their own, open during a `with` block."""

    def __init__(self, url: str) -> None:
        self._address = client.address(url)
        self._poll = select.epoll()
        self._askers: dict[int, _Asker] = {}
        self._due: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for asker in self._askers.values():
            asker.socket.close()
        self._poll.close()

    def join(self, asked: Asked, connections: int, within_s: float) -> Replies:
        """Add clients who begin one after the other within some seconds, and give what they will get."""
        replies, now = Replies(), time.perf_counter()
        for place in range(connections):
            asker = _Asker(socket.create_connection(self._address), asked, replies)
            number = asker.socket.fileno()
            self._askers[number] = asker
            self._poll.register(number, select.EPOLLIN)
            heapq.heappush(self._due, (now + within_s * place / connections, number))
        return replies

    def run(self, warming_s: float, seconds: float) -> float:
        """Ask, and count what ends after the time for warming up; gives the part of this core that it took.

        Raises WrongReplyError, and OSError for a connection that breaks.
        """
        with undisturbed():
            self._ask_until(time.perf_counter() + warming_s)
            for asker in self._askers.values():
                asker.replies.accepted_s.clear()
                asker.replies.refused_s.clear()
            busy, started = time.process_time(), time.perf_counter()
            self._ask_until(started + seconds)
            return (time.process_time() - busy) / (time.perf_counter() - started)

    def _ask_until(self, end_s: float) -> None:
        while (now := time.perf_counter()) < end_s:
            while self._due and self._due[0][0] <= now:
                _, number = heapq.heappop(self._due)
                self._askers[number].ask()
                self._watch(number)
            wake_s = min(self._due[0][0], end_s) if self._due else end_s
            for number, _ in self._poll.poll(max(0.0, wake_s - time.perf_counter())):
                asker = self._askers[number]
                writing = asker.unsent
                asker.go_on()
                if asker.next_s is not None:
                    heapq.heappush(self._due, (asker.next_s, number))
                    asker.next_s = None
                if writing and not asker.unsent:
                    self._poll.modify(number, select.EPOLLIN)

    def _watch(self, number: int) -> None:
        if self._askers[number].unsent:
            self._poll.modify(number, select.EPOLLIN | select.EPOLLOUT)


class _Asker:
    """One client: it sends its request to the end even where the reply came before that, as most do."""

    def __init__(self, connection: socket.socket, asked: Asked, replies: Replies) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)
        self.socket = connection
        self.replies = replies
        self.next_s: float | None = None
        """When to ask next, once that is known."""
        self._asked = asked
        self._request = memoryview(asked.request)
        self._sent = len(asked.request)
        self._received = bytearray(len(asked.reply_body) + HEAD_BYTES)
        self._n_received = 0
        self._rest_until_s: float | None = None
        self._began_s = 0.0

    @property
    def unsent(self) -> bool:
        """Whether some of the request is still to be sent."""
        return self._sent < len(self._request)

    def ask(self) -> None:
        """Begin to send the request."""
        self._sent = self._n_received = 0
        self._rest_until_s = None
        self._began_s = time.perf_counter()
        self._send()

    def go_on(self) -> None:
        """Read and send what can be, and say when to ask next where this has ended."""
        if self._rest_until_s is None:
            self._receive()
        if self.unsent:
            self._send()
        if self._rest_until_s is not None and not self.unsent:
            self.next_s = self._rest_until_s

    def _send(self) -> None:
        with suppress(BlockingIOError):
            self._sent += self.socket.send(self._request[self._sent : self._sent + PIECE_BYTES])

    def _receive(self) -> None:
        try:
            n_bytes = self.socket.recv_into(memoryview(self._received)[self._n_received :])
        except BlockingIOError:
            return
        if not n_bytes:
            raise ConnectionError(f"the server closed a connection after {self._n_received} bytes of a reply")
        self._n_received += n_bytes
        end = self._received.find(b"\r\n\r\n", 0, self._n_received)
        if end < 0:
            return
        head = bytes(self._received[: end + 2]).lower()
        length = int(_field(head, b"content-length"))
        if self._n_received < end + 4 + length:
            return
        now = time.perf_counter()
        if head.startswith(b"http/1.1 200 ") and length == len(self._asked.reply_body):
            if not self._received.endswith(self._asked.reply_body, end + 4, self._n_received):
                raise WrongReplyError(f"a reply of 200 is not the right one: {self._text()}")
            self.replies.accepted_s.append(now - self._began_s)
            self._rest_until_s = now + self._asked.rest_s
        elif head.startswith(b"http/1.1 503 ") and _field(head, b"retry-after"):
            self.replies.refused_s.append(now - self._began_s)
            told_s = int(_field(head, b"retry-after"))
            # Who waits as told waits up to a second more, so that not all who were told the same come together.
            self._rest_until_s = now + (told_s + random.random() if self._asked.obedient else 0)
        else:
            raise WrongReplyError(f"the reply is {self._text()}, expected the right scores, or 503 with Retry-After")

    def _text(self) -> str:
        return repr(bytes(self._received[: min(self._n_received, 300)]))


def _field(head: bytes, name: bytes) -> bytes:
    """Find a field in a head in lower case; empty where there is none."""
    return head.partition(b"\r\n%b: " % name)[2].partition(b"\r\n")[0]


def percentiles_ms(latencies_s: Sequence[float]) -> tuple[float, float]:
    """Give the median and the 99th percentile in ms; 0 where there are none."""
    if not latencies_s:
        return 0.0, 0.0
    ordered = sorted(latencies_s)
    return ordered[len(ordered) // 2] * 1e3, ordered[int(0.99 * (len(ordered) - 1))] * 1e3

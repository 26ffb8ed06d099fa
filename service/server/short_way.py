"""The short way: a fast path from the socket to the model's batch and back, past the parser and the application.

A request whose head has the same bytes as one that was parsed, checked and answered before asks for the same. If such
a head arrives on an otherwise idle connection, only its body is read. Any other request, and any that fails, is parsed
from the same bytes by the long way: the short way writes only scores.
"""

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.api.extensions import SHORTCUT, Headers
from service.errors import STATUSES, ClientDisconnectedError, OverloadedError
from service.inference.admission import Admitted
from service.server.buffers import SLICE_BYTES
from service.server.cycle import connection_headers, id_header, response_head, write_response
from service.server.known_heads import KnownHead
from service.server.request_parser import IDLE, RequestParser

END_OF_LINE: Final = b"\r\n"
END_OF_HEAD: Final = b"\r\n\r\n"
WHOLE_BYTES: Final = 2**22
"""A longer body is read and scored in pieces, while it arrives."""

SHORT_PIECE_BYTES: Final = 512
"""Minimum mean length of the pieces of a body on the short way: shorter ones take more memory than they have bytes. A
few may be shorter."""

FEW_PIECES: Final = 64

CONTENT_LENGTHS: Final = tuple(b"content-length: %d\r\n" % n_bytes for n_bytes in range(256))
"""The Content-Length headers of short bodies, by length."""


class Exchange(Admitted):
    """A request on the short way, which receives its scores."""

    __slots__ = ("began_s", "connection", "data", "known", "missing_bytes", "n_head_bytes", "write")

    def __init__(
        self, connection: "ShortWay", known: KnownHead, data: bytes, n_head_bytes: int, began_s: float
    ) -> None:
        """Admit the request; raises OverloadedError."""
        shortcut = known.shortcut
        super().__init__(shortcut.admission, shortcut.n_events, shortcut.n_bytes)
        self.connection: ShortWay | None = connection
        self.known = known
        self.data = [data]
        self.n_head_bytes = n_head_bytes
        self.missing_bytes = n_head_bytes + known.body_bytes - len(data)
        self.began_s = began_s
        self.write: Callable[[NDArray[np.float32]], tuple[Headers, bytes]] | None = None

    def add(self, data: bytes) -> bool:
        """Add a piece of the body; False if it exceeds the body, or if there are too many short pieces."""
        missing_bytes = self.missing_bytes - len(data)
        n_bytes = self.known.body_bytes - missing_bytes
        if missing_bytes < 0 or len(self.data) >= FEW_PIECES + n_bytes // SHORT_PIECE_BYTES:
            return False
        self.data.append(data)
        self.missing_bytes = missing_bytes
        return True

    def join(self) -> bytes:
        """Join the pieces of a complete body."""
        first, *others = self.data
        head = first[: self.n_head_bytes]
        body = b"".join([memoryview(first)[self.n_head_bytes :], *others]) if others else first[self.n_head_bytes :]
        self.data = [head, body]
        return body

    def done(self) -> bool:
        """Return whether the request no longer needs its scores."""
        return self.connection is None

    def set_result(self, result: NDArray[np.float32], /) -> None:
        """Send the scores (n,)."""
        assert self.connection is not None
        self.connection.respond(result)

    def set_exception(self, _: Exception, /) -> None:
        """Parse the request by the long way, which reports the error."""
        assert self.connection is not None
        self.connection.take_long_way()

    def end(self) -> None:
        """Leave the short way, without scores from now on."""
        self.connection = None
        self.release()


class ShortWay(RequestParser):
    """The part of a connection's protocol that handles requests with known heads."""

    _exchange: Exchange | None = None
    _goes_short = True
    """Whether requests may take the short way on this connection."""
    _was_asked = False
    _client_name: str | None = None
    _overload: str | None = None
    """The reason why the request that is being parsed found no room on the short way."""

    @property
    def _answering(self) -> bool:
        return self._exchange is not None or super()._answering

    def data_received(self, data: bytes) -> None:
        """Handle a request with a known head, or parse what arrives."""
        exchange = self._exchange
        if exchange is not None:
            if exchange.add(data):
                if not exchange.missing_bytes:
                    self._score(exchange)
                return
            self.take_long_way()
        elif (
            self._state is IDLE
            and self._goes_short
            and not self._held
            and (self._current is None or self._current.response_complete)
        ):
            n_head_bytes = data.find(END_OF_HEAD, 0, SLICE_BYTES) + len(END_OF_HEAD)
            if n_head_bytes > len(END_OF_HEAD):
                head = data[:n_head_bytes]
                known = self._shared.known_heads.find(head)
                if known is None:
                    self._learn(head, data)
                    return
                if self._begin(known, data, n_head_bytes):
                    return
        super().data_received(data)
        self._overload = None

    def take_long_way(self) -> None:
        """Parse the request on the short way by the long way."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        exchange.end()
        began_s = self._clocks.message_s
        super().data_received(b"".join(exchange.data))
        self._clocks.message_s = began_s

    def respond(self, scores: NDArray[np.float32]) -> None:
        """Send the scores (n,), all finite."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        exchange.end()
        head, write = exchange.known.response_head, exchange.known.shortcut.write
        if write is not None:
            body = write(scores)
        else:
            assert exchange.write is not None
            headers, body = exchange.write(scores)
            head = response_head(200, headers) + id_header(exchange.known.request_id)
        staying, _ = connection_headers(self.server_state.default_headers)
        if len(body) < len(CONTENT_LENGTHS):
            parts = head, CONTENT_LENGTHS[len(body)], staying, END_OF_LINE, body
            self.transport.write(b"".join(parts))
        else:
            head = b"%bcontent-length: %d\r\n%b\r\n" % (head, len(body), staying)
            write_response(self.transport, self.scheme, head, body)
        self.server_state.total_requests += 1
        self._note_response(exchange, 200, len(scores))

    def _leave(self) -> None:
        """Abandon the request on the short way, since the client has left."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        exchange.end()
        self._note_response(exchange, STATUSES[ClientDisconnectedError], 0)

    def _note_response(self, exchange: Exchange, status: int, n_events: int) -> None:
        known = exchange.known
        client, name = known.client or self.client, known.client_name or self._client_name
        seconds = monotonic() - exchange.began_s
        self._shared.known_heads.note(known, status, seconds, n_events, client, name)

    def _begin(self, known: KnownHead, data: bytes, n_head_bytes: int) -> bool:
        """Begin a request; False if more than it has arrived, or if there is no room for it."""
        if len(data) - n_head_bytes > known.body_bytes or self.flow.write_paused:
            return False
        now_s = monotonic()
        try:
            exchange = Exchange(self, known, data, n_head_bytes, now_s)
        except OverloadedError as error:
            # The long way refuses it with this error, rather than admit it later: else all excess requests would take
            # the long way, which is much slower.
            self._overload = str(error)
            return False
        self._clocks.received_s = now_s
        self._clocks.begin_message()
        self._was_asked = True
        self._exchange = exchange
        if not exchange.missing_bytes:
            self._score(exchange)
        return True

    def _learn(self, head: bytes, data: bytes) -> None:
        """Parse what arrives, and keep the head of its request as known if the response has scores."""
        before = self.cycle
        super().data_received(data)
        cycle = self.cycle
        if (
            cycle is not before
            and self._answering
            and cycle is self._current
            and not cycle.waiting_for_100_continue
            and 0 < cycle.announced_bytes <= WHOLE_BYTES
            and self._body_bytes == len(data) - len(head)  # the parser agrees on the head's bytes
        ):
            scope: Any = cycle.scope
            scope["extensions"][SHORTCUT] = None
            cycle.learn = partial(self._shared.known_heads.add, head, self._shared.known_heads.generation, self.client)

    def _score(self, exchange: Exchange) -> None:
        """Submit the body to be scored."""
        try:
            exchange.known.shortcut.submit(exchange.join(), exchange)
        except Exception:  # the long way reports the error
            self.take_long_way()

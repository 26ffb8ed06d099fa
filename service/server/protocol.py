"""HTTP/1.1 on one connection: uvicorn's protocol with limits, timeouts, lingering close and responses in one write.

It builds on uvicorn's private request cycle, so uvicorn is pinned to one minor version. To move the pin: compare
uvicorn/protocols/http/httptools_impl.py of both versions, port the changes in the methods that are overridden here,
and run the tests of `tests/service/server`.
"""

from asyncio import AbstractEventLoop, Task
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any, Final
from weakref import ref

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.server import ServerState

from service.api.error_responses import write_error
from service.api.extensions import BEGAN_S, BUSY_S, OVERLOAD, SEND_RESPONSE, SendResponse
from service.api.middleware import CLIENT_NAME
from service.api.request_id import find_id
from service.errors import ClientDisconnectedError, ServiceError, describe, headers
from service.security import tls
from service.server.buffers import Flow
from service.server.connections import all_sent, has_arrived
from service.server.cycle import KEEP_ALIVE, SECURED_BYTES, Cycle, id_header, response_head, send_response
from service.server.discard import Discard
from service.server.limits import Limits
from service.server.request_parser import (
    BODY,
    HEAD,
    IDLE,
    LINGERING,
    NOTHING,
    REFUSED,
    SHUTDOWN_GRACE_S,
    Shared,
)
from service.server.short_way import ShortWay
from service.server.timeouts import Timeouts

USED_S: Final = 10.0
"""Seconds for which an idle connection is kept open when new connections exceed the limit."""

RESERVED_CONNECTIONS: Final = 64
"""Connections above the limit that still get responses, for probes; further ones are closed at once."""

NoteRefusal = Callable[[tuple[str, int] | None, int, float, bytes | None], None]
"""Counts and logs a request that could not be read: its client, the status of the response, its seconds and its id."""


def check_timeouts(connections: Iterable[Any], now_s: float) -> None:
    """Check the timeouts of each connection; `now_s` is monotonic."""
    for connection in list(connections):
        connection.check_timeouts(now_s)


class Protocol(ShortWay):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
        *,
        limits: Limits,
        timeouts: Timeouts,
        shared: Shared,
        note: NoteRefusal,
        app: ASGI3Application | None = None,
    ) -> None:
        """Serve the configured application, or `app` if given, whose connections are not limited in number.

        Requests that never reach an application are counted by `note`.
        """
        super().__init__(config, server_state, app_state, _loop, limits, timeouts, shared)
        self._note = note
        self._limited = app is None
        if app is not None:
            self.app, self._goes_short = app, False
        self._task: Task[None] | None = None
        self._refusal: ServiceError | None = None
        self._refused_id: bytes | None = None
        self._over_limit = self._half_closed = False

    def connection_made(self, transport: Any) -> None:
        """Set up the connection, or close it if there are too many."""
        super().connection_made(transport)
        if self.scheme == "https":
            transport.set_write_buffer_limits(SECURED_BYTES)
            transport.set_read_buffer_limits(SECURED_BYTES)
        self.flow = Flow(transport)
        self._discard = Discard(self._shared.discard_rate, self._limits.body_bytes, self.flow, self.loop)
        self._client_name = tls.subject(transport.get_extra_info("peercert"))
        if self._limited and len(self.connections) > self._limits.connections:
            self._over_limit, self._goes_short = True, False
            if len(self.connections) > self._limits.connections + RESERVED_CONNECTIONS:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the request in progress, while uvicorn cancels the one read last."""
        self._hold(NOTHING)
        self._shared.unsent.remove(self.transport)
        if self._exchange is not None:
            self._leave()
        if self._current is not None and not self._current.response_complete:
            self._current.disconnected = True
            self._cancel(ClientDisconnectedError("the client left before its request was answered"))
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's may return a bool
        """Return whether the connection stays open, to send the responses to complete requests."""
        if self._exchange is not None:
            self.take_long_way()
        if self.scheme == "https" or not self._answering:
            return False
        if self._refusal is not None:
            self._half_closed = True
            return True
        if self.cycle.more_body:
            if self.cycle is self._current:
                return False
            self.pipeline.popleft()  # the request read last, which will not be completed
        last = self.pipeline[0][0] if self.pipeline else self._current
        assert last is not None
        last.keep_alive, self._half_closed, self._state = False, True, IDLE
        return True

    def pause_writing(self) -> None:
        """Count a response that the client does not read."""
        super().pause_writing()
        self._shared.unsent.add(self.transport)

    def resume_writing(self) -> None:
        """Stop counting the response."""
        super().resume_writing()
        self._shared.unsent.remove(self.transport)

    def on_response_complete(self) -> None:
        """Continue with the next request, or close the connection.

        Idle connections are closed by `check_timeouts`: a timer for each request would cost it a microsecond.
        """
        self.server_state.total_requests += 1
        cycle = self._current
        assert cycle is not None
        if not cycle.keep_alive:
            self._end()
        elif self._refusal is not None and not self.pipeline:
            self._send_refusal()
        elif not self.transport.is_closing():
            if cycle.refused or cycle.more_body:
                self._discard.prepay(max(self._piece_bytes, cycle.announced_bytes))
            else:
                self.flow.resume_reading()
            if self.pipeline:
                self._current = self.pipeline.pop()[0]  # type: ignore[assignment]  # all are of this class
                self._shared.pipelined.append(self._start_current)
            if self._held and not self._must_wait:
                self._parse_later()

    def shutdown(self) -> None:
        """Close the connection after the response in progress or, without one, after a grace period."""
        self._shutting_down, self._goes_short = True, False
        if self._exchange is not None:
            self.take_long_way()
        if self._answering or self._state is not IDLE:
            if self.cycle is not None:
                self.cycle.keep_alive = False
        else:
            self.flow.resume_reading()  # requests that were sent already get a response
            self.loop.call_later(SHUTDOWN_GRACE_S, self._close_if_idle)

    def check_timeouts(self, now_s: float) -> None:
        """End whatever has exceeded its timeout; `now_s` is monotonic."""
        clocks = self._clocks
        if clocks.were_frozen(now_s):
            return
        if self._exchange is not None:
            self.take_long_way()
        if clocks.reader_stalled(self.transport.get_write_buffer_size(), now_s):
            self.transport.abort()
        elif not self.transport.is_closing():
            if self.flow.read_paused:
                clocks.excuse(now_s, head=self._state is HEAD)
            self._check_request(now_s)

    def _check_request(self, now_s: float) -> None:
        clocks = self._clocks
        if self._state is LINGERING:
            if clocks.linger_expired(now_s):
                self.transport.close()
        elif self._current is not None and self._answering:
            error = clocks.request_error(now_s, arriving=self._current.more_body)
            if not error and self._current.more_body and self._is_needed:
                error = self._pace_error(now_s)
            if error and self._task is not None and self._task.cancelling():
                self.transport.abort()  # the client does not read, and the error waits behind earlier responses
            elif error:
                self._cancel(error)
        elif self._state is HEAD:
            if error := clocks.head_error(now_s):
                self._refuse(error)
        elif self._state is BODY:
            if clocks.discard_expired(now_s):
                self._linger()
        elif clocks.idle_expired(now_s, used=self._was_asked or self.cycle is not None):
            self.transport.close()

    @property
    def _is_needed(self) -> bool:
        """Whether other clients need the connection, or the room in flight that its request takes."""
        full = self._limited and len(self.connections) >= self._limits.connections
        return full or self._shared.deployment.more_than_half_full

    def _pace_error(self, now_s: float) -> ServiceError | None:
        """Return the error of a body that arrives too slowly, unless the worker itself reads slowly."""
        if has_arrived(self.transport.get_extra_info("socket")):
            return None
        assert self._current is not None
        announced_bytes = self._current.announced_bytes or self._limits.body_bytes
        return self._clocks.pace_error(now_s, self._body_bytes / announced_bytes)

    @property
    def unused(self) -> tuple[int, float] | None:
        """The rank of this connection for being closed, and the time since when it is unused; None while it is used.

        The lowest rank is closed first: without a request so far, then with input that is only discarded, then idle.
        No connection with an unread response counts as unused.
        """
        clocks = self._clocks
        if self._answering or self.transport.is_closing():
            return None
        if self.cycle is None and not self._was_asked and self._state is not LINGERING:
            return 0, clocks.message_s
        if self._held:
            return None
        if self._state is LINGERING or self._state is BODY:
            return (1, clocks.message_s) if self._all_taken else None
        used = self._state is IDLE and monotonic() - clocks.received_s > USED_S
        return (2, clocks.received_s) if used and self._all_taken else None

    @property
    def _all_taken(self) -> bool:
        """Whether the client has read all responses."""
        return not self.transport.get_write_buffer_size() and all_sent(self.transport)

    def give_up(self) -> None:
        """Close the connection to make room for others, unless a request has arrived."""
        if self._state is not IDLE or not has_arrived(self.transport.get_extra_info("socket")):
            self.connections.discard(self)
            self.transport.abort()

    def _start_current(self) -> None:
        """Start to handle a pipelined request, unless its client has left."""
        if self._current is not None and not self._current.disconnected:
            self._start(self._current)

    def _start(self, cycle: Cycle) -> None:
        """Start to handle a request."""
        self._current = cycle
        self._clocks.request_s = self._clocks.message_s if cycle is self.cycle else monotonic()
        # A weak reference, since the cycle holds the scope: a reference cycle would wait for the garbage collection.
        send: SendResponse = partial(send_response, ref(cycle))
        extensions: dict[str, Any] = {
            SEND_RESPONSE: send,
            BUSY_S: self._shared.discard_rate.busy_s,
            BEGAN_S: self._clocks.request_s,
        }
        if self._over_limit:
            cycle.keep_alive = False
            extensions[OVERLOAD] = "this worker has reached its maximum of connections: connect again in a second"
        elif self._overload is not None:
            extensions[OVERLOAD] = self._overload
        cycle.scope["extensions"] = extensions
        if self._client_name is not None:
            cycle.scope[CLIENT_NAME] = self._client_name  # type: ignore[typeddict-unknown-key]
        self._task = task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _cancel(self, error: ServiceError) -> None:
        """End the request in progress with this error, and then the connection."""
        if self._current is not None and self._task is not None:
            self._current.keep_alive = False
            self._current.message_event.set()
            self._task.cancel(error)

    def _refuse(self, error: ServiceError) -> None:
        """Refuse the arriving request with an error after the responses to earlier ones, and end the connection."""
        broken = self.cycle if self._state is BODY else None
        if self._state is HEAD or broken is not None:
            self._refused_id = find_id(self.headers)
        # Its traceback would keep the parsed bytes in memory as long as the connection.
        self._refusal, self._state = error.with_traceback(None), REFUSED
        self._hold(NOTHING)
        if broken is not None and broken.response_complete:
            self._linger()  # the client would take another response for that to its next request
            return
        if broken is not None and broken is self._current:
            # To the application the client has left, since the response is written here.
            broken.disconnected = broken.response_complete = True
            broken.body = bytearray()
            self._cancel(ClientDisconnectedError("the rest of the request is not HTTP"))
            self._send_refusal()
            return
        if broken is not None:
            self.pipeline.popleft()  # the request read last
        if not self._answering:
            self._send_refusal()

    def _send_refusal(self) -> None:
        assert self._refusal is not None
        body = describe(self._refusal, "", "")
        content = write_error(body, (self.url or b"").partition(b"?")[0].decode("latin-1"))
        given = {
            **{name: value for name, value in self.server_state.default_headers if name != KEEP_ALIVE},
            b"content-type": b"application/json",
            b"content-length": b"%d" % len(content),
            **{name.lower().encode(): value.encode() for name, value in headers(body.status_code).items()},
            b"connection": b"close",
        }
        head = response_head(body.status_code, tuple(given.items())) + id_header(self._refused_id)
        self.transport.write(b"%b\r\n%b" % (head, content))
        self._note(self.client, body.status_code, self._clocks.received_s - self._clocks.message_s, self._refused_id)
        self._linger()

    def _end(self) -> None:
        """End the connection after its last response."""
        if self._state is IDLE and not self.pipeline and not self._held:
            self.transport.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Close the connection once the client has closed it; until then, within limits, discard what it sends.

        Closing at once, with unread bytes of the client, would make TCP reset the connection and lose the response.
        """
        self._state = LINGERING
        self._hold(NOTHING)
        if self._half_closed:
            self.transport.close()
            return
        self._clocks.begin_linger()
        if self.transport.can_write_eof():  # not with TLS
            self.transport.write_eof()
        announced_bytes = self._current.announced_bytes if self._current and self._current.more_body else 0
        self._discard.prepay(max(self._piece_bytes, announced_bytes))

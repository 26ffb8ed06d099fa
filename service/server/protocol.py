"""HTTP/1.1 on one connection: uvicorn's protocol with limits, timeouts, lingering close and responses in one write.

It builds on uvicorn's private request cycle, so uvicorn is pinned to one minor version. To move the pin: compare
uvicorn/protocols/http/httptools_impl.py of both versions, carry over what changed in the methods that are overridden
here, and run the tests of `tests/service/server`.
"""

from asyncio import AbstractEventLoop, Event, Task
from collections.abc import Callable, Iterable
from enum import Enum, auto
from functools import partial
from time import monotonic
from typing import Any, Final, NamedTuple, Self
from weakref import ref

import httptools
import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.api.extensions import BUSY_S, OVER_CONNECTION_LIMIT, SEND_RESPONSE, SendResponse
from service.api.middleware import CLIENT_NAME
from service.errors import (
    ClientDisconnectedError,
    MalformedRequestError,
    OverloadedError,
    ServiceError,
    UnsupportedVersionError,
    describe,
    headers,
)
from service.inference.deployment import Deployment
from service.security import tls
from service.server.buffers import SLICE_BYTES, Flow, ReadAhead, UnsentResponses
from service.server.cycle import KEEP_ALIVE, Cycle, response_head, send_response
from service.server.discard import Discard, DiscardRate
from service.server.limits import Limits, is_host, parser_error, split_url
from service.server.timeouts import Clocks, Timeouts
from service.settings import Settings

USED_S: Final = 10.0
"""How long a connection without a request is kept for another one where new connections find no place."""

RESERVED_CONNECTIONS: Final = 64
"""Connections above the limit that are still answered, for probes; further ones are closed at once."""

SHUTDOWN_GRACE_S: Final = 0.5
"""How long an idle connection stays open at shutdown, for a request that its client may just have sent."""

NOTHING: Final = memoryview(b"")

SPOKEN: Final = {"1.0", "1.1"}

NoteRefusal = Callable[[tuple[str, int] | None, int, float], None]
"""Counts a request that could not be read: its client, the status of the response, and the seconds it took."""


class State(Enum):
    """What arrives on a connection."""

    IDLE = auto()
    """Nothing: the next byte begins a request."""
    HEAD = auto()
    BODY = auto()
    """The body of a request, whether it is still being answered or its rest is discarded."""
    REFUSED = auto()
    """What is discarded: a request was refused, and requests before it are still being answered."""
    LINGERING = auto()
    """What is discarded: the last response was sent, and the connection ends."""


IDLE, HEAD, BODY, REFUSED, LINGERING = State  # a member's look-up in its class is slow in Python 3.11


class Shared(NamedTuple):
    """What the connections of a worker share."""

    discard_rate: DiscardRate
    read_ahead: ReadAhead
    unsent: UnsentResponses
    deployment: Deployment

    @classmethod
    def of(cls, settings: Settings, deployment: Deployment) -> Self:
        """Bound what waits to be parsed by an eighth of the bytes in flight, and what is not taken by a quarter."""
        n_bytes = settings.max_inflight_bytes
        return cls(DiscardRate(), ReadAhead(n_bytes // 8), UnsentResponses(n_bytes // 4), deployment)


def check_timeouts(connections: Iterable[Any], now_s: float) -> None:
    """Check the timeouts of each connection; `now_s` is monotonic."""
    for connection in list(connections):
        connection.check_timeouts(now_s)


class Protocol(HttpToolsProtocol):
    """One connection."""

    cycle: Cycle
    flow: Flow

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
        """Serve `app`, with no limit to the number of its connections, instead of the configured one if it is given.

        Requests that never reach an application are counted by `note`.
        """
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._shared = shared
        self._note = note
        self._limited = app is None
        if app is not None:
            self.app = app
        self._clocks = Clocks(timeouts)
        self._state = IDLE
        self._current: Cycle | None = None
        """The request that is being answered, or was answered last."""
        self._task: Task[None] | None = None
        self._refusal: ServiceError | None = None
        self._over_limit = self._shutting_down = False
        self._client_name: str | None = None
        self._n_hosts = 0
        self._piece_bytes = self._body_bytes = 0
        self._unlimited_bytes = min(limits.url_bytes, limits.header_bytes)
        self._head_is_split = False
        self._progress = self._stalled_bytes = 0
        """How often the parser began or ended a part of a message or gave a piece of a body, and the bytes since."""
        self._discard: Discard
        self._held = NOTHING
        """What has arrived and is not parsed yet."""
        self._half_closed = False

    def connection_made(self, transport: Any) -> None:
        """Take the connection, or close it where there are too many."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        self._discard = Discard(self._shared.discard_rate, self._limits.body_bytes, self.flow, self.loop)
        self._client_name = tls.subject(transport.get_extra_info("peercert"))
        if self._limited and len(self.connections) > self._limits.connections:
            self._over_limit = True
            if len(self.connections) > self._limits.connections + RESERVED_CONNECTIONS:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the request that is being answered; uvicorn cancels the one read last."""
        self._hold(NOTHING)
        self._shared.unsent.remove(self.transport)
        if self._current is not None and not self._current.response_complete:
            self._current.disconnected = True
            self._cancel(ClientDisconnectedError("the client left before its request was answered"))
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrives, as far as it is HTTP and within the limits; hold what is more than a slice."""
        self._clocks.received_s = monotonic()
        if len(data) <= SLICE_BYTES and not self._held:
            self._parse(data)
        elif self._state is REFUSED or self._state is LINGERING:
            self._parse(data)  # to discard it
        elif self._held:  # TLS gives all that it has deciphered
            self._hold(memoryview(bytes(self._held) + data))
        else:
            self._parse_slice(memoryview(data))

    def parse_held(self) -> None:
        """Parse a slice of what is held."""
        if self._held and not self._must_wait and not self.transport.is_closing():
            self._parse_slice(self._held)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's may give a bool
        """Tell whether the connection stays open: for the responses to the requests that are complete."""
        if self.scheme == "https" or not self._answering:
            return False
        if self._refusal is not None:
            self._half_closed = True
            return True
        if self.cycle.more_body:
            if self.cycle is self._current:
                return False
            self.pipeline.popleft()  # the request read last, the rest of which will not come
        last = self.pipeline[0][0] if self.pipeline else self._current
        assert last is not None
        last.keep_alive, self._half_closed, self._state = False, True, IDLE
        return True

    def pause_writing(self) -> None:
        """Count a response that the client does not take."""
        super().pause_writing()
        self._shared.unsent.add(self.transport)

    def resume_writing(self) -> None:
        """Count it no more."""
        super().resume_writing()
        self._shared.unsent.remove(self.transport)

    @property
    def _must_wait(self) -> bool:
        """Whether nothing more is parsed before a response: what is answered has arrived in whole."""
        return self._answering and not (self._state is BODY and self.cycle is self._current)

    @property
    def _body_left_bytes(self) -> int:
        """How much of the body that arrives is announced and not parsed: no bytes of another request are among it."""
        if self._state is BODY and self.cycle is self._current:
            return max(self.cycle.announced_bytes - self._body_bytes, 0)
        return 0

    def _parse_slice(self, data: memoryview) -> None:
        """Parse a slice, and with it the body that it belongs to; hold the rest."""
        n_bytes = max(self._body_left_bytes, SLICE_BYTES)
        self._parse(data[:n_bytes])
        data = data[n_bytes:]
        if data and (n_bytes := self._body_left_bytes):
            self._parse(data[:n_bytes])
            data = data[n_bytes:]
        if data and (self._state is REFUSED or self._state is LINGERING):
            self._parse(data)
            data = NOTHING
        self._hold(data)

    def _hold(self, data: memoryview) -> None:
        """Hold what is left to be parsed, and read no more until it is."""
        shared = self._shared.read_ahead
        shared.n_bytes += len(data) - len(self._held)
        self._held = data
        if not data:
            self.flow.release()
            return
        self.flow.hold()
        if shared.exceeded:
            self._refuse(OverloadedError("this worker holds as many bytes as it may: send it again in a second"))
        elif not self._must_wait:
            shared.append(self)

    def _parse(self, data: bytes | memoryview) -> None:
        self._piece_bytes = len(data)
        if self._state is REFUSED or self._state is LINGERING:
            self._discard.n_bytes += len(data)
            self._limit_discard()
            return
        progress, self._head_is_split = self._progress, self._state is HEAD
        try:
            rest_at = None
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                rest_at = upgrade.args[0]
            if rest_at is not None:
                self._ignore_upgrade(bytes(data[rest_at:]))
            if self._state is not IDLE:
                self._check_stalled(progress)
        except httptools.HttpParserError as error:
            self._refuse(parser_error(error))
        except ServiceError as error:
            self._refuse(error)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._state = HEAD
        self._progress += 1
        self._clocks.begin_message()
        self._n_hosts = self._stalled_bytes = self._body_bytes = 0
        self._discard.reset()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers, which follow a body in chunks, are left out."""
        if self._state is not HEAD:
            return
        name, value = name.lower(), value.strip(b" \t")  # blanks around a value are no part of it (RFC 9110, 5.5)
        self.headers.append((name, value))
        if name == b"host":
            self._n_hosts += 1
            if not is_host(value):
                raise MalformedRequestError("the Host header is no HTTP host: expected a name or address, and a port")
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked" or self.parser.get_http_version() != "1.1":
                raise MalformedRequestError("the Transfer-Encoding is unsupported, expected chunked in HTTP/1.1")
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        """Check the request head and start to answer."""
        self._progress += 1
        # The sum is spared where all that arrived at once is below the limits.
        if self._head_is_split or self._piece_bytes > self._unlimited_bytes:
            self._limits.check_head(self.url, self.headers)
        version = self.parser.get_http_version()
        if version not in SPOKEN:
            raise UnsupportedVersionError(f"the request is in HTTP/{version}, expected HTTP/1.1")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise MalformedRequestError("the request is a CONNECT, and this is no HTTP proxy")
            return  # it is parsed again without the upgrade
        if self._n_hosts != 1 and (self._n_hosts or version == "1.1"):
            raise MalformedRequestError(f"the HTTP request has {self._n_hosts} Host headers, expected one")
        path, raw_path, query = split_url(self.url)
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "scheme": self.scheme or "http",
            "server": self.server,
            "client": self.client,
            "root_path": "",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        self._state = BODY
        self.cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version == "1.1" and not self._shutting_down and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if self._current is None or self._current.response_complete:
            self._start(self.cycle)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body for the application, or discard it once the request is answered."""
        self._progress += 1
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            self._discard.n_bytes += len(body)
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Note that the body is whole."""
        if self._state is HEAD:  # a request to upgrade, which is parsed again
            return
        self._progress += 1
        self._state = IDLE
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()
        elif self._shutting_down:
            self.loop.call_later(SHUTDOWN_GRACE_S, self._close_if_idle)

    def on_response_complete(self) -> None:
        """Go on with the next request, or end the connection.

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
                self._start(self.pipeline.pop()[0])  # type: ignore[arg-type]  # all are of this class
            if self._held and not self._must_wait:
                self._shared.read_ahead.append(self)

    def shutdown(self) -> None:
        """End the connection with its next response or, where no request is in progress, after a moment."""
        self._shutting_down = True
        if self._answering or self._state is not IDLE:
            if self.cycle is not None:
                self.cycle.keep_alive = False
        else:
            self.flow.resume_reading()  # what the client has sent already is answered
            self.loop.call_later(SHUTDOWN_GRACE_S, self._close_if_idle)

    def check_timeouts(self, now_s: float) -> None:
        """End what takes longer than it may; `now_s` is monotonic."""
        clocks = self._clocks
        if clocks.were_frozen(now_s):
            return
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
            if not error and self._current.more_body and self._shared.deployment.crowded:
                error = clocks.pace_error(
                    now_s, self._body_bytes / (self._current.announced_bytes or self._limits.body_bytes)
                )
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
        elif clocks.idle_expired(now_s, used=self.cycle is not None):
            self.transport.close()

    @property
    def used(self) -> bool:
        """Whether a request has come on it."""
        return self.cycle is not None

    @property
    def unused_since_s(self) -> float | None:
        """Since when it waits for a request, in monotonic seconds; None while there is one, and for some time after."""
        if not self.used:
            return self._clocks.message_s
        idle = not self._answering and self._state is IDLE and not self._held
        return self._clocks.received_s if idle and monotonic() - self._clocks.received_s > USED_S else None

    def give_up(self) -> None:
        """End the connection for the sake of others, which it does not count among any more."""
        self.connections.discard(self)
        self.transport.abort()

    @property
    def _answering(self) -> bool:
        return self._current is not None and not self._current.response_complete

    def _start(self, cycle: Cycle) -> None:
        """Start to answer a request."""
        self._current = cycle
        self._clocks.request_s = self._clocks.message_s if cycle is self.cycle else monotonic()
        # Weakly, for the cycle holds the scope: together they would wait for the garbage collection.
        send: SendResponse = partial(send_response, ref(cycle))
        extensions: dict[str, Any] = {SEND_RESPONSE: send, BUSY_S: self._shared.discard_rate.busy_s}
        if self._over_limit:
            cycle.keep_alive = False
            extensions[OVER_CONNECTION_LIMIT] = True
        cycle.scope["extensions"] = extensions
        if self._client_name is not None:
            cycle.scope[CLIENT_NAME] = self._client_name  # type: ignore[typeddict-unknown-key]
        self._task = task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _cancel(self, error: ServiceError) -> None:
        """Have the request that is being answered end with this error, and the connection with it."""
        if self._current is not None and self._task is not None:
            self._current.keep_alive = False
            self._current.message_event.set()
            self._task.cancel(error)

    def _check_stalled(self, progress: int) -> None:
        """Bound what the parser keeps without progress: a head, trailers, extensions of chunks; raises ServiceError.

        Bytes count from the first piece that lies wholly behind the last progress, so that no other request's count.
        """
        if self._progress != progress:
            self._stalled_bytes = 0
        else:
            self._stalled_bytes += self._piece_bytes
            part = "the request's head" if self._state is HEAD else "what follows the body"
            self._limits.check_header_bytes(self._stalled_bytes, part)
        if self._state is BODY and self.cycle.response_complete:
            self._limit_discard()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse a request that asks for another protocol again without that: HTTP lets a server ignore it."""
        rest_at: int | None = 0
        while rest_at is not None:
            parser = self.parser
            line = b"%b %b HTTP/%b" % (parser.get_method(), self.url, parser.get_http_version().encode())
            fields = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            rest = b"\r\n".join([line, *fields, b"", rest[rest_at:]])
            rest_at = None
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:  # the next request asks for it too
                rest_at = upgrade.args[0]

    def _refuse(self, error: ServiceError) -> None:
        """Answer the request that arrives with an error, once those before it are answered, and end the connection."""
        broken = self.cycle if self._state is BODY else None
        self._refusal, self._state = error, REFUSED
        self._hold(NOTHING)
        if broken is not None and broken.response_complete:
            self._linger()  # another response would be taken for that to the next request
            return
        if broken is not None and broken is self._current:
            # The application is told that the client has left, for the response is written here.
            broken.disconnected = True
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
        content = msgspec.json.encode(body)
        given = {
            **{name: value for name, value in self.server_state.default_headers if name != KEEP_ALIVE},
            b"content-type": b"application/json",
            b"content-length": b"%d" % len(content),
            **{name.lower().encode(): value.encode() for name, value in headers(body.status_code).items()},
            b"connection": b"close",
        }
        self.transport.write(b"%b\r\n%b" % (response_head(body.status_code, tuple(given.items())), content))
        self._note(self.client, body.status_code, self._clocks.received_s - self._clocks.message_s)
        self._linger()

    def _end(self) -> None:
        """End the connection after its last response."""
        if self._state is IDLE and not self.pipeline and not self._held:
            self.transport.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """End the connection once the client has closed it; until then, within bounds, what it sends is discarded.

        Closed at once, with bytes of the client unread, TCP would reset it, and the client could lose the response.
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

    def _limit_discard(self) -> None:
        """Pause where bytes to discard arrive too fast, and end the connection where they are too many."""
        if self._discard.exceeded:
            self.transport.abort()
        else:
            self._discard.pause(self._piece_bytes)

    def _close_if_idle(self) -> None:
        if not self._answering and self._state is IDLE and not self._held:
            self.transport.close()

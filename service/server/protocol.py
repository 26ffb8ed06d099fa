"""HTTP as uvicorn speaks it, with limits, deadlines, and whole replies in one write.

What a client may send and how long it may take are bounded here, before the application hears of it; requests that are
not HTTP get a reply in the form of all others. uvicorn writes a reply's head and body one after the other, and a write
costs a request of one event a fifth of its time. It does not know what is asked or replied. It stands on uvicorn's own
request cycle, which its tests watch over.
"""

from asyncio import AbstractEventLoop, Event, Task
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any, Final
from weakref import ref

import httptools
import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service import errors
from service.api.middleware import CLIENT_NAME
from service.api.responses import BUSY_S, CROWDED, STATUS_LINES, WHOLE_REPLY
from service.errors import ClientDisconnectedError, ErrorBody, NotReadyError, RequestTimeoutError
from service.security import tls
from service.server.limits import Drain, HeadError, Limits, is_host, not_http, target, too_long

RESERVED_CONNECTIONS: Final = 64
"""Above the limit, connections that are still answered, for probes; further ones are closed at once."""

LINGER_S: Final = 0.5
"""How long a connection that is to end waits for a request that its client may have sent just now."""

MISSED_S: Final = 3.0
"""Where deadlines were not looked at for longer, they begin anew."""

SPOKEN: Final = {"1.0", "1.1"}

NOT_A_ROUTE: Final = ""
"""The path of a request that could not be read."""

Note = Callable[[str, int, float], None]
"""Counts a request: its path, the status of the reply, and the seconds it took."""


def enforce(connections: Iterable[Any], now_s: float) -> None:
    """Stop what takes longer than it may on each of the connections; `now_s` is monotonic."""
    for connection in list(connections):
        connection.enforce(now_s)


class Cycle(RequestResponseCycle):
    """A request and its reply."""

    refused = False
    """Whether the reply is that there is too much to do."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
        *,
        limits: Limits,
        drain: Drain,
        note: Note,
        app: ASGI3Application | None = None,
    ) -> None:
        """Serve `app`, whose connections have no limit to their number, instead of the configured one if it is given.

        Requests that never reach an application are counted by `note`.
        """
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._unlimited_bytes = min(limits.url_bytes, limits.header_bytes)
        self._drain = drain
        self._note = note
        self._limited = app is None
        if app is not None:
            self.app = app
        self._crowded = self._upgrades = False
        self._client_name: str | None = None
        self._answered: Cycle | None = None
        self._task: Task[None] | None = None
        self._refusal: ErrorBody | None = None
        self._deaf = self._leaving = False
        self._in_message = self._in_head = False
        self._hosts = self._piece_bytes = self._head_bytes = self._empty_bytes = 0
        self._drained_bytes = self._paid_bytes = 0
        self._began_s = self._asked_s = self._heard_s = self._looked_s = monotonic()
        self._idle_since_s: float | None = None
        self._unsent_bytes, self._unsent_since_s = 0, 0.0

    def connection_made(self, transport: Any) -> None:
        """Take the connection, or close it where there are too many."""
        super().connection_made(transport)
        self._client_name = tls.subject(transport.get_extra_info("peercert"))
        if self._limited and len(self.connections) > self._limits.connections:
            self._crowded = True
            if len(self.connections) > self._limits.connections + RESERVED_CONNECTIONS:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the request that is being answered: uvicorn tells the last one read, where several came at once."""
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._stop(ClientDisconnectedError("the client left before its request was answered"))
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what has come, as far as it is HTTP and within the limits."""
        self._heard_s = monotonic()
        self._piece_bytes = len(data)
        if self._deaf:
            self._rest(len(data))
            return
        cycle = self.cycle if self._in_message and not self._in_head else None
        held = 0 if cycle is None else len(cycle.body)
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._pass_over(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(*cause.args if isinstance(cause, HeadError) else (400, not_http(cause or error)))
        else:
            if self._in_message:
                self._limit_rest(held if cycle is self.cycle else 0)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_message = self._in_head = True
        self._began_s, self._idle_since_s = self._heard_s, None
        self._hosts = self._head_bytes = self._empty_bytes = 0
        self._drained_bytes = self._paid_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what follows a body in chunks is no part of the head, and is left out."""
        if self._in_head:
            name = name.lower()
            self.headers.append((name, value))
            if name == b"host":
                self._hosts += 1
                if not is_host(value):
                    raise HeadError(400, "the Host header is neither a name nor an address, with or without a port")
            elif name == b"transfer-encoding":
                if value.strip().lower() != b"chunked" or self.parser.get_http_version() != "1.1":
                    raise HeadError(400, "Transfer-Encoding is something else than chunked in HTTP/1.1")
            elif name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        """Start to answer, if the head is as it should be."""
        # The sum is spared where all that came at once is little enough.
        if self._head_bytes or self._piece_bytes > self._unlimited_bytes:
            self._limits.check_head(self.url, self.headers)
        version = self.parser.get_http_version()
        if version not in SPOKEN:
            raise HeadError(505, f"the request is in HTTP/{version}, expected HTTP/1.1")
        self._upgrades = self.parser.should_upgrade()
        if self._upgrades:
            if self.parser.get_method() == b"CONNECT":
                raise HeadError(400, "the request is a CONNECT, and this is no proxy for HTTP")
            return  # to be read again without it
        if self._hosts != 1 and (self._hosts or version == "1.1"):
            raise HeadError(400, f"the request has {self._hosts} Host headers, expected one")
        path, raw_path, query = target(self.url)
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
        last = self.cycle
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
            keep_alive=version == "1.1" and not self._leaving and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._in_head = False
        if last is None or last.response_complete:
            self._start(self.cycle)
        else:  # it came before the reply to the last
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _pass_over(self, rest: bytes) -> None:
        """Read a request that asks for another protocol again, without that: HTTP lets a server pass over it."""
        while True:
            parser = self.parser
            line = b"%b %b HTTP/%b" % (parser.get_method(), self.url, parser.get_http_version().encode())
            fields = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            data = b"\r\n".join([line, *fields, b"", rest])
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:  # there was another behind it
                rest = data[upgrade.args[0] :]

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body for the application."""
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Say that the body is whole."""
        if self._upgrades:
            return
        self._in_message = False
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Go on with the next request, unless that was refused while this one was answered.

        Idle connections are closed by `enforce`: a timer for each request would cost it a microsecond.
        """
        self.server_state.total_requests += 1
        if self._refusal is not None and not self.pipeline:
            self._send_refusal()
        elif self._in_message and self.expect_100_continue and self._answered is self.cycle:
            self.transport.close()  # a client that waited to be asked for the body may send another request instead
        elif not self.transport.is_closing():
            if self._answered is not None and self._answered.refused:
                # All at once, so that the client is heard again by the time that it was told.
                self._paid_bytes = max(self._piece_bytes, announced_bytes(self._answered))
                self._rest(self._paid_bytes + Drain.REFUSAL_BYTES)
            elif self._in_message and self._answered is self.cycle:
                self._rest(self._piece_bytes)
            else:
                self.flow.resume_reading()
            if self.pipeline:
                self._start(self.pipeline.pop()[0])  # type: ignore[arg-type]  # all are of ours

    def shutdown(self) -> None:
        """End the connection with its next reply, or, where none is owed, after a moment."""
        self._leaving = True
        if self._answers or self._in_message:
            if self.cycle is not None:
                self.cycle.keep_alive = False
        else:
            self.loop.call_later(LINGER_S, self._leave)

    def enforce(self, now_s: float) -> None:
        """Stop what takes longer than it may; `now_s` is monotonic."""
        limits = self._limits
        missed, self._looked_s = now_s - self._looked_s > MISSED_S, now_s
        if missed:  # the process was stopped, or has had too much to do: no fault of the client's
            self._began_s, self._asked_s, self._heard_s = now_s, now_s, now_s
            self._unsent_since_s, self._idle_since_s = now_s, None
            return
        if self._stalls_reading(now_s):
            self.transport.abort()
            return
        if self.transport.is_closing():
            return
        if self._answered is not None and not self._answered.response_complete:
            self._enforce_on(self._answered, now_s)
        elif self._in_message:
            if self.flow.read_paused:  # it is us who do not read
                self._heard_s = now_s
                if self._in_head:
                    self._began_s = now_s
            elif self._in_head and now_s - self._began_s > limits.header_s:
                self._refuse(408, f"the request's head took longer than {limits.header_s} s")
            elif not self._in_head and self._late(now_s):  # its reply was sent, and what still comes is thrown away
                self.transport.close()
        elif self._idle_since_s is None:
            self._idle_since_s = now_s
        elif now_s - self._idle_since_s > (limits.header_s if self.cycle is None else self.timeout_keep_alive):
            self.transport.close()

    def _rest(self, n_bytes: int) -> None:
        """Do not read for a moment what is to be thrown away, or comes from who was refused just now."""
        self.flow.pause_reading()
        self.loop.call_later(self._drain.rest_s(n_bytes, monotonic()), self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    @property
    def _answers(self) -> bool:
        return self._answered is not None and not self._answered.response_complete

    def _leave(self) -> None:
        if not self._answers and not self._in_message:
            self.transport.close()

    def _enforce_on(self, cycle: RequestResponseCycle, now_s: float) -> None:
        limits = self._limits
        if self.flow.read_paused:  # it is us who are slow
            self._heard_s = now_s
        if not cycle.more_body:
            if now_s - self._asked_s > limits.request_s:
                self._stop(NotReadyError(f"the request took longer than {limits.request_s} s; send it again"))
        elif now_s - self._heard_s > limits.stall_s:
            self._stop(RequestTimeoutError(f"no byte of the body came for {limits.stall_s} s; send the request again"))
        elif now_s - self._asked_s > limits.request_s:
            self._stop(
                RequestTimeoutError(f"the request took longer than {limits.request_s} s to arrive; send it again")
            )

    def _late(self, now_s: float) -> bool:
        return now_s - self._heard_s > self._limits.stall_s or now_s - self._began_s > self._limits.request_s

    def _stalls_reading(self, now_s: float) -> bool:
        """Tell whether the client has taken nothing of what waits for it for too long, or not all of it."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent_bytes:
            self._unsent_bytes, self._unsent_since_s = unsent, now_s
        late = now_s - self._asked_s > self._limits.request_s + self._limits.stall_s
        return unsent > 0 and (late or now_s - self._unsent_since_s > self._limits.stall_s)

    def _limit_rest(self, held: int) -> None:
        """Bound what is kept of an unfinished request but its body, of which `held` bytes waited before this piece."""
        if self._in_head:
            # A piece may begin with the end of the request before: the first counts from the second on.
            if self._head_bytes > self._limits.header_bytes:
                self._refuse(431, too_long("the request's head", self._head_bytes, self._limits.header_bytes))
            self._head_bytes += self._piece_bytes
        elif self.cycle.response_complete:
            self._drained_bytes += self._piece_bytes
            if self._drained_bytes > self._limits.body_bytes:
                self.transport.close()
                return
            if self._drained_bytes > self._paid_bytes:
                self._rest(self._piece_bytes)
        elif len(self.cycle.body) > held:
            self._empty_bytes = 0
        else:  # the parser keeps trailers, and they may be endless
            self._empty_bytes += self._piece_bytes
            if self._empty_bytes > self._limits.header_bytes:
                self._refuse(431, too_long("what follows the body", self._empty_bytes, self._limits.header_bytes))

    def _start(self, cycle: Cycle) -> None:
        """Start to answer."""
        self._answered = cycle
        self._asked_s = self._began_s if cycle is self.cycle else monotonic()
        # Weakly, for the cycle holds the scope: together they would wait for the garbage collection.
        extensions: dict[str, Any] = {WHOLE_REPLY: partial(_send_whole, ref(cycle)), BUSY_S: self._drain.busy_s}
        if self._crowded:
            cycle.keep_alive = False
            extensions[CROWDED] = True
        cycle.scope["extensions"] = extensions
        if self._client_name is not None:
            cycle.scope[CLIENT_NAME] = self._client_name  # type: ignore[typeddict-unknown-key]
        self._task = task = self.loop.create_task(cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _stop(self, reason: errors.ServiceError) -> None:
        """Have the request that is being answered end with this error, and the connection with it."""
        cycle = self._answered
        if cycle is None or self._task is None:
            return
        cycle.keep_alive = False
        cycle.message_event.set()
        if cycle.response_started and not cycle.disconnected:  # what is missing could not follow
            self.transport.abort()
        else:
            self._task.cancel(reason)

    def _refuse(self, status: int, detail: str) -> None:
        """Give up on the request that is arriving; replies to those before it go first."""
        self._refusal, self._deaf = ErrorBody(status, detail), True
        if self._in_message and not self._in_head:
            broken, self._in_message = self.cycle, False
            if broken.response_complete:  # another reply would be taken for that to the next request
                self.transport.close()
                return
            waiting = [pair for pair in self.pipeline if pair[0] is broken]
            for pair in waiting:
                self.pipeline.remove(pair)
            if not waiting and not broken.response_complete:
                # The application is told that nobody waits, for the reply is written here.
                broken.disconnected = True
                self._stop(ClientDisconnectedError("the rest of the request is not HTTP"))
                self._send_refusal()
                return
        if not self._answers:
            self._send_refusal()

    def _send_refusal(self) -> None:
        assert self._refusal is not None
        body = msgspec.json.encode(self._refusal)
        head = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **{name.lower(): value for name, value in errors.headers(self._refusal.status_code).items()},
            "connection": "close",
        }
        lines = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        lines += [f"{name}: {value}\r\n".encode() for name, value in head.items()]
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINES[self._refusal.status_code], b"".join(lines), body))
        # Closed at once, with more on its way, the connection would be reset, and the reply lost with it.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)
        self._note(NOT_A_ROUTE, self._refusal.status_code, self._heard_s - self._began_s)


def announced_bytes(cycle: RequestResponseCycle) -> int:
    """Give the length of the request's body by its head; 0 where that does not say."""
    return next((int(value) for name, value in cycle.scope["headers"] if name == b"content-length"), 0)


def _send_whole(of: ref[Cycle], head: bytes, body: bytes) -> bool:
    """Do what the cycle does for a start and a body with no more to come."""
    cycle = of()
    if cycle is None:
        return False
    if cycle.disconnected:
        return True
    if cycle.response_started or cycle.flow.write_paused:
        return False
    cycle.response_started = True
    lines = [b"%b: %b\r\n" % header for header in cycle.default_headers]
    if cycle.waiting_for_100_continue:  # the client may leave the body out
        cycle.keep_alive = False
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    cycle.transport.writelines([b"%b%b\r\n" % (head, b"".join(lines)), body])
    cycle.response_complete = True
    cycle.refused = head.startswith(STATUS_LINES[503])
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True

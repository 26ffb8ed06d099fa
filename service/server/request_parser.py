"""The bytes that arrive on one connection, parsed in slices into requests, within the limits.

It overrides uvicorn's parser callbacks, and so uvicorn is pinned to one minor version (see `protocol`).
"""

from abc import abstractmethod
from asyncio import AbstractEventLoop, Event
from dataclasses import dataclass
from enum import Enum, auto
from time import monotonic
from typing import Any, Final, Self

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.errors import (
    HeadersTooLargeError,
    MalformedRequestError,
    OverloadedError,
    ServiceError,
    UnsupportedVersionError,
)
from service.inference.deployment import Deployment
from service.server.buffers import SHORT_SLICES, SLICE_BYTES, Flow, PipelinedRequests, ReadAhead, UnsentResponses
from service.server.cycle import Cycle
from service.server.discard import Discard, DiscardRate
from service.server.known_heads import KnownHeads
from service.server.limits import MAX_HEADERS, Limits, is_host, parser_error, split_url
from service.server.timeouts import Clocks, Timeouts
from service.settings import Settings

NOTHING: Final = memoryview(b"")

SPOKEN: Final = {"1.0", "1.1"}

SHUTDOWN_GRACE_S: Final = 0.5
"""Seconds for which an idle connection stays open at shutdown, for a request that its client may just have sent."""


class State(Enum):
    """The part of a message that arrives next."""

    IDLE = auto()
    """Nothing: the next byte begins a request."""
    HEAD = auto()
    BODY = auto()
    """The body of a request, before its response or, to be discarded, after it."""
    REFUSED = auto()
    """Bytes to discard: a request was refused, and requests before it are still in progress."""
    LINGERING = auto()
    """Bytes to discard: the last response was sent, and the connection ends."""


IDLE, HEAD, BODY, REFUSED, LINGERING = State  # looking up an enum member is slow in Python 3.11


@dataclass(frozen=True, slots=True)
class Shared:
    """The state that the connections of a worker share."""

    discard_rate: DiscardRate
    read_ahead: ReadAhead
    pipelined: PipelinedRequests
    unsent: UnsentResponses
    deployment: Deployment
    known_heads: KnownHeads

    @classmethod
    def of(cls, settings: Settings, deployment: Deployment, known_heads: KnownHeads) -> Self:
        """Limit the bytes to parse to an eighth of the bytes in flight, and those of unread responses to a quarter."""
        n_bytes = settings.max_inflight_bytes
        return cls(
            DiscardRate(),
            ReadAhead(n_bytes // 8),
            PipelinedRequests(),
            UnsentResponses(n_bytes // 4),
            deployment,
            known_heads,
        )


class RequestParser(HttpToolsProtocol):
    """The half of a connection's protocol that reads requests."""

    cycle: Cycle
    """The request that was read last, or is being read."""
    flow: Flow

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: AbstractEventLoop | None,
        limits: Limits,
        timeouts: Timeouts,
        shared: Shared,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._limits = limits
        self._shared = shared
        self._clocks = Clocks(timeouts)
        self._state = IDLE
        self._current: Cycle | None = None
        """The request in progress, or the last one that got its response."""
        self._shutting_down = False
        self._n_hosts = 0
        self._piece_bytes = self._body_bytes = 0
        self._unlimited_bytes = min(limits.url_bytes, limits.header_bytes)
        self._head_is_split = False
        self._progress = self._stalled_bytes = 0
        """The number of the parser's steps (a part of a message began or ended, a piece of a body), and bytes since."""
        self._discard: Discard
        self._held = NOTHING
        """The bytes that have arrived and are not parsed yet."""
        self._waits = False
        """Whether the connection is queued to parse a slice of them."""
        self._n_slices = 0
        """Number of parsed slices of the arriving message, before its end."""

    @abstractmethod
    def _start(self, cycle: Cycle) -> None:
        """Start to handle a request."""

    @abstractmethod
    def _refuse(self, error: ServiceError) -> None:
        """Refuse the arriving request with an error after the responses to earlier ones, and end the connection."""

    @property
    def _answering(self) -> bool:
        return self._current is not None and not self._current.response_complete

    def data_received(self, data: bytes) -> None:
        """Parse a slice of what arrives, within the limits, and hold the rest."""
        self._clocks.received_s = monotonic()
        if len(data) <= SLICE_BYTES and not self._held:
            self._parse(data)
        elif self._state is REFUSED or self._state is LINGERING:
            self._parse(data)  # to discard it
        elif self._held:  # TLS delivers all that it has decrypted, also while reading is paused
            self._hold(memoryview(bytes(self._held) + data))
        else:
            self._parse_slice(memoryview(data))

    def parse_held(self) -> None:
        """Parse a slice of the held bytes."""
        self._waits = False
        if self._held and not self._must_wait and not self.transport.is_closing():
            self._parse_slice(self._held)

    @property
    def _must_wait(self) -> bool:
        """Whether parsing waits for a response: the request in progress has arrived in whole."""
        return self._answering and not (self._state is BODY and self.cycle is self._current)

    @property
    def _body_left_bytes(self) -> int:
        """Announced bytes of the current body that were not parsed yet: none of them belongs to another request."""
        if self._state is BODY and self.cycle is self._current:
            return max(self.cycle.announced_bytes - self._body_bytes, 0)
        return 0

    def _parse_slice(self, data: memoryview) -> None:
        """Parse a slice and the announced body that it begins or continues; hold the rest."""
        self._n_slices += 1
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
        """Hold the bytes that are left to parse, and pause reading until they are parsed."""
        shared = self._shared.read_ahead
        shared.n_bytes += len(data) - len(self._held)
        if 2 * len(data) < len(data.obj):  # type: ignore[arg-type]  # bytes
            data = memoryview(bytes(data))  # else a short rest would keep the whole buffer
        self._held = data
        if not data:
            self.flow.release()
            return
        self.flow.hold()
        if shared.exceeded:
            self._refuse(
                OverloadedError("this worker has reached its limit of buffered bytes: send it again in a second")
            )
        elif not self._must_wait:
            self._parse_later()

    def _parse_later(self) -> None:
        """Queue this connection to parse a slice of its held bytes, unless it is queued already."""
        if not self._waits:
            self._waits = True
            self._shared.read_ahead.append(self, begun=0 < self._n_slices <= SHORT_SLICES)

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
        """Add a header; ignore trailers, which follow a chunked body."""
        if self._state is not HEAD:
            return
        if len(self.headers) == MAX_HEADERS:
            raise HeadersTooLargeError(f"the request's head has more than {MAX_HEADERS} headers: send fewer")
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
        """Check the request head and start to handle the request."""
        self._progress += 1
        # A head that arrived in one piece below the limits needs no check.
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
        """Keep a piece of the body for the application, or discard it after the response."""
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
        """Mark the body as complete."""
        if self._state is HEAD:  # a request to upgrade, which is parsed again
            return
        self._progress += 1
        self._n_slices = 0
        self._state = IDLE
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()
        elif self._shutting_down:
            self.loop.call_later(SHUTDOWN_GRACE_S, self._close_if_idle)

    def _check_stalled(self, progress: int) -> None:
        """Limit what the parser keeps without progress: a head, trailers, chunk extensions; raises ServiceError.

        Bytes count from the first piece wholly after the last progress, so that none of another request count.
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
        """Parse a request with an Upgrade header again without it: HTTP allows a server to ignore it."""
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
            except httptools.HttpParserUpgrade as upgrade:  # the next request has one too
                rest_at = upgrade.args[0]

    def _limit_discard(self) -> None:
        """Pause if bytes to discard arrive too fast, and close the connection if they are too many."""
        if self._discard.exceeded:
            self.transport.abort()
        else:
            self._discard.pause(self._piece_bytes)

    def _close_if_idle(self) -> None:
        if not self._answering and self._state is IDLE and not self._held:
            self.transport.close()

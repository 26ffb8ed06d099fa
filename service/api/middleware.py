"""Who is let in, and a line in the log for each who asks.

It does not know what is asked for, and neither keys nor the bodies and headers of requests reach the log.
"""

import logging
from time import perf_counter
from typing import Any, Final

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from service import errors
from service.api.responses import WHOLE_REPLY, Reply, WholeReply
from service.metrics import Metrics
from service.security.api_keys import KeyRing

logger = logging.getLogger(__name__)

CLIENT_NAME: Final = "lhc_anomaly.client_name"
"""The key in a scope of who asks: the name of their key, or that in their certificate."""

OPEN_PATH: Final = "/health"
"""Who asks whether the service lives has no key."""

SHOWN_CHARACTERS: Final = 200
"""How much of a path is logged."""

NO_KEY: Final = "no API key, expected one header Authorization: Bearer KEY"
UNKNOWN_KEY: Final = "the API key is not known; ask the operator of the service for one"


def with_key(app: ASGIApp, keys: KeyRing, metrics: Metrics) -> ASGIApp:
    """Wrap `app` so that only requests with a key reach it; the others are answered before their bodies are read."""

    async def let_in(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["path"] == OPEN_PATH:
            await app(scope, receive, send)
            return
        key = _bearer(scope["headers"])
        owner = None if key is None else keys.owner(key)
        if owner is not None:
            scope[CLIENT_NAME] = owner  # type: ignore[typeddict-unknown-key]
            await app(scope, receive, send)
            return
        started, path = perf_counter(), scope["path"]
        reply = _unauthorised(NO_KEY if key is None else UNKNOWN_KEY)
        # Not in one write, which would send the body to HEAD as well.
        await reply.send({**scope, "extensions": {}}, send)
        metrics.note_request(path, reply.status, perf_counter() - started)

    return let_in


def measured(app: ASGIApp, metrics: Metrics) -> ASGIApp:
    """Wrap `app` so that each of its HTTP requests is counted and timed."""

    async def measure(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        started = perf_counter()
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, send_and_note)
        finally:
            # The router has normalised the path by now: /score/ is /score.
            metrics.note_request(scope["path"], status, perf_counter() - started)

    return measure


def logged(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that each request that it has answered is a line in the log."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        started, status = perf_counter(), 500  # as the server answers where the application does not

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        def send_whole_and_note(head: bytes, body: bytes) -> bool:
            nonlocal status
            status = _status(head)
            return send_whole(head, body)

        extensions: dict[str, Any] = scope.get("extensions") or {}
        if WHOLE_REPLY in extensions:
            send_whole: WholeReply = extensions[WHOLE_REPLY]
            extensions[WHOLE_REPLY] = send_whole_and_note
        method, path = scope["method"], scope["path"]  # as they were asked: the router writes others there
        try:
            await app(scope, receive, send_and_note)
        finally:
            _log(scope, method, path, status, perf_counter() - started)

    return answered


def _bearer(headers: Any) -> bytes | None:
    """Find the key in a request's headers; None where there is none, or more than one."""
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, key = given[0].partition(b" ")
    return key.strip() or None if scheme.lower() == b"bearer" else None


def _unauthorised(detail: str) -> Reply:
    headers = [(name.lower().encode(), value.encode()) for name, value in errors.headers(401).items()]
    more = ((b"x-content-type-options", b"nosniff"), (b"content-type", b"application/json"))
    return Reply(401, (*headers, *more), msgspec.json.encode(errors.ErrorBody(401, detail)))


def _status(head: bytes) -> int:
    """Read the status in the first line of a reply, as `HTTP/1.1 200 OK`."""
    return int(head[9:12])


def _log(scope: HTTPScope, method: str, path: str, status: int, seconds: float) -> None:
    # The formatter writes all but plain ASCII as escapes, so that no path can look like a line of its own.
    client = scope.get("client")
    line: dict[str, object] = {
        "method": method,
        "path": path[:SHOWN_CHARACTERS],
        "status": status,
        "seconds": round(seconds, 6),
        "client": client[0] if client else None,
    }
    if CLIENT_NAME in scope:
        line["client_name"] = scope[CLIENT_NAME]  # type: ignore[typeddict-item]
    logger.info("request", extra=line)

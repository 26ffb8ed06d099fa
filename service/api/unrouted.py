"""Scoring requests bypass Litestar's router, which would take more time than a score: their handlers and responses."""

from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import monotonic, perf_counter
from typing import Any, NamedTuple

from litestar.enums import HttpMethod, ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service import errors
from service.api.error_responses import JSON_TYPE, write_error
from service.api.extensions import BUSY_S, OVERLOAD, SEND_RESPONSE, SHORTCUT, Headers, Shortcut
from service.errors import ClientDisconnectedError, OverloadedError
from service.inference.admission import cancellation_error
from service.metrics.counters import Metrics


class Response(NamedTuple):
    """A response, with its headers except Content-Length."""

    status: int
    headers: Headers
    body: bytes | bytearray

    def to_litestar(self) -> ASGIResponse:
        """Convert it for Litestar to send."""
        headers = {name.decode(): value.decode() for name, value in self.headers}
        return ASGIResponse(body=bytes(self.body), status_code=self.status, headers=headers, media_type="")


Handler = Callable[[HTTPScope, Receive], Awaitable[Response]]
Find = Callable[[str], tuple[str, Handler] | None]
"""Finds the route of a path and its handler, which raises ServiceError; None leaves the path to the router."""


def before_router(find: Find, metrics: Metrics, app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that POST requests found by `find` bypass its router, exception handlers and responses."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            is_post = scope["type"] == ScopeType.HTTP and scope["method"] == HttpMethod.POST
            found = find(scope["path"]) if is_post else None
            if scope["type"] != ScopeType.HTTP or found is None:
                await app(scope, receive, send)
                return
            started, (route, handler) = perf_counter(), found
            try:
                response = await handler(scope, receive)
            except Exception as error:
                response = _error_response(error, scope)
            if not _send_at_once(response, scope):
                await _send(response, send)
            metrics.note_request(route, response.status, perf_counter() - started)
        except CancelledError as error:
            if not isinstance(cancellation_error(error), ClientDisconnectedError):
                raise

    return handle


def check_overload(scope: HTTPScope) -> None:
    """Refuse a request for which the server has no room; raises OverloadedError."""
    extensions = scope.get("extensions")
    if extensions is not None and OVERLOAD in extensions:
        raise OverloadedError(str(extensions[OVERLOAD]))


def offer_shortcut(scope: HTTPScope, make: Callable[[], Shortcut]) -> None:
    """Give the server, if it asks for one, a shortcut for other requests with this head."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    if SHORTCUT in extensions:
        extensions[SHORTCUT] = make()


@lru_cache(maxsize=8)
def version_header(identity: str) -> tuple[bytes, bytes]:
    """Return the header that names the model that scored."""
    return (b"model-version", identity.encode())


def _error_response(error: Exception, scope: HTTPScope) -> Response:
    body = errors.describe(error, scope["method"], scope["path"])
    busy_s = (scope.get("extensions") or {}).get(BUSY_S)
    given = errors.headers(body.status_code, busy_s(monotonic()) if busy_s else 0.0)  # type: ignore[operator]
    headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    return Response(body.status_code, (*headers, JSON_TYPE), write_error(body, scope["path"]))


def _send_at_once(response: Response, scope: HTTPScope) -> bool:
    """Send a response in one write if the server can do it now."""
    send_response = (scope.get("extensions") or {}).get(SEND_RESPONSE)
    return send_response is not None and send_response(*response)  # type: ignore[operator]


async def _send(response: Response, send: Send) -> None:
    """Send a response as any ASGI application does."""
    headers = (*response.headers, (b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(response.body), "more_body": False})

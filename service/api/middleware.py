"""ASGI middleware: access log, API keys, HEAD requests, request metrics and response headers."""

import logging
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any, Final

from litestar.enums import HttpMethod, ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from service import errors
from service.api.error_responses import write_error
from service.api.extensions import SCORED, SEND_RESPONSE, Headers, Scored
from service.api.request_id import REQUEST_ID, find_id
from service.metrics.counters import Metrics
from service.security.api_keys import KeyRing

logger = logging.getLogger(__name__)

Middleware = Callable[[ASGIApp], ASGIApp]
Header = tuple[bytes, bytes]

CLIENT_NAME: Final = "lhc_anomaly.client_name"
"""The key in a scope for the client's name, from its API key or its certificate."""

CONTENT_LENGTH: Final = b"content-length"

PUBLIC_PATHS: Final = ("/health", "/v2/health/live", "/v2/health/ready")
"""The paths that need no API key."""

METHODS: Final = (HttpMethod.GET, HttpMethod.HEAD, HttpMethod.OPTIONS, HttpMethod.POST)
"""The methods of all routes."""

SHOWN_CHARACTERS: Final = 200
"""Maximum length of a path in the log."""

RESPONSE_HEADERS: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""The headers of responses that are not pages and must not be cached."""

HTTPS_HEADERS: Final[tuple[Header, ...]] = ((b"strict-transport-security", b"max-age=31536000"),)


def stack(app: ASGIApp, middleware: Sequence[Middleware]) -> ASGIApp:
    """Wrap `app` in `middleware`, the first one outermost."""
    for wrap in reversed(middleware):
        app = wrap(app)
    return app


def observe(report: Callable[[HTTPScope, str, int, float], None], app: ASGIApp) -> ASGIApp:
    """Report each HTTP request when it ends: its scope, the requested path, the status and the seconds."""

    async def observed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        started, status = perf_counter(), errors.INTERNAL_ERROR  # the server's status if the application raises
        path = scope["path"]  # the router normalises the one in the scope

        async def send_message(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        def send_response(sent_status: int, headers: Headers, body: bytes) -> bool:
            nonlocal status
            status = sent_status
            return bool(send_at_once(sent_status, headers, body))

        extensions: dict[str, Any] = scope.get("extensions") or {}
        if SEND_RESPONSE in extensions:
            send_at_once = extensions[SEND_RESPONSE]
            extensions[SEND_RESPONSE] = send_response
        try:
            await app(scope, receive, send_message)
        finally:
            report(scope, path, status, perf_counter() - started)

    return observed


def access_log(app: ASGIApp) -> ASGIApp:
    """Log one line for each request, without keys, queries, bodies and headers except its id."""
    return observe(_log, app)


def forwarded_client(app: ASGIApp) -> ASGIApp:
    """Use the last address of X-Forwarded-For, which the nearest proxy has added, as the client's."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
            if values:
                address = values[-1].rpartition(b",")[2].strip().decode("latin-1")
                scope["client"] = (address[:SHOWN_CHARACTERS], 0)
        await app(scope, receive, send)

    return handle


def request_metrics(metrics: Metrics, app: ASGIApp) -> ASGIApp:
    """Count and time each request by its route."""

    def note(scope: HTTPScope, _: str, status: int, seconds: float) -> None:
        # The router's path, which is /score for /score/; there is none for a wrong method.
        route: Any = scope.get("path_template", scope["path"])
        metrics.note_request(route, status, seconds)

    return observe(note, app)


def api_keys(keys: KeyRing, metrics: Metrics, app: ASGIApp) -> ASGIApp:
    """Require a known API key; other requests get a 401 before their bodies are read."""

    async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"] not in PUBLIC_PATHS:
            try:
                scope[CLIENT_NAME] = client_name(scope["headers"], keys)  # type: ignore[typeddict-unknown-key]
            except errors.UnauthorisedError as error:
                body = errors.describe(error, scope["method"], scope["path"])
                headers = {**errors.headers(body.status_code), "X-Content-Type-Options": "nosniff"}
                content = write_error(body, scope["path"])
                refusal = ASGIResponse(body=content, status_code=body.status_code, headers=headers)
                await request_metrics(metrics, refusal)(scope, receive, send)
                return
        await app(scope, receive, send)

    return authenticated


def head_as_get(app: ASGIApp) -> ASGIApp:
    """Handle HEAD requests as GET; the server omits the body."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == HttpMethod.HEAD:
            scope = {**scope, "method": HttpMethod.GET}  # a copy, since the server reads the method from the original
        await app(scope, receive, send)

    return handle


def server_options(app: ASGIApp) -> ASGIApp:
    """Respond to `OPTIONS *` with the methods of the server as a whole (RFC 9110, 9.3.7)."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == HttpMethod.OPTIONS and scope["path"] == "*":
            response = ASGIResponse(status_code=204, headers={"Allow": ", ".join(METHODS)})
            await response(scope, receive, send)
            return
        await app(scope, receive, send)

    return handle


def response_headers(headers: Iterable[Header], app: ASGIApp) -> ASGIApp:
    """Add `headers` to each response, except those that it already has."""
    added = tuple(headers)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_message(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                more = [header for header in added if header[0] not in present]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await app(scope, receive, send_message)

    return handle


def client_name(headers: Iterable[Header], keys: KeyRing) -> str:
    """Find the owner of the API key in a request's headers; raises UnauthorisedError."""
    values = [value for name, value in headers if name == b"authorization"]
    scheme, _, key = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
    if scheme.lower() != b"bearer" or not key.strip():
        raise errors.UnauthorisedError("no API key, expected one header Authorization: Bearer KEY")
    owner = keys.owner(key.strip())
    if owner is None:
        raise errors.UnauthorisedError("the API key is not known; ask the operator of the service for one")
    return owner


def log_refusal(client: tuple[str, int] | None, status: int, seconds: float, request_id: bytes | None) -> None:
    """Log a request that could not be read, with its id if that was read."""
    headers = [] if request_id is None else [(REQUEST_ID, request_id)]
    _log({"method": None, "client": client, "headers": headers}, "", status, seconds)


def log_request(
    client: tuple[str, int] | None,
    client_name: str | None,
    path: str,
    status: int,
    seconds: float,
    scored: Scored | None = None,
    n_bytes: int | None = None,
    request_id: bytes | None = None,
) -> None:
    """Log a POST request that bypassed the middleware, with its scored events, the length of its body and its id."""
    named = {} if client_name is None else {CLIENT_NAME: client_name}
    headers = [] if n_bytes is None else [(CONTENT_LENGTH, str(n_bytes).encode())]
    if request_id is not None:
        headers.append((REQUEST_ID, request_id))
    _log({"method": "POST", "client": client, "headers": headers, SCORED: scored, **named}, path, status, seconds)


def _log(scope: Any, path: str, status: int, seconds: float) -> None:
    # The formatter escapes everything but plain ASCII, so that no path can forge a line.
    client = scope.get("client")
    line: dict[str, object] = {
        "method": scope["method"],
        "path": path[:SHOWN_CHARACTERS],
        "status": status,
        "seconds": round(seconds, 6),
        "client": client[0] if client else None,
    }
    if CLIENT_NAME in scope:
        line["client_name"] = scope[CLIENT_NAME]
    if (request_id := find_id(scope.get("headers", ()))) is not None:
        line["request_id"] = request_id.decode()
    lengths = [value for name, value in scope.get("headers", ()) if name == CONTENT_LENGTH]
    if lengths and lengths[0].isdigit():
        line["bytes"] = int(lengths[0])
    if scored := scope.get(SCORED):
        line |= {"events": scored.n_events, "model": scored.model.artefact.identity}
    logger.info("request", extra=line)

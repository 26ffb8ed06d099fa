"""Cross-origin requests: the pages of other servers that may send requests in a browser and read the responses."""

from collections.abc import Collection
from typing import Any, Final

from litestar.enums import HttpMethod, ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.api.extensions import SEND_RESPONSE, Headers
from service.api.middleware import request_metrics
from service.metrics.counters import Metrics

ANY: Final = b"*"

PREFLIGHT_HEADERS: Final[Headers] = (
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (
        b"access-control-allow-headers",
        b"Accept, Authorization, Content-Encoding, Content-Type, Inference-Header-Content-Length, X-Request-Id",
    ),
    (b"access-control-max-age", b"3600"),
)
EXPOSED: Final = (
    b"access-control-expose-headers",
    b"Model-Version, Score-Threshold, Retry-After, Inference-Header-Content-Length, X-Request-Id",
)


def cors(origins: Collection[bytes], metrics: Metrics, app: ASGIApp) -> ASGIApp:
    """Allow requests from pages of these origins, or of any origin with `*`; other responses stay unchanged.

    With `*`, responses are the same for all origins.
    """

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        given = dict(scope["headers"])
        origin = given.get(b"origin")
        if origin is None or (ANY not in origins and origin not in origins):
            await app(scope, receive, send)
            return
        if ANY in origins:
            added: Headers = ((b"access-control-allow-origin", ANY), EXPOSED)
        else:
            added = ((b"access-control-allow-origin", origin), EXPOSED, (b"vary", b"Origin"))
        if scope["method"] == HttpMethod.OPTIONS and b"access-control-request-method" in given:
            # Without a key, since a browser sends none in a preflight request.
            response = ASGIResponse(status_code=204, encoded_headers=(*added, *PREFLIGHT_HEADERS))
            await request_metrics(metrics, response)(scope, receive, send)
            return

        async def send_message(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        extensions: dict[str, Any] = scope.get("extensions") or {}
        if SEND_RESPONSE in extensions:
            send_at_once = extensions[SEND_RESPONSE]
            extensions[SEND_RESPONSE] = lambda status, headers, body: send_at_once(status, (*headers, *added), body)
        await app(scope, receive, send_message)

    return handle

"""What a browser shows: the page to try the API on, its description, and the headers that keep both to themselves.

It does not know what the API does: the application has its description in `state["description"]`.
"""

from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from litestar import MediaType, Request, Response, Router, get
from litestar.enums import ScopeType
from litestar.exceptions import NotFoundException
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import FromPath
from litestar.types import ASGIApp, Message, Receive, Scope, Send

DOCS, SCHEMA, ASSETS = "/docs", "/schema", "/docs/assets"
DESCRIPTION: Final = "description"

ASSET_TYPES: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
ASSETS_KEPT_S: Final = 86_400
HTTPS_KEPT_S: Final = 31_536_000

SCRIPT: Final = f"""
SwaggerUIBundle({{url: "{SCHEMA}", dom_id: "#api", deepLinking: true, validatorUrl: null}})
"""
# All of it from here: the page works without internet. It holds nothing of the model, whose names could be markup.
PAGE: Final = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Anomaly detector</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{ASSETS}/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="{ASSETS}/swagger-ui-bundle.js"></script>
<script>{SCRIPT}</script>
</body>
</html>
"""

Header = tuple[bytes, bytes]

ALL_HEADERS: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""The headers of every reply that has none of the same name: it is no page, and nobody keeps it."""

HTTPS_HEADERS: Final[tuple[Header, ...]] = ((b"strict-transport-security", b"max-age=%d" % HTTPS_KEPT_S),)

PAGE_HEADERS: Final = {
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' 'sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class Description(JsonRenderPlugin):
    """The API's description of the model in use; Litestar keeps the first that it has written."""

    def render(self, request: Request[Any, Any, Any], _openapi_schema: dict[str, Any]) -> bytes:
        """Give the description that the application has."""
        description: bytes = request.app.state[DESCRIPTION]
        return description


@get(DOCS, include_in_schema=False, sync_to_thread=False)
def docs() -> Response[str]:
    """Show the API's description as a page to try it on."""
    return Response(PAGE, media_type=MediaType.HTML, headers=PAGE_HEADERS)


@get(f"{ASSETS}/{{name:str}}", include_in_schema=False, sync_to_thread=False)
def assets(name: FromPath[str]) -> Response[bytes]:
    """Give one of the page's files: by its name in a table, for no client's text may reach the file system."""
    if name not in ASSET_TYPES:
        raise NotFoundException()
    headers = {"Cache-Control": f"max-age={ASSETS_KEPT_S}"}
    return Response(_asset(name), media_type=ASSET_TYPES[name], headers=headers)


def schema() -> Router:
    """Serve the description, with errors like all others where Litestar has a page of its own."""
    return Router(SCHEMA, route_handlers=[], include_in_schema=False, after_request=_without_html)


def with_headers(app: ASGIApp, headers: Iterable[Header]) -> ASGIApp:
    """Wrap `app` so that each of its replies has these headers, unless it has others of the same name."""
    given = tuple(headers)

    async def headed(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                more = [header for header in given if header[0] not in own]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await app(scope, receive, send_with_headers if scope["type"] == ScopeType.HTTP else send)

    return headed


@cache
def _asset(name: str) -> bytes:
    return (files("litestar_offline_docs") / "static" / name).read_bytes()


def _without_html(response: Response[Any]) -> Response[Any]:
    if response.status_code == 404:
        raise NotFoundException()
    return response

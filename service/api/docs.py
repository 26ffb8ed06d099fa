"""The interactive API page, and the OpenAPI document that it shows."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from litestar import MediaType, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import OpenAPI
from litestar.params import FromPath
from litestar.serialization import encode_json

from service.api import openapi
from service.formats.table import Formats
from service.model.artefact import Artefact

DOCS, SCHEMA, ASSETS = "/docs", "/schema", "/docs/assets"

ASSET_TYPES: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
ASSET_HEADERS: Final = {"Cache-Control": "max-age=86400"}

# Litestar's Swagger page writes the OpenAPI document into a script, where a name from the model's file could be markup
# and each model would need its own content security policy. This page loads the document, and is the same for all.
SCRIPT: Final = """
SwaggerUIBundle({{url: "{root_path}{SCHEMA}", dom_id: "#api", deepLinking: true, validatorUrl: null}})
"""
PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Anomaly detector</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root_path}{ASSETS}/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="{root_path}{ASSETS}/swagger-ui-bundle.js"></script>
<script>{script}</script>
</body>
</html>
"""


class Document(JsonRenderPlugin):
    """The OpenAPI document of the model in use; Litestar would cache the first one."""

    def __init__(self, formats: Formats, root_path: str, served_name: str | None) -> None:
        super().__init__(path=["/", "/openapi.json"])
        self._formats = formats
        self._root_path = root_path
        self._served_name = served_name
        self._json = b""

    def describe(self, api: OpenAPI, artefact: Artefact) -> None:
        """Write the document for another model."""
        document = openapi.describe(api.to_schema(), artefact, self._formats, self._served_name)
        if self._root_path:
            document["servers"] = [{"url": self._root_path}]
        self._json = encode_json(document)

    def render(self, *_: Any) -> bytes:
        """Return the document as JSON."""
        return self._json


def page(root_path: str) -> HTTPRouteHandler:
    """Make the route to the page, of a service below `root_path`."""
    script = SCRIPT.format(root_path=root_path, SCHEMA=SCHEMA)
    text = PAGE.format(root_path=root_path, ASSETS=ASSETS, script=script)
    headers = {
        "Content-Security-Policy": (
            f"default-src 'none'; script-src 'self' 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'; "
            "style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }

    @get(DOCS, include_in_schema=False, sync_to_thread=False)
    def docs() -> Response[str]:
        """Show the page."""
        return Response(text, media_type=MediaType.HTML, headers=headers)

    return docs


@get(f"{ASSETS}/{{name:str}}", include_in_schema=False, sync_to_thread=False)
def assets(name: FromPath[str]) -> Response[bytes]:
    """Send one of the page's files, by a table, so that clients cannot name paths of the file system."""
    if name not in ASSET_TYPES:
        raise NotFoundException()
    return Response(_asset(name), media_type=ASSET_TYPES[name], headers=ASSET_HEADERS)


def schema() -> Router:
    """Route to the OpenAPI document, with the common 404 in place of Litestar's page."""

    def without_page(response: Response[Any]) -> Response[Any]:
        if response.status_code == 404:
            raise NotFoundException()
        return response

    return Router(SCHEMA, route_handlers=[], include_in_schema=False, after_request=without_page)


@cache
def _asset(name: str) -> bytes:
    return (files("litestar_offline_docs") / "static" / name).read_bytes()

"""The application: wiring and lifespan only.

It does not know sockets, processes or signals, and holds no logic of its own.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.static_files import create_static_files_router

from service import routes, scoring
from service.artefact import Artefact
from service.errors import HANDLERS
from service.metrics import Metrics
from service.openapi import describe
from service.scorer import Scorer
from service.settings import Settings

TITLE = "Anomaly detector"
API_VERSION = "1"
DOCS, SCHEMA, ASSETS = "/docs", "/schema", "/docs/assets"


class Page(SwaggerRenderPlugin):
    """The page to try the API on, in whose script no name out of a model's file can be markup."""

    @staticmethod
    def render_json(request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Write the schema as JSON without a `<`."""
        return SwaggerRenderPlugin.render_json(request, openapi_schema).replace(b"<", b"\\u003c")


# All of it from here: the page works without internet.
PAGE = Page(
    js_url=f"{ASSETS}/swagger-ui-bundle.js",
    css_url=f"{ASSETS}/swagger-ui.css",
    standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
    favicon="<link rel='icon' href='data:,'>",
)


def create_app(settings: Settings, artefact: Artefact) -> Litestar:
    """Build the application; its lifespan opens a scorer for `artefact`, and raises ArtefactError where that fails."""
    paths = [path for handler in (*routes.ROUTES, docs) for path in handler.paths]
    metrics = Metrics([*paths, SCHEMA])
    deployment = scoring.Deployment(settings.max_body_bytes, metrics)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        scorer = Scorer(artefact)
        describe(app.openapi_schema, artefact)
        deployment.open(scorer)
        yield

    app = Litestar(
        route_handlers=[*routes.ROUTES, docs, _assets()],
        lifespan=[lifespan],
        exception_handlers=HANDLERS,
        openapi_config=_openapi_config(),
        logging_config=None,  # the server sets logging up
    )
    app.state["deployment"] = deployment
    # Around the whole application: Litestar's own middleware does not see requests that match no route.
    measured = routes.answer_head(metrics.measure(app.asgi_handler))
    app.asgi_handler = scoring.scoring_first(measured, deployment)
    return app


@get(DOCS, media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=False)
def docs(request: Request[Any, Any, Any]) -> bytes:
    """Show the API's description as a page to try it on."""
    return PAGE.render(request, request.app.openapi_schema.to_schema())


def _assets() -> Router:
    return create_static_files_router(
        path=ASSETS, directories=[str(files("litestar_offline_docs") / "static")], include_in_schema=False
    )


def _openapi_config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title=TITLE,
        version=API_VERSION,
        use_handler_docstrings=True,
        render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        openapi_router=Router(SCHEMA, route_handlers=[], include_in_schema=False, after_request=_without_html),
    )


def _without_html(response: Response[Any]) -> Response[Any]:
    """Make Litestar's own page for unknown paths under the schema an error like all others."""
    if response.status_code == 404:
        raise NotFoundException()
    return response

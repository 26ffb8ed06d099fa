"""The application: wiring and lifespan only.

It does not know sockets, processes or signals, and holds no logic of its own.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Request, Response
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.serialization import encode_json
from litestar.types import ASGIApp

from service import errors
from service.api import docs as pages
from service.api import middleware as access
from service.api import openapi
from service.api import operations as routes
from service.api.error_responses import HANDLERS
from service.api.native import NativeApi
from service.formats.table import FORMATS, Formats
from service.inference.deployment import Deployment
from service.metrics import Metrics
from service.model.artefact import Artefact
from service.model.scorer import Scorer
from service.security.api_keys import KeyRing
from service.settings import Settings

TITLE = "Anomaly detector"
API_VERSION = "1"

OPERATIONS = (routes.health, routes.model, routes.metrics)
"""What operators ask: on a port of its own, where there is one, and then, but for the health, nowhere else."""


@dataclass(frozen=True)
class Application:
    """What one process serves."""

    main: Litestar
    """The application of the main port; its lifespan opens the model, and raises ArtefactError where that fails."""
    operations: Litestar | None
    """The application of the operations port, where there is one; it needs no lifespan of its own."""
    deployment: Deployment
    keys: KeyRing | None
    describe: Callable[[Artefact], None]
    """Renews the OpenAPI description for another model."""

    def use_model(self, scorer: Scorer) -> None:
        """Score the requests that begin from now on with another model."""
        self.describe(scorer.artefact)
        self.deployment.use(scorer)


def create_app(settings: Settings, artefact: Artefact, formats: Formats = FORMATS) -> Application:
    """Build the application; raises KeysError for wrong API keys."""
    apart = settings.ops_port is not None
    handlers = [handler for handler in routes.ROUTES if not apart or handler not in {routes.model, routes.metrics}]
    paths = [path for handler in (*routes.ROUTES, pages.docs) for path in handler.paths]
    metrics = Metrics([*paths, pages.SCHEMA])
    deployment = Deployment(settings, metrics)
    native = NativeApi(deployment, formats, settings.max_body_bytes)
    keys = None if settings.api_keys is None else KeyRing(settings.api_keys)

    def describe(artefact: Artefact) -> None:
        described = openapi.describe(app.openapi_schema.to_schema(), artefact, formats)
        app.state[pages.DESCRIPTION] = encode_json(described)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        scorer = Scorer(artefact)
        describe(artefact)
        deployment.open(scorer)
        yield

    app = Litestar(
        route_handlers=[*handlers, pages.docs, pages.assets],
        lifespan=[lifespan],
        exception_handlers=HANDLERS,
        openapi_config=_openapi_config(with_keys=keys is not None),
        logging_config=None,  # the server sets logging up
    )
    operations = _operations(settings, deployment) if apart else None
    app.state.update({"deployment": deployment, "native": native})
    answered = native.first(_measured(app.asgi_handler, settings, metrics))
    if keys is not None:
        answered = access.with_key(answered, keys, metrics)
    app.asgi_handler = access.logged(answered) if settings.access_log else answered
    return Application(app, operations, deployment, keys, describe)


def _operations(settings: Settings, deployment: Deployment) -> Litestar:
    app = Litestar(
        route_handlers=OPERATIONS,
        exception_handlers={**HANDLERS, NotFoundException: _not_here},
        openapi_config=None,
        logging_config=None,
    )
    app.state["deployment"] = deployment
    answered = _measured(app.asgi_handler, settings, deployment.metrics)
    app.asgi_handler = access.logged(answered) if settings.access_log else answered
    return app


def _not_here(request: Request[Any, Any, Any], _: NotFoundException) -> Response[errors.ErrorBody]:
    known = ", ".join(sorted(path for handler in OPERATIONS for path in handler.paths))
    reply = errors.ErrorBody(404, f"{request.scope['path']} is not a route of this port, expected one of {known}")
    return Response(reply, status_code=404, headers=errors.headers(404), media_type="application/json")


def _measured(app: ASGIApp, settings: Settings, metrics: Metrics) -> ASGIApp:
    """Wrap a whole application: Litestar's own middleware does not see requests that match no route."""
    https = pages.HTTPS_HEADERS if settings.tls_certificate is not None else ()
    return routes.answer_head(access.measured(pages.with_headers(app, [*pages.ALL_HEADERS, *https]), metrics))


def _openapi_config(*, with_keys: bool) -> OpenAPIConfig:
    key = {"key": SecurityScheme(type="http", scheme="bearer", description="An API key, as the operator made it.")}
    return OpenAPIConfig(
        title=TITLE,
        version=API_VERSION,
        use_handler_docstrings=True,
        render_plugins=[pages.Description(path=["/", "/openapi.json"])],
        openapi_router=pages.schema(),
        components=Components(security_schemes={**key}) if with_keys else Components(),
        security=[{"key": []}] if with_keys else None,
    )

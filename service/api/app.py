"""The application that one process serves: routes and middleware around one deployment."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from service import __version__
from service.api import docs, middleware, openapi
from service.api.cors import cors
from service.api.dashboard import routes as dashboard
from service.api.dashboard.state import StateEvents
from service.api.error_responses import exception_handlers
from service.api.middleware import Middleware
from service.api.native import NativeApi
from service.api.open_inference import grpc_calls
from service.api.open_inference.description import ServedModel
from service.api.open_inference.http import Infer
from service.api.open_inference.routes import documented_paths, open_inference_router
from service.api.open_inference.statistics import Statistics
from service.api.operations import OPERATIONS, MetricsText, health, score, score_batch
from service.api.unrouted import Handler, before_router
from service.formats.table import FORMATS, Formats
from service.inference.deployment import Deployment
from service.metrics.counters import Metrics
from service.metrics.rows import SharedRow
from service.model.artefact import Artefact
from service.model.scorer import Scorer
from service.security.api_keys import KeyRing
from service.settings import Settings


@dataclass(frozen=True)
class Application:
    """The applications of one process."""

    main: Litestar
    """The application of the main port; its lifespan opens the model, and raises ArtefactError if that fails."""
    operations: Litestar | None
    """The application of the operations port, if there is one; it has no lifespan of its own."""
    deployment: Deployment
    served: ServedModel
    """The model as described by the Open Inference Protocol."""
    statistics: Statistics
    """The requests by the Open Inference Protocol."""
    keys: KeyRing | None
    document: docs.Document

    def use_model(self, scorer: Scorer) -> None:
        """Score new requests with another model."""
        self.document.describe(self.main.openapi_schema, scorer.artefact)
        self.deployment.use(scorer)


def create_app(
    settings: Settings, artefact: Artefact, formats: Formats = FORMATS, row: SharedRow | None = None
) -> Application:
    """Build the application, with metrics in the shared `row` if given; raises KeysError."""
    v2 = open_inference_router()
    http_paths = [path for route in (score, score_batch, *OPERATIONS, *dashboard.DASHBOARD) for path in route.paths]
    paths = [*http_paths, *documented_paths(v2), docs.DOCS, docs.SCHEMA, *grpc_calls.PATHS]
    metrics = Metrics(paths, row, settings.served_name)
    deployment = Deployment(settings, metrics)
    served = ServedModel(deployment, settings.served_name)
    statistics = Statistics(served)
    native = NativeApi(deployment, formats, settings.max_body_bytes)
    infer = Infer(served, statistics, settings.max_body_bytes)
    keys = None if settings.api_keys is None else KeyRing(settings.api_keys)
    root_path = settings.root_path or ""
    metrics_text = MetricsText(metrics, deployment.monitor)
    state_events = StateEvents(deployment, settings.max_inflight_events, settings.max_inflight_bytes)
    document, page = docs.Document(formats, root_path, settings.served_name), docs.page(root_path)
    dependencies = {
        "deployment": Provide(lambda: deployment, sync_to_thread=False),
        "native": Provide(lambda: native, sync_to_thread=False),
        "served": Provide(lambda: served, sync_to_thread=False),
        "statistics": Provide(lambda: statistics, sync_to_thread=False),
        "infer": Provide(lambda: infer, sync_to_thread=False),
        "metrics_text": Provide(lambda: metrics_text, sync_to_thread=False),
        "state_events": Provide(lambda: state_events, sync_to_thread=False),
    }

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        scorer = Scorer(artefact)
        document.describe(main.openapi_schema, artefact)
        deployment.open(scorer)
        yield

    main = Litestar(
        route_handlers=[
            *(score, score_batch, v2, page, docs.assets),
            *((*OPERATIONS, *dashboard.DASHBOARD) if settings.ops_port is None else [health]),
        ],
        dependencies=dependencies,
        lifespan=[lifespan],
        exception_handlers=exception_handlers("; /docs lists the routes"),
        openapi_config=_openapi_config(document, with_keys=keys is not None),
        logging_config=None,  # the server configures logging
    )
    operations = None if settings.ops_port is None else _operations(dependencies)
    https = middleware.HTTPS_HEADERS if settings.tls_certificate is not None else ()
    access_log: list[Middleware] = [middleware.access_log] if settings.access_log else []
    if settings.forwarded_for:
        access_log.insert(0, middleware.forwarded_client)
    origins = {origin.strip().encode() for origin in (settings.cors_origins or "").split(",")} - {b""}
    cross_origin: list[Middleware] = [partial(cors, origins, metrics)] if origins else []
    api_keys: list[Middleware] = [] if keys is None else [partial(middleware.api_keys, keys, metrics)]
    # Around the whole application, since Litestar's own middleware does not see requests that match no route.
    every_route: list[Middleware] = [
        middleware.head_as_get,
        partial(middleware.request_metrics, metrics),
        partial(middleware.response_headers, (*middleware.RESPONSE_HEADERS, *https)),
        middleware.server_options,
    ]

    def find(path: str) -> tuple[str, Handler] | None:
        handler = native.handlers.get(path)
        return infer.find(path) if handler is None else (path, handler)

    # The outermost first: the log includes 401s, keys are checked before a body is read, and requests to score end at
    # `before_router`, since the router takes more time than a score.
    main.asgi_handler = middleware.stack(
        main.asgi_handler, [*access_log, *cross_origin, *api_keys, partial(before_router, find, metrics), *every_route]
    )
    if operations is not None:
        operations.asgi_handler = middleware.stack(operations.asgi_handler, [*access_log, *every_route])
    return Application(main, operations, deployment, served, statistics, keys, document)


def _operations(dependencies: dict[str, Provide]) -> Litestar:
    paths = ", ".join(sorted(path for route in (*OPERATIONS, dashboard.page) for path in route.paths))
    return Litestar(
        route_handlers=[*OPERATIONS, *dashboard.DASHBOARD],
        dependencies=dependencies,
        exception_handlers=exception_handlers(f" of this port, expected one of {paths}"),
        openapi_config=None,
        logging_config=None,
    )


def _openapi_config(document: docs.Document, *, with_keys: bool) -> OpenAPIConfig:
    key = SecurityScheme(type="http", scheme="bearer", description="An API key from the operator of the service.")
    return OpenAPIConfig(
        title="Anomaly detector",
        version=__version__,
        description=openapi.INTRODUCTION,
        use_handler_docstrings=True,
        render_plugins=[document],
        openapi_router=docs.schema(),
        components=Components(security_schemes={"key": key}) if with_keys else Components(),
        security=[{"key": []}] if with_keys else None,
    )

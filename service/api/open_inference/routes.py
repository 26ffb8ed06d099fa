"""The routes of the Open Inference Protocol over HTTP, and the documented form of the inference route."""

from typing import Any, Final

import msgspec
from litestar import Request, Response, Router, get, post, route
from litestar.di import NamedDependency
from litestar.enums import HttpMethod
from litestar.response.base import ASGIResponse
from litestar.routes import HTTPRoute

from service.api.bodies import pieces
from service.api.error_responses import OPEN_INFERENCE
from service.api.open_inference.description import (
    IndexEntry,
    ModelConfig,
    ModelMetadata,
    ServedModel,
    ServerMetadata,
    server_metadata,
)
from service.api.open_inference.http import Infer
from service.api.open_inference.statistics import ModelStatistics, Statistics
from service.errors import InvalidRequestError, NotOfferedError, NotReadyError

AnyRequest = Request[Any, Any, Any]

EXTENSIONS: Final = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")

MODEL: Final = ("/models/{name:str}", "/models/{name:str}/versions/{version:str}")

NO_LOADING: Final = "models are not loaded by clients: replace the model's file, and send SIGHUP to the service"
NO_MEMORY: Final = "shared memory is not offered: send the data in the request"
NOT_OFFERED: Final = {
    "/repository/models/{name:str}/load": NO_LOADING,
    "/repository/models/{name:str}/unload": NO_LOADING,
    **{
        f"/{kind}sharedmemory{path}": NO_MEMORY
        for kind in ("system", "cuda")
        for path in (
            *("/status", "/register", "/unregister", "/region/{name:str}/status"),
            *("/region/{name:str}/register", "/region/{name:str}/unregister"),
        )
    },
    "/trace/setting": "traces are not offered",
    "/models/{name:str}/trace/setting": "traces are not offered",
    "/logging": "the log is set by the operator: --log-level and --access-log",
    "/models/{name:str}/generate": "text is not generated here: POST to /infer",
    "/models/{name:str}/generate_stream": "text is not generated here: POST to /infer",
}
"""The parts of the protocol that the service does not offer, and the reasons."""

MAX_INDEX_BYTES: Final = 1024

TAGS: Final = ["Open Inference Protocol"]


class Live(msgspec.Struct, frozen=True):
    """The service runs."""

    live: bool = True


class Ready(msgspec.Struct, frozen=True):
    """Whether the service takes requests."""

    ready: bool


class IndexRequest(msgspec.Struct, frozen=True):
    """Which models to list."""

    ready: bool = False
    """Only those that take requests."""


class ModelReady(msgspec.Struct, frozen=True):
    """Whether the model takes requests."""

    name: str
    ready: bool


class ModelNames(msgspec.Struct, frozen=True):
    """The names of the models."""

    models: list[str]


class AllStatistics(msgspec.Struct, frozen=True):
    """The statistics of the models."""

    model_stats: list[ModelStatistics]


def below(paths: tuple[str, ...], end: str) -> list[str]:
    """Return the paths of a model's part."""
    return [path + end for path in paths]


@get("/", summary="The server", tags=TAGS)
async def server() -> ServerMetadata:
    """Describe the server."""
    return server_metadata(*EXTENSIONS)


@get("/health/live", summary="Whether the service runs", tags=TAGS)
async def live() -> Live:
    """Report that the service runs."""
    return Live()


@get("/health/ready", summary="Whether the service takes requests", tags=TAGS)
async def ready(served: NamedDependency[ServedModel]) -> Response[Ready]:
    """Return whether the service takes requests."""
    return Response(Ready(served.ready), status_code=200 if served.ready else 503)


@get("/models", summary="The names of the models", tags=TAGS)
async def models(served: NamedDependency[ServedModel]) -> ModelNames:
    """List the models."""
    return ModelNames([one.name for one in served.index()])


@post("/repository/index", status_code=200, summary="The models and their states", tags=TAGS)
async def index(request: AnyRequest, served: NamedDependency[ServedModel]) -> list[IndexEntry]:
    """List the models and their states; a body is not needed."""
    body = b"".join([piece async for piece, _ in pieces(request.receive, 0, MAX_INDEX_BYTES)])
    try:
        asked = msgspec.json.decode(body or b"{}", type=IndexRequest)
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f'the body is {body[:60]!r}, expected none or {{"ready": true}}: {error}') from error
    return served.index(ready=asked.ready)


@get(list(MODEL), summary="The model", tags=TAGS)
async def metadata(request: AnyRequest, served: NamedDependency[ServedModel]) -> ModelMetadata:
    """Describe the model's input and output."""
    return served.metadata(*asked(request))


@get(below(MODEL, "/config"), summary="The model's configuration", tags=TAGS)
async def config(
    request: AnyRequest, served: NamedDependency[ServedModel], infer: NamedDependency[Infer]
) -> ModelConfig:
    """Describe how the model takes batches."""
    return served.config(infer.max_body_bytes, *asked(request))


@get(below(MODEL, "/ready"), summary="Whether the model takes requests", tags=TAGS)
async def model_ready(request: AnyRequest, served: NamedDependency[ServedModel]) -> Response[ModelReady]:
    """Return whether the model takes requests."""
    name, version = asked(request)
    try:
        served.find_ready(name, version)
    except NotReadyError:
        return Response(ModelReady(name, ready=False), status_code=503)
    return Response(ModelReady(name, ready=True))


@get(below(MODEL, "/stats"), summary="The model's statistics", tags=TAGS)
async def stats(request: AnyRequest, statistics: NamedDependency[Statistics]) -> AllStatistics:
    """Report the number, events and durations of the inference requests of all workers."""
    return AllStatistics([statistics.report(*asked(request))])


@get("/models/stats", summary="The statistics of all models", tags=TAGS)
async def all_stats(served: NamedDependency[ServedModel], statistics: NamedDependency[Statistics]) -> AllStatistics:
    """Report the number, events and durations of the inference requests of all workers."""
    return AllStatistics([statistics.report(served.name)])


# Requests to the paths themselves bypass the router; other spellings, such as /infer/, come here.
@post(below(MODEL, "/infer"), status_code=200, summary="Score events", tags=TAGS)
async def infer_events(request: AnyRequest, infer: NamedDependency[Infer]) -> ASGIResponse:
    """Score many events; the scores are in the events' order."""
    name, version = asked(request)
    return (await infer.infer(name, version, request.scope, request.receive)).to_litestar()


@route(list(NOT_OFFERED), http_method=[HttpMethod.GET, HttpMethod.POST], status_code=200, include_in_schema=False)
async def not_offered(request: AnyRequest) -> None:
    """Say why a part of the protocol is not offered."""
    route = request.scope["path_template"].removeprefix(OPEN_INFERENCE)
    raise NotOfferedError(NOT_OFFERED[route.replace("}", ":str}")])


def asked(request: AnyRequest) -> tuple[str, str]:
    """Return the name and the version of the model that a request is about."""
    given = request.path_params
    return given["name"], given.get("version", "")


HANDLERS: Final = (
    *(server, live, ready, models, index, metadata, config, model_ready, stats, all_stats, infer_events, not_offered),
)


def documented_paths(router: Router) -> list[str]:
    """Return the paths of the routes that are offered, as the metrics name them."""
    routes = [one for one in router.routes if isinstance(one, HTTPRoute)]
    return [one.path_format for one in routes if any(handler.include_in_schema for handler in one.route_handlers)]


def open_inference_router() -> Router:
    """Route to the protocol."""
    return Router(OPEN_INFERENCE, route_handlers=HANDLERS)

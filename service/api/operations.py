"""The endpoints: each reads a request, has it scored or looked up, and writes the reply.

They do no arithmetic, and know neither the formats nor the model.
"""

from typing import Any, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.enums import HttpMethod, ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send

from service.api.native import SCORE, SCORE_BATCH, NativeApi
from service.errors import NotReadyError
from service.inference.deployment import Deployment
from service.metrics import CONTENT_TYPE
from service.model.artefact import WorkingPoint

SCORING, OPERATIONS = "scoring", "operations"

ServiceRequest = Request[Any, Any, Any]


class Health(msgspec.Struct, frozen=True):
    """The service can score."""

    status: Literal["ok"] = "ok"


class Feature(msgspec.Struct, frozen=True):
    """One number of an event."""

    name: str
    unit: str


class ModelFacts(msgspec.Struct, frozen=True):
    """What clients are told of the model in use."""

    identity: str
    name: str
    version: str
    sha256: str
    features: list[Feature]
    working_points: list[WorkingPoint]
    training: dict[str, Any]
    data_sha256: str
    code_version: str


@post(SCORE, status_code=200, operation_id="score", summary="Score one event", tags=[SCORING])
async def score(request: ServiceRequest) -> ASGIResponse:
    """Score one event."""
    return (await _native(request).score(request.scope, request.receive)).to_response()


@post(SCORE_BATCH, status_code=200, operation_id="score_batch", summary="Score many events", tags=[SCORING])
async def score_batch(request: ServiceRequest) -> ASGIResponse:
    """Score many events; the scores come in the events' order."""
    return (await _native(request).score_batch(request.scope, request.receive)).to_response()


@get("/health", operation_id="health", summary="Health", tags=[OPERATIONS])
async def health(request: ServiceRequest) -> Response[Health]:
    """Tell whether the service can score."""
    status = _deployment(request).status
    if status != "ok":
        raise NotReadyError(status)
    return Response(Health(), headers={"Cache-Control": "no-store"})


@get("/model", operation_id="model", summary="The model in use", tags=[SCORING])
async def model(request: ServiceRequest) -> ModelFacts:
    """Describe the model in use: its features, working points and training."""
    artefact = _deployment(request).model.artefact
    metadata = artefact.metadata
    return ModelFacts(
        identity=artefact.identity,
        name=metadata.model_name,
        version=metadata.model_version,
        sha256=artefact.sha256,
        features=list(map(Feature, metadata.feature_names, metadata.feature_units)),
        working_points=metadata.working_points,
        training=metadata.training,
        data_sha256=metadata.data_sha256,
        code_version=metadata.code_version,
    )


@get("/metrics", media_type="text/plain", operation_id="metrics", summary="Metrics", tags=[OPERATIONS])
async def metrics(request: ServiceRequest) -> Response[bytes]:
    """Report requests, events and durations to Prometheus."""
    return Response(_deployment(request).metrics.render(), headers={"Content-Type": CONTENT_TYPE})


ROUTES = (score, score_batch, health, model, metrics)


def answer_head(app: ASGIApp) -> ASGIApp:
    """Wrap `app` so that it answers HEAD as it answers GET; the server leaves the body out."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == HttpMethod.HEAD:
            # A copy, for the server reads in its own what was asked.
            scope = {**scope, "method": HttpMethod.GET}
        await app(scope, receive, send)

    return answered


def _native(request: ServiceRequest) -> NativeApi:
    native: NativeApi = request.app.state["native"]
    return native


def _deployment(request: ServiceRequest) -> Deployment:
    deployment: Deployment = request.app.state["deployment"]
    return deployment

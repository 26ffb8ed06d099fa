"""The endpoints: each reads a request, has it scored, and writes the reply.

They do no arithmetic, and know neither the formats nor the model.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from litestar import Request, Response, get, post
from litestar.enums import HttpMethod, ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send
from numpy.typing import NDArray

from service import wire
from service.artefact import WorkingPoint
from service.body import read_body
from service.errors import InvalidRequestError, NotReadyError, UnknownWorkingPointError, UnsupportedMediaTypeError
from service.metrics import CONTENT_TYPE, Metrics
from service.scorer import CHUNK_EVENTS, Scorer

# A batch of one chunk takes well under a millisecond; a longer one would keep the event loop's other clients waiting.
INLINE_EVENTS = CHUNK_EVENTS

SCORING, OPERATIONS = "scoring", "operations"
WORKING_POINT = "working_point"

ServiceRequest = Request[Any, Any, Any]
Decode = Callable[[bytes, str, Sequence[str]], NDArray[np.float32]]
Encode = Callable[[NDArray[np.float32], str, NDArray[np.bool_] | None], bytes]


class Deployment:
    """What the endpoints share: the model in use, and whether the service takes requests yet or still."""

    def __init__(self, max_body_bytes: int, metrics: Metrics) -> None:
        self.max_body_bytes = max_body_bytes
        self.metrics = metrics
        self.status: Literal["starting", "ok", "draining"] = "starting"
        self._scorer: Scorer | None = None
        self._working_points: dict[str, WorkingPoint] = {}

    def open(self, scorer: Scorer) -> None:
        """Take requests from now on."""
        self._scorer = scorer
        self._working_points = {point.name: point for point in scorer.artefact.metadata.working_points}
        self.metrics.use_model(scorer.artefact.identity)
        self.status = "ok"

    @property
    def scorer(self) -> Scorer:
        """The scorer; raises NotReadyError before there is one."""
        if self._scorer is None:
            raise NotReadyError(self.status)
        return self._scorer

    def working_point(self, name: str | None) -> WorkingPoint | None:
        """Find the working point that a request names, if it names one; raises UnknownWorkingPointError."""
        if name is None:
            return None
        if name not in self._working_points:
            known = ", ".join(self._working_points) or "none: this model has no working points"
            raise UnknownWorkingPointError(f"working_point is {name[:60]!r}, expected one of {known}")
        return self._working_points[name]


class Health(msgspec.Struct, frozen=True):
    """The service can score."""

    status: Literal["ok"] = "ok"


class Feature(msgspec.Struct, frozen=True):
    """One number of an event."""

    name: str
    unit: str


class Model(msgspec.Struct, frozen=True):
    """The model in use."""

    identity: str
    name: str
    version: str
    sha256: str
    features: list[Feature]
    working_points: list[WorkingPoint]
    training: dict[str, Any]
    data_sha256: str
    code_version: str


@post("/score", status_code=200, operation_id="score", summary="Score one event", tags=[SCORING])
async def score(request: ServiceRequest) -> ASGIResponse:
    """Score one event."""
    return await _score(request, wire.decode_event, wire.encode_score)


@post("/score/batch", status_code=200, operation_id="score_batch", summary="Score many events", tags=[SCORING])
async def score_batch(request: ServiceRequest) -> ASGIResponse:
    """Score many events; the scores come in the events' order."""
    return await _score(request, wire.decode_events, wire.encode_scores)


@get("/health", operation_id="health", summary="Health", tags=[OPERATIONS])
async def health(request: ServiceRequest) -> Response[Health]:
    """Tell whether the service can score."""
    status = _deployment(request).status
    if status != "ok":
        raise NotReadyError(status)
    return Response(Health(), headers={"Cache-Control": "no-store"})


@get("/model", operation_id="model", summary="The model in use", tags=[SCORING])
async def model(request: ServiceRequest) -> Model:
    """Describe the model in use: its features, working points and training."""
    artefact = _deployment(request).scorer.artefact
    metadata = artefact.metadata
    return Model(
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


def _deployment(request: ServiceRequest) -> Deployment:
    deployment: Deployment = request.app.state["deployment"]
    return deployment


async def _score(request: ServiceRequest, decode: Decode, encode: Encode) -> ASGIResponse:
    deployment = _deployment(request)
    artefact = deployment.scorer.artefact
    requested = wire.request_media_type(_content_type(request))
    replied = wire.reply_media_type(_accept(request), requested)
    point = deployment.working_point(_working_point(request))
    try:
        body = await read_body(request, deployment.max_body_bytes)
        features = decode(body, requested, artefact.metadata.feature_names)
        scores = await _scores(deployment.scorer, features)
    except asyncio.CancelledError as error:  # the server gives up waiting for the requests in flight
        raise NotReadyError("the service stopped before it had scored; send the request again") from error
    headers = {"Model-Version": artefact.identity}
    if point is not None:
        headers["Score-Threshold"] = repr(point.threshold)
    reply = encode(scores, replied, None if point is None else point.accepts(scores))
    deployment.metrics.count_events(len(scores))
    return ASGIResponse(body=reply, headers=headers, media_type=replied)


def _content_type(request: ServiceRequest) -> str | None:
    """Find the request's Content-Type; raises UnsupportedMediaTypeError if it has several that differ."""
    found = dict.fromkeys(request.headers.getall("content-type", []))
    if len(found) > 1:
        raise UnsupportedMediaTypeError(f"Content-Type is given as {' and as '.join(found)}, expected one")
    return next(iter(found), None)


def _accept(request: ServiceRequest) -> str | None:
    """Join the lines of the Accept header, which are one list to HTTP."""
    return ", ".join(request.headers.getall("accept", [])) or None


def _working_point(request: ServiceRequest) -> str | None:
    """Find the name in the query; raises InvalidRequestError for other parameters, and for more than one of it."""
    if not request.scope["query_string"]:
        return None
    parameters = list(request.query_params.items())
    for parameter, _ in parameters:
        if parameter != WORKING_POINT:
            raise InvalidRequestError(f"unknown query parameter {parameter[:60]!r}, expected {WORKING_POINT}")
    if len(parameters) > 1:
        raise InvalidRequestError(f"query parameter {WORKING_POINT} is given {len(parameters)} times, expected once")
    return next((name for _, name in parameters), None)


async def _scores(scorer: Scorer, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score on the event loop where that is quick, else in a thread: the runtime frees the interpreter as it runs."""
    if len(features) <= INLINE_EVENTS:
        return scorer.score(features)
    return await asyncio.to_thread(scorer.score, features)

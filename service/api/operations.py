"""The routes for operators and clients besides scoring, and the documented forms of the scoring routes."""

from asyncio import get_running_loop
from typing import Any, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from msgspec.structs import replace

from service.api.native import SCORE, SCORE_BATCH, NativeApi
from service.drift.exposition import render as render_drift
from service.drift.monitor import Monitor
from service.errors import NotReadyError
from service.inference.deployment import Deployment
from service.metrics.counters import Metrics
from service.metrics.exposition import CONTENT_TYPE, render
from service.model.artefact import WorkingPoint

AnyRequest = Request[Any, Any, Any]


class Health(msgspec.Struct, frozen=True):
    """The service can score."""

    status: Literal["ok"] = "ok"


class Feature(msgspec.Struct, frozen=True):
    """One number of an event."""

    name: str
    unit: str


class ModelDescription(msgspec.Struct, frozen=True):
    """The model in use, for clients."""

    identity: str
    name: str
    version: str
    sha256: str
    features: list[Feature]
    working_points: list[WorkingPoint]
    training: dict[str, Any]
    data_sha256: str
    code_version: str
    reference_events: int | None
    """Number of background events in the reference histograms of the file."""


class MetricsText:
    """The text of /metrics, written once for all requests in one iteration of the event loop."""

    def __init__(self, metrics: Metrics, monitor: Monitor) -> None:
        self._metrics = metrics
        self._monitor = monitor
        self._text: bytes | None = None

    def read(self) -> bytes:
        """Return the current text."""
        if self._text is None:
            report = self._monitor.report()
            self._text = render(self._metrics) + (b"" if report is None else render_drift(report).encode())
            get_running_loop().call_soon(self._forget)
        return self._text

    def _forget(self) -> None:
        self._text = None


# Litestar routes other spellings of the two paths here, such as /score/, and refuses other methods with a 405. Requests
# to the paths themselves bypass the router (`unrouted`).
@post(SCORE, status_code=200, operation_id="score", summary="Score one event", tags=["scoring"])
async def score(request: AnyRequest, native: NamedDependency[NativeApi]) -> ASGIResponse:
    """Score one event."""
    return (await native.score(request.scope, request.receive)).to_litestar()


@post(SCORE_BATCH, status_code=200, operation_id="score_batch", summary="Score many events", tags=["scoring"])
async def score_batch(request: AnyRequest, native: NamedDependency[NativeApi]) -> ASGIResponse:
    """Score many events; the scores are in the events' order."""
    return (await native.score_batch(request.scope, request.receive)).to_litestar()


@get("/health", operation_id="health", summary="Health", tags=["operations"])
async def health(deployment: NamedDependency[Deployment]) -> Response[Health]:
    """Return whether the service can score."""
    if deployment.status != "ok":
        raise NotReadyError(deployment.status)
    return Response(Health())


@get("/model", operation_id="model", summary="The model in use", tags=["scoring"])
async def model(deployment: NamedDependency[Deployment]) -> ModelDescription:
    """Describe the model in use: its features, working points and training."""
    artefact = deployment.model.artefact
    metadata = artefact.metadata
    return ModelDescription(
        identity=artefact.identity,
        name=metadata.model_name,
        version=metadata.model_version,
        sha256=artefact.sha256,
        features=list(map(Feature, metadata.feature_names, metadata.feature_units)),
        working_points=[replace(point, threshold=point.sent_threshold) for point in metadata.working_points],
        training=metadata.training,
        data_sha256=metadata.data_sha256,
        code_version=metadata.code_version,
        reference_events=None if metadata.reference is None else metadata.reference.events,
    )


@get("/metrics", media_type="text/plain", operation_id="metrics", summary="Metrics", tags=["operations"])
async def metrics(metrics_text: NamedDependency[MetricsText]) -> Response[bytes]:
    """Report requests, events and durations to Prometheus."""
    return Response(metrics_text.read(), headers={"Content-Type": CONTENT_TYPE})


OPERATIONS = (health, metrics, model)
"""The routes of the operations port; if there is one, the main port has only /health of these."""

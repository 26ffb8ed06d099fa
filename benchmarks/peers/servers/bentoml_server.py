"""BentoML: a service with two APIs, and a mounted application for octets, that `bentoml serve` imports in its worker.

It learns the path of the graph from the environment, for BentoML makes the service without arguments.
"""
# mypy: disable-error-code="import-not-found,misc,untyped-decorator"

import os
from typing import Annotated

import bentoml
from bentoml.validators import DType, Shape
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers.servers.graph import N_FEATURES, Floats, open_graph, read_rows

raw = Starlette()


class EventScore(BaseModel):
    """The response to one event."""

    anomaly_score: float


class BatchScores(BaseModel):
    """The response to a batch."""

    anomaly_scores: list[float]


# One worker; an access log is written by none of the others either.
@bentoml.service(workers=1, logging={"access": {"enabled": False}})
@bentoml.asgi_app(raw, path="/raw")
class Scorer:
    """The graph behind BentoML's API."""

    def __init__(self) -> None:
        self._score = open_graph(os.environ["PEER_MODEL"])
        raw.add_route("/score", self.score_raw, methods=["POST"])

    # `async def`: BentoML sends plain methods to a thread pool, which costs more than a score does.
    @bentoml.api(route="/score")
    async def score(self, features: Annotated[Floats, Shape((N_FEATURES,)), DType("float32")]) -> EventScore:
        """Score one event."""
        return EventScore(anomaly_score=float(self._score(features[None])[0]))

    @bentoml.api(route="/score/batch")
    async def score_batch(self, events: Annotated[Floats, DType("float32")]) -> BatchScores:
        """Score a batch."""
        return BatchScores(anomaly_scores=self._score(events).tolist())

    async def score_raw(self, request: Request) -> Response:
        """Score float32 rows, in the mounted application: BentoML's own types have none for octets."""
        scores = self._score(read_rows(await request.body()))
        return Response(scores.tobytes(), media_type="application/octet-stream")

"""FastAPI with ONNX Runtime or torch: JSON through pydantic, and a route for octets written by hand.

python -m benchmarks.peers.servers.fastapi_server onnx|torch MODEL PORT
"""
# mypy: disable-error-code="import-not-found,misc,untyped-decorator"

import sys
from typing import Annotated

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

from benchmarks.peers.servers.graph import N_FEATURES, open_graph, read_rows
from benchmarks.peers.servers.torch_module import open_module

runtime, model, port = sys.argv[1:]
score = (open_module if runtime == "torch" else open_graph)(model)
app = FastAPI()


class Event(BaseModel):
    """A request for one event."""

    features: Annotated[list[float], Field(min_length=N_FEATURES, max_length=N_FEATURES)]


class Batch(BaseModel):
    """A request for a batch."""

    events: list[Annotated[list[float], Field(min_length=N_FEATURES, max_length=N_FEATURES)]]


class EventScore(BaseModel):
    """The response to one event."""

    anomaly_score: float


class BatchScores(BaseModel):
    """The response to a batch."""

    anomaly_scores: list[float]


# `async def`: FastAPI sends plain functions to a thread pool, which costs more than a score does.
@app.post("/score")
async def score_event(event: Event) -> EventScore:
    """Score one event."""
    return EventScore(anomaly_score=float(score(np.array([event.features], np.float32))[0]))


@app.post("/score/batch")
async def score_batch(batch: Batch) -> BatchScores:
    """Score a batch."""
    return BatchScores(anomaly_scores=score(np.array(batch.events, np.float32)).tolist())


@app.post("/score/raw")
async def score_raw(request: Request) -> Response:
    """Score float32 rows."""
    return Response(score(read_rows(await request.body())).tobytes(), media_type="application/octet-stream")


uvicorn.run(app, port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="warning")

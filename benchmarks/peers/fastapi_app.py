"""The FastAPI application that both FastAPI peers run."""
# mypy: disable-error-code="import-not-found,misc,untyped-decorator"

from typing import Annotated

import numpy as np

from benchmarks.peers.surface import N_FEATURES, Score

WEB_PACKAGES = ("fastapi==0.165.0", "pydantic==2.14.3", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0")


def run(score: Score, port: int) -> None:
    """Serve `score` until SIGTERM."""
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from pydantic import BaseModel, Field

    class Event(BaseModel):
        features: Annotated[list[float], Field(min_length=N_FEATURES, max_length=N_FEATURES)]

    class Batch(BaseModel):
        events: list[Annotated[list[float], Field(min_length=N_FEATURES, max_length=N_FEATURES)]]

    class EventScore(BaseModel):
        anomaly_score: float

    class BatchScores(BaseModel):
        anomaly_scores: list[float]

    app = FastAPI()

    # `async def`: FastAPI sends plain functions to a thread pool, which costs more than a score does.
    @app.post("/score")
    async def score_event(event: Event) -> EventScore:
        return EventScore(anomaly_score=float(score(np.array([event.features], np.float32))[0]))

    @app.post("/score/batch")
    async def score_batch(batch: Batch) -> BatchScores:
        return BatchScores(anomaly_scores=score(np.array(batch.events, np.float32)).tolist())

    @app.post("/score/raw")
    async def score_raw(request: Request) -> Response:
        events = np.frombuffer(await request.body(), "<f4").reshape(-1, N_FEATURES)
        return Response(score(events).tobytes(), media_type="application/octet-stream")

    uvicorn.run(app, port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")

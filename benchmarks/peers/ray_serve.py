"""Ray Serve: one replica behind its proxy."""
# mypy: disable-error-code="attr-defined,import-not-found,misc,untyped-decorator"

import os
import signal
import sys

import numpy as np

from benchmarks.peers import surface
from benchmarks.peers.graph import open_graph
from benchmarks.peers.surface import N_FEATURES, Floats, Question, single

__all__ = ["NAME", "NOTES", "PACKAGES", "PYTHON", "binary_batch", "json_batch", "serve", "single"]

NAME = "Ray Serve"
PACKAGES: tuple[str, ...] = (
    "ray[serve]==2.60.0",
    "uvloop==0.23.0",
    "httptools==0.9.0",
    "onnxruntime==1.31.1",
    "numpy==2.4.6",
)
PYTHON = sys.executable
NOTES = "One replica, throughput-optimised mode, HAProxy as ingress; ingress, replica and control plane share the core."


def serve(model: str, port: int) -> None:
    """Serve the graph at the path `model` until SIGTERM."""
    # Both are what its guide to high throughput turns on.
    os.environ |= {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import serve as ray_serve
    from starlette.requests import Request
    from starlette.responses import Response

    @ray_serve.deployment(num_replicas=1, max_ongoing_requests=100, logging_config={"enable_access_log": False})
    class Scorer:
        def __init__(self) -> None:
            self.score = open_graph(model)

        async def __call__(self, request: Request) -> Response | dict[str, float] | dict[str, list[float]]:
            if request.headers["content-type"] == "application/octet-stream":
                events = np.frombuffer(await request.body(), "<f4").reshape(-1, N_FEATURES)
                return Response(self.score(events).tobytes(), media_type="application/octet-stream")
            body = await request.json()
            if "features" in body:
                return {"anomaly_score": float(self.score(np.array([body["features"]], np.float32))[0])}
            return {"anomaly_scores": self.score(np.array(body["events"], np.float32)).tolist()}

    ray.init(num_cpus=1, include_dashboard=False, logging_level="warning")
    ray_serve.start(http_options={"host": "127.0.0.1", "port": port})
    ray_serve.run(Scorer.bind(), route_prefix="/score")
    signal.pause()  # Ray shuts down at SIGTERM by itself


def json_batch(events: Floats) -> Question:
    """Ask for the scores of `events` (n, features) in JSON."""
    return surface.json_batch(events)._replace(path="/score")


def binary_batch(events: Floats) -> Question:
    """Ask for the scores of `events` (n, features) as float32 rows."""
    return surface.raw_batch(events, "/score")

"""Ray Serve: one replica behind its proxy.

python -m benchmarks.peers.servers.ray_server MODEL PORT
"""
# mypy: disable-error-code="attr-defined,import-not-found,misc,untyped-decorator"

import signal
import sys

import numpy as np
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.peers.servers.graph import open_graph, read_rows


@serve.deployment(num_replicas=1, max_ongoing_requests=100, logging_config={"enable_access_log": False})
class Scorer:
    """The graph behind one path for all requests."""

    def __init__(self, model: str) -> None:
        self.score = open_graph(model)

    async def __call__(self, request: Request) -> Response | dict[str, float] | dict[str, list[float]]:
        """Score float32 rows, one event or a batch in JSON."""
        if request.headers["content-type"] == "application/octet-stream":
            scores = self.score(read_rows(await request.body()))
            return Response(scores.tobytes(), media_type="application/octet-stream")
        body = await request.json()
        if "features" in body:
            return {"anomaly_score": float(self.score(np.array([body["features"]], np.float32))[0])}
        return {"anomaly_scores": self.score(np.array(body["events"], np.float32)).tolist()}


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, logging_level="warning")
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Scorer.bind(sys.argv[1]), route_prefix="/score")
    signal.pause()  # Ray shuts down by itself

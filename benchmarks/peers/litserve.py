"""LitServe, without batching."""
# mypy: disable-error-code="import-not-found,no-any-return"

import base64
import json
import sys
from typing import Any

import numpy as np

from benchmarks.peers import surface
from benchmarks.peers.surface import JSON, Floats, Question, single

__all__ = ["NAME", "NOTES", "PACKAGES", "PYTHON", "binary_batch", "json_batch", "serve", "single"]

NAME = "LitServe"
PACKAGES: tuple[str, ...] = (
    "litserve==0.2.19",
    "uvloop==0.23.0",
    "httptools==0.9.0",
    "onnxruntime==1.31.1",
    "numpy==2.4.6",
)
PYTHON = sys.executable
NOTES = (
    "One worker process behind one HTTP process, its ZeroMQ queue on. A request's body is read as JSON before the API "
    "sees it: binary is float32 as base64 inside JSON."
)


def serve(model: str, port: int) -> None:
    """Serve the graph at the path `model` until SIGTERM."""
    from benchmarks.peers.litserve_api import ScorerAPI

    run(ScorerAPI(model), port)


def run(api: Any, port: int) -> None:
    """Run LitServe's server with one worker."""
    import litserve

    # fast_queue: for more than 100 requests/s, its documentation says.
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, log_level="warning", generate_client_file=False)


def json_batch(events: Floats) -> Question:
    """Ask for the scores of `events` (n, features) in JSON."""
    return surface.json_batch(events)._replace(path="/score")


def binary_batch(events: Floats) -> Question:
    """Ask for the scores of `events` (n, features) as float32 in base64 in JSON."""
    body = json.dumps({"float32": base64.b64encode(events.astype("<f4").tobytes()).decode()}).encode()
    return Question("/score", JSON, body, read_base64)


def read_base64(response: bytes) -> Floats:
    """Read `{"float32": base64}` as (n,)."""
    return np.frombuffer(base64.b64decode(json.loads(response)["float32"]), "<f4")

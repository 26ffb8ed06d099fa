"""BentoML: a service with two APIs, and a mounted application for octets."""

import os
import sys

from benchmarks.peers.surface import Floats, Question, json_batch, raw_batch, single

__all__ = ["NAME", "NOTES", "PACKAGES", "PYTHON", "binary_batch", "json_batch", "serve", "single"]

NAME = "BentoML"
PACKAGES: tuple[str, ...] = (
    "bentoml==1.4.39",
    "uvloop==0.23.0",
    "httptools==0.9.0",
    "onnxruntime==1.31.1",
    "numpy==2.4.6",
)
PYTHON = sys.executable
NOTES = "One worker, uvloop, coroutines for APIs, no access log; raw float32 through an ASGI application mounted on it."


def serve(model: str, port: int) -> None:
    """Become `bentoml serve`, which takes the graph's path from the environment."""
    os.environ |= {"PEER_MODEL": model, "BENTOML_DO_NOT_TRACK": "True"}
    command = ["-m", "bentoml", "serve", "benchmarks.peers.bentoml_service:Scorer"]
    os.execv(sys.executable, [sys.executable, *command, "--host", "127.0.0.1", "--port", str(port)])


def binary_batch(events: Floats) -> Question:
    """Ask for the scores of `events` (n, features) as float32 rows."""
    return raw_batch(events, "/raw/score")

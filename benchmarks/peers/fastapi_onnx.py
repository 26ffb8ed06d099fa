"""FastAPI with ONNX Runtime: JSON through pydantic, and a route for octets written by hand."""

import sys

from benchmarks.peers.fastapi_app import WEB_PACKAGES, run
from benchmarks.peers.graph import open_graph
from benchmarks.peers.surface import json_batch, single
from benchmarks.peers.surface import raw_batch as binary_batch

__all__ = ["NAME", "NOTES", "PACKAGES", "PYTHON", "binary_batch", "json_batch", "serve", "single"]

NAME = "FastAPI + ONNX Runtime"
PACKAGES: tuple[str, ...] = (*WEB_PACKAGES, "onnxruntime==1.31.1", "numpy==2.4.6")
PYTHON = sys.executable
NOTES = "uvicorn with uvloop and httptools, coroutines for routes, pydantic models in and out; raw float32 by hand."


def serve(model: str, port: int) -> None:
    """Serve the graph at the path `model` until SIGTERM."""
    run(open_graph(model), port)

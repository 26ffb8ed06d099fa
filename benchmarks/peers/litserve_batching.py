"""LitServe with its batching of single requests."""

from benchmarks.peers.litserve import PACKAGES, PYTHON, binary_batch, json_batch, run, single

__all__ = ["NAME", "NOTES", "PACKAGES", "PYTHON", "binary_batch", "json_batch", "serve", "single"]

NAME = "LitServe, batching"
NOTES = "The same, with max_batch_size=32, as many as there are connections, and at most 1 ms of waiting for them."


def serve(model: str, port: int) -> None:
    """Serve the graph at the path `model` until SIGTERM."""
    from benchmarks.peers.litserve_api import BatchingScorerAPI

    run(BatchingScorerAPI(model, max_batch_size=32, batch_timeout=0.001), port)

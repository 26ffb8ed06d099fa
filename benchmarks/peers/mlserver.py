"""MLServer with a custom runtime, asked in the Open Inference Protocol."""
# mypy: disable-error-code="import-not-found"

import sys

from benchmarks.peers.open_inference import MODEL, json_batch, single
from benchmarks.peers.surface import Floats, Question, raw_batch

__all__ = ["NAME", "NOTES", "PACKAGES", "PYTHON", "binary_batch", "json_batch", "serve", "single"]

NAME = "MLServer"
PACKAGES: tuple[str, ...] = ("mlserver==1.7.1", "onnxruntime==1.31.1", "numpy==2.4.6")
PYTHON = sys.executable
NOTES = (
    "The model in the server's own process (parallel_workers=0), debug off. It speaks the Open Inference Protocol: "
    "tensors in JSON, a single event as a batch of one. Its HTTP side has no binary tensors: raw float32 goes through "
    "a custom handler."
)


def serve(model: str, port: int) -> None:
    """Serve the graph at the path `model` until SIGTERM."""
    import asyncio

    import uvloop
    from mlserver import MLServer, ModelSettings, Settings
    from mlserver.settings import ModelParameters

    settings = Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1,
        metrics_port=port + 2,
        parallel_workers=0,  # a pool of processes would only add a queue on one core
        debug=False,  # it writes an access log
    )
    runtime = "benchmarks.peers.mlserver_runtime.GraphRuntime"
    model_settings = ModelSettings(name=MODEL, implementation=runtime, parameters=ModelParameters(uri=model))

    async def run() -> None:
        await MLServer(settings).start([model_settings])

    uvloop.install()  # as its command line does
    asyncio.run(run())


def binary_batch(events: Floats) -> Question:
    """Ask for the scores of `events` (n, features) as float32 rows."""
    return raw_batch(events, "/raw")

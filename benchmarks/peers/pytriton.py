"""Triton Inference Server through PyTriton, asked in the Open Inference Protocol with binary tensors."""
# mypy: disable-error-code="import-not-found,misc,untyped-decorator"

import numpy as np

from benchmarks.peers.graph import open_graph
from benchmarks.peers.open_inference import MODEL, binary_batch, json_batch, single
from benchmarks.peers.surface import N_FEATURES, Floats

__all__ = ["NAME", "NOTES", "PACKAGES", "PYTHON", "binary_batch", "json_batch", "serve", "single"]

NAME = "Triton (PyTriton)"
PACKAGES: tuple[str, ...] = ("nvidia-pytriton==0.7.0", "onnxruntime==1.31.1", "numpy==1.26.4")
PYTHON = "/usr/bin/python3"  # Triton's Python backend needs the shared library of the system's Python
NOTES = (
    "Triton's Python backend calls ONNX Runtime in Python; PyTriton ships no ONNX backend. Its dynamic batcher puts "
    "single events together without waiting. Tensors in JSON or, with the protocol's extension, in binary."
)


def serve(model: str, port: int) -> None:
    """Serve the graph at the path `model` until SIGTERM."""
    from pytriton.decorators import batch
    from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    score = open_graph(model)

    @batch
    def infer(features: Floats) -> dict[str, Floats]:
        return {"anomaly_score": score(features)[:, None]}

    config = TritonConfig(
        http_address="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2, allow_gpu_metrics=False
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=MODEL,
            infer_func=infer,
            inputs=[Tensor(name="features", dtype=np.float32, shape=(N_FEATURES,))],
            outputs=[Tensor(name="anomaly_score", dtype=np.float32, shape=(1,))],
            config=ModelConfig(max_batch_size=65_536, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()

"""Triton Inference Server through PyTriton.

python -m benchmarks.peers.servers.pytriton_server NAME MODEL PORT
"""
# mypy: disable-error-code="import-not-found,misc,untyped-decorator"

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.servers.graph import N_FEATURES, Floats, open_graph


def main(name: str, model: str, port: int) -> None:
    """Serve the graph until SIGINT or SIGTERM."""
    score = open_graph(model)

    @batch
    def infer(features: Floats) -> dict[str, Floats]:
        return {"anomaly_score": score(features)[:, None]}

    config = TritonConfig(
        http_address="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_port=port + 2, allow_gpu_metrics=False
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name=name,
            infer_func=infer,
            inputs=[Tensor(name="features", dtype=np.float32, shape=(N_FEATURES,))],
            outputs=[Tensor(name="anomaly_score", dtype=np.float32, shape=(1,))],
            config=ModelConfig(max_batch_size=65_536, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

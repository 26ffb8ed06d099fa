"""The exported graph in ONNX Runtime, as the peers' processes open it."""

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Score = Callable[[Floats], Floats]
"""Events (n, features) to anomaly scores (n,)."""
N_FEATURES = 14


def open_graph(model: str) -> Score:
    """Open the graph at the path `model` and return what scores float32 events with it."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # one core: more threads would only wait
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda events: session.run(["anomaly_score"], {"features": np.ascontiguousarray(events, np.float32)})[0]


def read_rows(octets: bytes) -> Floats:
    """Read little-endian float32 rows (n, features)."""
    return np.frombuffer(octets, "<f4").reshape(-1, N_FEATURES)

"""The ceiling of the runtime: events/s of ONNX Runtime without HTTP, alone and with the service's scorer.

The ceiling of the runtime itself is the peak rate of the core, measured with a large matrix product.
"""

import os
from collections.abc import Callable
from time import perf_counter

import numpy as np
import onnx
from numpy.typing import NDArray

from service.model.artefact import INPUT_NAME, OUTPUT_NAME
from service.model.scorer import Scorer

EVENTS_IN_A_CALL = (256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
SCORER_EVENTS = (10_000, 100_000)
RUN_S = 0.13
MATRIX_ROWS = 384
"""Rows and columns of a matrix that fits into the L2 cache and whose product takes milliseconds."""


class Runtime:
    """Scoring in this process: the runtime alone in calls of several sizes, and the service's scorer."""

    def __init__(self, scorer: Scorer, events: NDArray[np.float32]) -> None:
        """Open a session; `events` (n, n_features) are scored, as many as in the largest batch."""
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(scorer.artefact.graph, options, providers=["CPUExecutionProvider"])
        product = onnxruntime.InferenceSession(matrix_product().SerializeToString(), options)
        matrix = {"matrix": np.ones((MATRIX_ROWS, MATRIX_ROWS), np.float32)}
        self._multiply = lambda: product.run(None, matrix)

        def call(size: int) -> Callable[[], object]:
            chunks = [np.ascontiguousarray(events[start : start + size]) for start in range(0, len(events), size)]
            return lambda: [session.run([OUTPUT_NAME], {INPUT_NAME: features}) for features in chunks]

        def score(size: int) -> Callable[[], object]:
            features = np.ascontiguousarray(events[:size])
            return lambda: scorer.score_rows(features)

        self._calls = {
            **{f"runtime, {size:,} in a call": (len(events), call(size)) for size in EVENTS_IN_A_CALL},
            **{f"scorer, {size:,} in a call": (size, score(size)) for size in SCORER_EVENTS},
        }

    def measure(self) -> dict[str, float]:
        """Return the events per second of each way of calling, in runs of RUN_S."""
        return {name: n_events * _calls_per_s(call) for name, (n_events, call) in self._calls.items()}

    def measure_peak(self) -> float:
        """Return the floating-point operations per second of a large matrix product."""
        return _calls_per_s(self._multiply) * 2 * MATRIX_ROWS**3


def matrix_product() -> onnx.ModelProto:
    """Make a graph that multiplies a square `matrix` by itself."""
    node = onnx.helper.make_node("MatMul", ["matrix", "matrix"], ["product"])
    matrix, product = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [MATRIX_ROWS, MATRIX_ROWS])
        for name in ("matrix", "product")
    )
    graph = onnx.helper.make_graph([node], "product", [matrix], [product])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def flop_per_event(graph: bytes) -> int:
    """Return the floating-point operations per event of a graph's products with constant matrices."""
    parsed = onnx.load_model_from_string(graph).graph
    sizes = {constant.name: int(np.prod(constant.dims)) for constant in parsed.initializer}
    products = (node.input[1] for node in parsed.node if node.op_type in {"Gemm", "MatMul"})
    return sum(2 * sizes.get(matrix, 0) for matrix in products)


def _calls_per_s(call: Callable[[], object]) -> float:
    call()
    started, calls = perf_counter(), 0
    while (passed := perf_counter() - started) < RUN_S:
        call()
        calls += 1
    return calls / passed

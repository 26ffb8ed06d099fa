"""What the runtime computes is counted."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.targets.in_process import flop_per_event, matrix_product


def test_operations_are_counted_of_products_with_constant_matrices() -> None:
    """A multiplication and an addition for each number of each matrix, of either kind of node; of others none."""
    shapes = {"first": (5, 3), "second": (3, 2), "summand": (1, 3)}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["events", "first", "summand"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "second"], ["scores"]),
            helper.make_node("Add", ["scores", "summand"], ["sum"]),
        ],
        "products",
        [helper.make_tensor_value_info("events", TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()],
    )
    assert flop_per_event(helper.make_model(graph).SerializeToString()) == 2 * (5 * 3 + 3 * 2)
    assert flop_per_event(matrix_product().SerializeToString()) == 0

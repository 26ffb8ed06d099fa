"""Models that are wrong in one way each, made from the good one."""

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from tests.artefacts import externally_stored, model

Change = Callable[[onnx.ModelProto], object]
IMPORTS = [helper.make_opsetid("", 20)]


def changed(change: Change) -> onnx.ModelProto:
    """Build the good model and change it."""
    built = model()
    change(built)
    return built


def led_through(*nodes: onnx.NodeProto, **constants: ArrayLike) -> onnx.ModelProto:
    """Build the good graph with its features led through `nodes`, from `features` to `passed`."""
    built = model()
    lead_through(built, *nodes, **constants)
    return built


def lead_through(built: onnx.ModelProto, *nodes: onnx.NodeProto, **constants: ArrayLike) -> None:
    """Change a graph to lead its features through `nodes`, from `features` to `passed`."""
    graph = built.graph
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == "features":
                node.input[place] = "passed"
    behind = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *behind])


def _branches(built: onnx.ModelProto, branch: onnx.GraphProto) -> None:
    built.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))


def _external_node() -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=externally_stored())


def _foreign_node() -> onnx.NodeProto:
    return helper.make_node("Op", [], ["x"], domain="com.example")


EXTERNAL_DATA: dict[str, Change] = {
    "initialiser": lambda built: built.graph.initializer.append(externally_stored()),
    "attribute": lambda built: built.graph.node.append(_external_node()),
    "list attribute": lambda built: built.graph.node[0].attribute.append(
        helper.make_attribute("many", [externally_stored()])
    ),
    "subgraph": lambda built: _branches(built, helper.make_graph([], "branch", [], [], [externally_stored()])),
    "function": lambda built: built.functions.append(
        helper.make_function("", "F", [], ["c"], [_external_node()], IMPORTS)
    ),
}
"""A tensor in another file, in every place that may hold one."""

FOREIGN_DOMAINS: dict[str, Change] = {
    "node": lambda built: built.graph.node.append(_foreign_node()),
    "operator set": lambda built: built.opset_import.append(helper.make_opsetid("com.example", 1)),
    "subgraph": lambda built: _branches(built, helper.make_graph([_foreign_node()], "branch", [], [])),
    "function": lambda built: built.functions.append(
        helper.make_function("com.example", "F", [], [], [], IMPORTS),
    ),
}
"""Another operator domain, in every place that may name one."""


def _rename_output(built: onnx.ModelProto) -> None:
    built.graph.output[0].name = "score"


def _input_of_float64(built: onnx.ModelProto) -> None:
    built.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def _input_of_an_unknown_type(built: onnx.ModelProto) -> None:
    built.graph.input[0].type.tensor_type.elem_type = 99


def _two_events(built: onnx.ModelProto) -> None:
    built.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def _sequence(built: onnx.ModelProto) -> None:
    built.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


SIGNATURES: list[tuple[Change, str]] = [
    (_rename_output, "graph output: found score: float32 (batch), expected anomaly_score"),
    (_input_of_float64, "graph input: found features: float64 (batch, 5)"),
    (_input_of_an_unknown_type, "graph input: found features: type 99 (batch, 5)"),
    (_two_events, "graph input: found features: float32 (2, 5)"),
    (
        lambda built: built.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1),
        "graph output: found anomaly_score: float32 (batch, 1)",
    ),
    (
        lambda built: built.graph.input.append(
            helper.make_tensor_value_info("weights", TensorProto.FLOAT, ["batch"]),
        ),
        "features: float32 (batch, 5); weights: float32 (batch)",
    ),
    (lambda built: built.graph.output.pop(), "graph output: found none"),
    (_sequence, "not a tensor"),
]
"""Wrong inputs and outputs, each with a part of the message."""

"""Models that are wrong in one way each, made from the good one, each with a part of the message that it gets."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from service.model.graph import FORMATS, OPSETS
from tests.artefacts import externally_stored, model

Change = Callable[[onnx.ModelProto], object]
WrongGraph = tuple[Change, str]
"""What is changed in the good model, and a part of the message."""

node, value_info = helper.make_node, helper.make_tensor_value_info
IMPORTS = [helper.make_opsetid("", 20)]
THROUGH = node("Identity", ["features"], ["passed"])


def changed(change: Change) -> onnx.ModelProto:
    """Build the good model and change it."""
    built = model()
    change(built)
    return built


def led_through(*nodes: onnx.NodeProto, **constants: ArrayLike) -> onnx.ModelProto:
    """Build the good graph with its features led through `nodes`, from `features` to `passed`."""
    return changed(lambda built: lead_through(built, *nodes, **constants))


def lead_through(built: onnx.ModelProto, *nodes: onnx.NodeProto, **constants: ArrayLike) -> None:
    """Change a graph to lead its features through `nodes`, from `features` to `passed`."""
    graph = built.graph
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    for user in graph.node:
        for place, name in enumerate(user.input):
            if name == "features":
                user.input[place] = "passed"
    behind = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *behind])


def beside(added: onnx.NodeProto, **constants: ArrayLike) -> Change:
    """Add an operator whose output is not used."""
    return lambda built: lead_through(built, added, THROUGH, **constants)


def in_branches(branch: onnx.GraphProto) -> Change:
    """Add an operator with graphs inside."""
    return lambda built: built.graph.node.append(node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))


def in_function(domain: str, name: str, *nodes: onnx.NodeProto) -> Change:
    """Add a local function."""
    return lambda built: built.functions.append(helper.make_function(domain, name, [], ["y"], nodes, IMPORTS))


def other_type(place: str, elem_type: int) -> Change:
    """Declare another type of the input's or the output's numbers."""

    def change(built: onnx.ModelProto) -> None:
        getattr(built.graph, place)[0].type.tensor_type.elem_type = elem_type

    return change


def _rename_output(built: onnx.ModelProto) -> None:
    built.graph.output[0].name = "score"


def _two_events(built: onnx.ModelProto) -> None:
    built.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def _sequence(built: onnx.ModelProto) -> None:
    built.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


SIGNATURES: list[WrongGraph] = [
    (_rename_output, "graph output: found score: float32 (batch), expected anomaly_score"),
    (other_type("input", TensorProto.DOUBLE), "graph input: found features: float64 (batch, 5)"),
    (other_type("input", 99), "graph input: found features: type 99 (batch, 5)"),
    (_two_events, "graph input: found features: float32 (2, 5)"),
    (
        lambda built: built.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1),
        "graph output: found anomaly_score: float32 (batch, 1)",
    ),
    (
        lambda built: built.graph.input.append(value_info("weights", TensorProto.FLOAT, ["batch"])),
        "features: float32 (batch, 5); weights: float32 (batch)",
    ),
    (lambda built: built.graph.output.pop(), "graph output: found none"),
    (_sequence, "not a tensor"),
]


def external_data() -> Iterator[Change]:
    """Put a tensor in another file, in every place that may hold one: it could be any file of the machine."""
    stored = externally_stored()
    constant = node("Constant", [], ["c"], value=stored)
    yield lambda built: built.graph.initializer.append(stored)
    yield lambda built: built.graph.node.append(constant)
    yield lambda built: built.graph.node[0].attribute.append(helper.make_attribute("many", [stored]))
    yield in_branches(helper.make_graph([], "branch", [], [], [stored]))
    yield in_function("", "F", constant)


def foreign_domains() -> Iterator[Change]:
    """Name another operator domain, in every place that may name one: a custom operator could be any code."""
    foreign = node("Op", [], ["x"], domain="com.example")
    yield lambda built: built.graph.node.append(foreign)
    yield lambda built: built.opset_import.append(helper.make_opsetid("com.example", 1))
    yield in_branches(helper.make_graph([foreign], "branch", [], []))
    yield in_function("com.example", "F")


def opsets(versions: list[int]) -> Change:
    """Name other versions of the operators."""

    def change(built: onnx.ModelProto) -> None:
        del built.opset_import[:]
        built.opset_import.extend(helper.make_opsetid("", version) for version in versions)

    return change


def format_version(version: int) -> Change:
    """Name another version of the format."""

    def change(built: onnx.ModelProto) -> None:
        built.ir_version = version

    return change


OTHER_OPSETS: list[tuple[list[int], object]] = [
    *(([], "none"), ([20, 20], "20, 20"), ([20, 21], "20, 21")),
    *(([version], version) for version in (OPSETS[0] - 1, OPSETS[-1] + 1, 0, -1, 2**63 - 1)),
]
VERSIONS: list[WrongGraph] = [
    *(
        (opsets(versions), f"operator set: found {found}, expected one version from {OPSETS[0]} to {OPSETS[-1]}")
        for versions, found in OTHER_OPSETS
    ),
    (lambda built: built.opset_import.append(helper.make_opsetid("ai.onnx", 20)), "operator set: found 20, 20"),
    *(
        (format_version(version), f"version of the format: found {version}, expected 4 to 13")
        for version in (-1, FORMATS[0] - 1, FORMATS[-1] + 1, 2**62)
    ),
]

CONSTANTS: dict[str, ArrayLike] = {"sizes": [1], "nothing": np.zeros(0, np.int64), "pair": [1, 1]}
CRASHES: list[WrongGraph] = [
    (beside(added, **CONSTANTS), found)
    for added, found in [
        (node("GatherND", ["features", "sizes"], ["x"], batch_dims=2**63 - 1), "batch_dims beyond 1048576"),
        (node("GatherND", ["features", "sizes"], ["x"], batch_dims=-2), "batch_dims below 0"),
        (node("DepthToSpace", ["features"], ["x"], blocksize=2**62), "blocksize beyond 1048576"),
        (node("Split", ["features"], ["x"], num_outputs=10**9), "num_outputs beyond 1048576"),
        (node("ReduceSum", ["features"], ["x"], axes=[-(2**63)]), "axes beyond 1048576"),
        (node("OneHot", ["sizes", "nothing", "pair"], ["x"]), "a depth that is not one number"),
        (node("OneHot", ["sizes"], ["x"]), "ONNX Runtime cannot load"),
    ]
]
"""Attributes and constants on which the runtime aborts."""

BODY = helper.make_graph([node("Identity", ["features"], ["x"])], "body", [], [])
BODIES = node("Identity", ["features"], ["x"])
BODIES.attribute.append(AttributeProto(name="bodies", type=AttributeProto.GRAPHS, graphs=[BODY]))
TEXT = TensorProto(name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"a"])
NOISE = node("RandomNormalLike", ["features"], ["noise"], name="n", scale=1e-9)
SPARSE = helper.make_sparse_tensor(
    helper.make_tensor("few", TensorProto.FLOAT, [1], [1.0]),
    helper.make_tensor("places", TensorProto.INT64, [1], [0]),
    [2**40],
)
OPERATORS: list[WrongGraph] = [
    # Their scores could not be reproduced.
    (beside(NOISE), "operator 'RandomNormalLike' of node 'n': found random numbers, expected arithmetic"),
    (beside(node("Nonsense", ["features"], ["x"])), "found no operator of this name in operator set 20"),
    # Graphs in graphs can run for ever; local functions that call another twice double the graph.
    *(
        (beside(node(name, ["features"], ["x"], body=BODY)), f"operator '{name}' of node '': found a graph inside")
        for name in ("Loop", "If", "Scan", "Identity")
    ),
    (beside(BODIES), "found a graph inside"),
    (in_function("", "Twice", node("Identity", ["x"], ["y"])), "local functions: found 'Twice', expected none"),
    # Text and sequences are allocated outside the memory limit of the runtime.
    (beside(node("Constant", [], ["x"], value_string="a")), "found text"),
    (beside(node("Constant", [], ["x"], value_strings=["a"])), "found text"),
    (beside(node("Constant", [], ["x"], value=TEXT)), "tensor type: found text in tensor 'text'"),
    (beside(node("Cast", ["features"], ["x"], to=TensorProto.STRING)), "found text"),
    (beside(node("SequenceConstruct", ["features"], ["x"])), "found sequences, or text"),
    (beside(node("StringConcat", ["features", "features"], ["x"])), "found sequences, or text"),
    # A sparse tensor of any size takes a few bytes in the file.
    (lambda built: built.graph.sparse_initializer.append(SPARSE), "found sparse tensor 'few', expected dense tensors"),
    (beside(node("Constant", [], ["x"], sparse_value=SPARSE)), "tensor storage: found sparse tensor 'few'"),
    (
        lambda built: built.graph.sparse_initializer.add().values.CopyFrom(externally_stored()),
        "tensor storage: found sparse tensor 'elsewhere'",
    ),
]

STORED = "tensor storage: found tensor 'elsewhere' in external data"
FOREIGN = "operator domain: found 'com.example', expected the standard one"
WRONG_GRAPHS: dict[str, list[WrongGraph]] = {
    "signature": SIGNATURES,
    "external data": [(change, STORED) for change in external_data()],
    "domain": [(change, FOREIGN) for change in foreign_domains()],
    "version": VERSIONS,
    "crash": CRASHES,
    "operator": OPERATORS,
}

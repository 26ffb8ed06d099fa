"""Model files made to do harm: graphs that unfold, run for ever, go deep, or misuse operators."""

import random

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tests.fuzz.forgery import HUGE, on_model
from tests.service.model.broken import lead_through

NUMBERS: dict[str, type] = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}


@on_model
def add_operators(built: onnx.ModelProto, chance: random.Random) -> None:
    """Put operators of the standard in front, of any kind, on numbers and shapes of any size, by values of any size."""
    graph, version = built.graph, built.opset_import[0].version
    names = sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain})
    values = ["features", *(tensor.name for tensor in graph.initializer)]
    added: list[onnx.NodeProto] = []
    for place in range(chance.choice((1, 1, 1, 2, 3))):
        name = chance.choice(names)
        if onnx.defs.get_schema(name).since_version > version:
            continue
        schema = onnx.defs.get_schema(name, version)
        types: dict[str, type] = {}
        inputs = []
        for number in range(chance.randint(min(schema.min_input, 9), min(schema.max_input, 9))):
            parameter = schema.inputs[min(number, len(schema.inputs) - 1)]
            allowed = [kind for text, kind in NUMBERS.items() if text in parameter.types] or list(NUMBERS.values())
            kind = types.setdefault(parameter.type_str, chance.choice(allowed))
            inputs.append(f"added.{place}.{number}")
            graph.initializer.append(_tensor(inputs[-1], kind, chance))
            if kind is np.float32 and chance.random() < 0.3:
                inputs[-1] = chance.choice(values)
        outputs = [f"added.{place}.out.{output}" for output in range(max(1, min(schema.min_output, 9)))]
        node = helper.make_node(name, inputs, outputs)
        for attribute in schema.attributes.values():
            if attribute.required or chance.random() < 0.4:
                _set(node, attribute.name, str(attribute.type).rpartition(".")[2], chance)
        added.append(node)
        values += outputs
    if chance.random() < 0.5 and added:  # and what they make goes into the score
        last = helper.make_node("Cast", [added[-1].output[0]], ["added.cast"], to=TensorProto.FLOAT)
        graph.node[0].input[0] = "added.cast"
        added.append(last)
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


@on_model
def bomb(built: onnx.ModelProto, chance: random.Random) -> None:
    """Lead the features through an operator that unfolds to any size or never ends."""
    size = chance.choice((10**6, 10**8, 10**9, 3 * 10**9, 10**10, 10**12, 2**62))
    constants = {"size": np.array([size]), "sizes": np.array([size, 1, 1]), "axis": np.array([0])}
    constants |= {"true": np.array(True), "column": np.array([-1, 1])}
    node, number = helper.make_node, helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["on"], ["still"]), node("Identity", ["x"], ["y"])],
        "body",
        [number("i", TensorProto.INT64, []), number("on", TensorProto.BOOL, []), number("x", TensorProto.FLOAT, None)],
        [number("still", TensorProto.BOOL, []), number("y", TensorProto.FLOAT, None)],
    )
    add_zero = [node("ReduceMax", ["large"], ["zero"], keepdims=0), node("Add", ["features", "zero"], ["passed"])]
    largest = node("ReduceMax", ["large", "axis"], ["passed"], keepdims=0)
    bombs = [
        [node("ConstantOfShape", ["size"], ["large"]), *add_zero],
        [node("Expand", ["features", "sizes"], ["large"]), largest],
        [node("RandomNormalLike", ["features"], ["noise"], scale=1e-9), node("Add", ["features", "noise"], ["passed"])],
        [node("Loop", ["size", "true", "features"], ["passed"], body=body)],
        [node("Reshape", ["features", "column"], ["row"]), node("Mul", ["row", "row"], ["passed"])],
        [
            node("Identity", ["features"], ["double.0"]),
            *(node("Concat", [f"double.{step}"] * 2, [f"double.{step + 1}"], axis=0) for step in range(40)),
            node("Identity", ["double.40"], ["large"]),
            *add_zero,
        ],
        [
            node("Cast", ["features"], ["text"], to=TensorProto.STRING),
            node("StringConcat", ["text", "text"], ["texts"]),
            node("Identity", ["features"], ["passed"]),
        ],
    ]
    lead_through(built, *chance.choice(bombs), **constants)


def nest(file: bytes, chance: random.Random) -> bytes:
    """Put graphs into graphs, to any depth, or a million empty operators behind the others."""
    if chance.random() < 0.5:
        return file + graph_field(b"\x0a\x00" * chance.choice((1000, 20_000, 1_000_000)))
    return file + nested_graphs(chance.choice((1, 10, 30, 40, 1000, 20_000)))


def nested_graphs(depth: int) -> bytes:
    """Write graphs in operators of graphs, as a field of a model that is merged with its graph."""
    nested = b""
    for _ in range(depth):
        attribute = field(b"\x32", nested) + b"\xa0\x01\x05"  # its type is GRAPH
        nested = field(b"\x0a", b"\x22\x02If" + field(b"\x2a", attribute))
    return graph_field(nested)


def graph_field(content: bytes) -> bytes:
    """Write content as a field of a model that is merged with its graph."""
    return field(b"\x3a", content)


def field(tag: bytes, content: bytes) -> bytes:
    """Write a field of a protocol buffer: its tag, its length and its content."""
    number, length = len(content), bytearray()
    while number > 127:
        length.append(number & 127 | 128)
        number >>= 7
    return tag + bytes([*length, number]) + content


def _tensor(name: str, kind: type, chance: random.Random) -> onnx.TensorProto:
    """Make a small tensor of any shape, its numbers of any size."""
    shape = [chance.choice((0, 1, 1, 2, 3, 5, 16)) for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 4, 5)))]
    sizes = np.array([chance.choice((*HUGE, 2, 3, 4, 5, -2, 100)) for _ in range(int(np.prod(shape)))], np.int64)
    if chance.random() < 0.7:
        sizes %= 7
    return numpy_helper.from_array(sizes.reshape(shape).astype(kind), name)


def _set(node: onnx.NodeProto, name: str, kind: str, chance: random.Random) -> None:
    """Give an operator an attribute of the kind that it should have, its value of any size."""
    sizes = [chance.choice((*HUGE, 0, 1, 2, 3, -1)) for _ in range(chance.choice((0, 1, 2, 2, 3, 4, 8)))]
    attribute = node.attribute.add(name=name, type=AttributeProto.AttributeType.Value(kind))
    match attribute.type:
        case AttributeProto.INT:
            attribute.i = chance.choice((*HUGE, 1, 1, 2, 3, 6, 7, 10))
        case AttributeProto.INTS:
            attribute.ints.extend(sizes)
        case AttributeProto.FLOAT:
            attribute.f = chance.choice((0.0, 1.0, -1.0, 1e38, float("nan"), float("inf")))
        case AttributeProto.FLOATS:
            attribute.floats.extend(map(float, sizes))
        case AttributeProto.STRING:
            words = (b"", b"SAME_UPPER", b"VALID", b"linear", b"nearest", b"cubic", b"ij,jk->ik", b"...", b"x" * 1000)
            attribute.s = chance.choice(words)
        case AttributeProto.TENSOR:
            attribute.t.CopyFrom(_tensor(name, chance.choice(list(NUMBERS.values())), chance))
        case _:
            attribute.i = chance.choice(HUGE)

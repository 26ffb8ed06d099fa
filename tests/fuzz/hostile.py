"""Model files made to do harm: graphs that unfold, run for ever, go deep, or use operators as nobody would.

It does not know what should become of them.
"""

import random

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tests.fuzz.forgery import HUGE, written

NUMBERS: dict[str, type] = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}


def add_operators(file: bytes, chance: random.Random) -> bytes:
    """Put operators of the standard in front, of any kind, on numbers and shapes of any size, by values of any size."""
    built = onnx.load_model_from_string(file)
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
    return written(built)


def bomb(file: bytes, chance: random.Random) -> bytes:
    """Make the features, before anything else, pass by an operator that unfolds to any size or never ends."""
    built = onnx.load_model_from_string(file)
    graph = built.graph
    first = next(node for node in graph.node if "features" in node.input)
    first.input[list(first.input).index("features")] = "bombed"
    size = chance.choice((10**6, 10**8, 10**9, 3 * 10**9, 10**10, 10**12, 2**62))
    graph.initializer.append(numpy_helper.from_array(np.array([size], np.int64), "bomb.size"))
    graph.initializer.append(numpy_helper.from_array(np.array([size, 1, 1], np.int64), "bomb.sizes"))
    graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "bomb.axis"))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "bomb.true"))
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    fuses = {
        "fill": [
            helper.make_node("ConstantOfShape", ["bomb.size"], ["bomb"]),
            helper.make_node("ReduceMax", ["bomb"], ["bomb.zero"], keepdims=0),
            helper.make_node("Add", ["features", "bomb.zero"], ["bombed"]),
        ],
        "expand": [
            helper.make_node("Expand", ["features", "bomb.sizes"], ["bomb"]),
            helper.make_node("ReduceMax", ["bomb", "bomb.axis"], ["bombed"], keepdims=0),
        ],
        "random": [
            helper.make_node("RandomNormalLike", ["features"], ["bomb"], scale=1e-9),
            helper.make_node("Add", ["features", "bomb"], ["bombed"]),
        ],
        "loop": [helper.make_node("Loop", ["bomb.size", "bomb.true", "features"], ["bombed"], body=body)],
        "square": [
            helper.make_node("Reshape", ["features", "bomb.flat"], ["bomb.row"]),
            helper.make_node("Mul", ["bomb.row", "bomb.row"], ["bombed"]),
        ],
        "double": [helper.make_node("Concat", [f"bomb.{step}"] * 2, [f"bomb.{step + 1}"], axis=0) for step in range(40)]
        + [
            helper.make_node("Identity", ["features"], ["bomb.0"]),
            helper.make_node("ReduceMax", ["bomb.40"], ["bomb.zero"], keepdims=0),
            helper.make_node("Add", ["features", "bomb.zero"], ["bombed"]),
        ],
        "text": [
            helper.make_node("Cast", ["features"], ["bomb"], to=TensorProto.STRING),
            helper.make_node("StringConcat", ["bomb", "bomb"], ["bomb.2"]),
            helper.make_node("Identity", ["features"], ["bombed"]),
        ],
    }
    chosen = fuses[chance.choice(list(fuses))]
    graph.initializer.append(numpy_helper.from_array(np.array([-1, 1], np.int64), "bomb.flat"))
    nodes = [*chosen, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return written(built)


def nest(file: bytes, chance: random.Random) -> bytes:
    """Put graphs into graphs, to any depth, or a million empty operators behind the others."""
    built = onnx.load_model_from_string(file)
    if chance.random() < 0.5:
        operators = b"\x0a\x00" * chance.choice((1000, 20_000, 1_000_000))
        return file + b"\x3a" + _length(len(operators)) + operators
    nested = b""
    for _ in range(chance.choice((1, 10, 30, 40, 1000, 20_000))):
        attribute = b"\x32" + _length(len(nested)) + nested + b"\xa0\x01\x05"  # g, type GRAPH
        node = b"\x22\x02If\x2a" + _length(len(attribute)) + attribute
        nested = b"\x0a" + _length(len(node)) + node
    return written(built) + b"\x3a" + _length(len(nested)) + nested


def _length(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


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

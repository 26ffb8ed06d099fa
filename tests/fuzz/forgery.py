"""Ways to damage or forge a model file; each takes a good file and chance, and gives a wrong one."""

import json
import random
from collections.abc import Callable
from functools import wraps

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

Forgery = Callable[[bytes, random.Random], bytes]

HUGE = (0, -1, 1, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63), 10**9)

WRONG_JSON = (
    "", "null", "[]", "{}", '""', "0", "-1", "1e400", "NaN", "[NaN]", "true", '"a\\u0000b"', '"a\\r\\nSet-Cookie: b"',
    '"\\ud800"', '"' + "x" * 100_000 + '"', "[" * 100_000, "[" * 500 + "]" * 500, '{"a":' * 400 + "1" + "}" * 400,
    "[" + "0," * 200_000 + "0]", "[" + '"",' * 200_000 + '""]', "9" * 4000, '{"features":[],"anomaly_scores":[]}',
)  # fmt: skip


def on_model(change: Callable[[onnx.ModelProto, random.Random], None]) -> Forgery:
    """Make a forgery of a change of the parsed model."""

    @wraps(change)
    def forge(file: bytes, chance: random.Random) -> bytes:
        built = onnx.load_model_from_string(file)
        change(built, chance)
        return bytes(built.SerializeToString())

    return forge


def flip_bit(file: bytes, chance: random.Random) -> bytes:
    """Flip one bit."""
    wrong = bytearray(file)
    wrong[chance.randrange(len(wrong))] ^= 1 << chance.randrange(8)
    return bytes(wrong)


def flip_bit_between_weights(file: bytes, chance: random.Random) -> bytes:
    """Flip one bit of the operators' part of the file, which flips all over it seldom meet."""
    graph = onnx.load_model_from_string(file).graph
    part = chance.choice(graph.node).SerializeToString()
    place = file.index(part)
    wrong = bytearray(file)
    wrong[place + chance.randrange(len(part))] ^= 1 << chance.randrange(8)
    return bytes(wrong)


def flip_bits(file: bytes, chance: random.Random) -> bytes:
    """Flip up to a hundred bits."""
    for _ in range(chance.randrange(2, 100)):
        file = flip_bit(file, chance)
    return file


def swap_bytes(file: bytes, chance: random.Random) -> bytes:
    """Exchange two bytes."""
    wrong = bytearray(file)
    one, other = chance.randrange(len(wrong)), chance.randrange(len(wrong))
    wrong[one], wrong[other] = wrong[other], wrong[one]
    return bytes(wrong)


def truncate(file: bytes, chance: random.Random) -> bytes:
    """Cut the file short, as an interrupted copy does."""
    return file[: chance.randrange(len(file))]


def cut_out(file: bytes, chance: random.Random) -> bytes:
    """Leave out a piece of the middle."""
    start = chance.randrange(len(file))
    return file[:start] + file[start + chance.randrange(1, 200) :]


def repeat(file: bytes, chance: random.Random) -> bytes:
    """Repeat a piece."""
    start = chance.randrange(len(file))
    end = start + chance.randrange(1, 2000)
    return file[:end] + file[start:]


def zero_block(file: bytes, chance: random.Random) -> bytes:
    """Put zeros over a block, as a file system does that lost one."""
    start = chance.randrange(len(file))
    length = len(file[start : start + chance.choice((16, 512, 4096))])
    return file[:start] + bytes(length) + file[start + length :]


def twice(file: bytes, chance: random.Random) -> bytes:
    """Join the file and a part of itself: the format merges them."""
    return file + file[: chance.choice((len(file), chance.randrange(len(file))))]


@on_model
def swap_initialisers(built: onnx.ModelProto, chance: random.Random) -> None:
    """Exchange the numbers of two tensors of one shape, or reverse those of one."""
    tensors = built.graph.initializer
    pairs = [
        (one, other)
        for place, one in enumerate(tensors)
        for other in tensors[:place]
        if one.dims == other.dims and one.data_type == other.data_type and one.raw_data != other.raw_data
    ]
    if pairs and chance.random() < 0.7:
        one, other = chance.choice(pairs)
        one.raw_data, other.raw_data = other.raw_data, one.raw_data
    else:
        tensor = chance.choice([tensor for tensor in tensors if tensor.dims])
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array[::-1]), tensor.name))


@on_model
def change_weight(built: onnx.ModelProto, chance: random.Random) -> None:
    """Change one number of one tensor: a little, much, to nothing, or to what is no number."""
    tensor = chance.choice([tensor for tensor in built.graph.initializer if tensor.data_type == TensorProto.FLOAT])
    array = numpy_helper.to_array(tensor).copy()
    place = np.unravel_index(chance.randrange(array.size), array.shape)
    array[place] = chance.choice(
        (array[place] * 1.001, array[place] * 2, -array[place], 0, np.nan, np.inf, 1e38, 1e-40)
    )
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


@on_model
def misshape(built: onnx.ModelProto, chance: random.Random) -> None:
    """Give a tensor other dimensions or another type than its numbers have, or numbers in two places."""
    tensor = chance.choice(built.graph.initializer)
    match chance.randrange(4):
        case 0:
            tensor.dims.append(chance.choice(HUGE))
        case 1 if tensor.dims:
            tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(HUGE)
        case 2:
            tensor.data_type = chance.choice((*range(30), -1, 2**31 - 1))
        case _:
            tensor.float_data.extend([1.0] * chance.randrange(1, 100))
            if chance.random() < 0.5:
                tensor.ClearField("raw_data")


@on_model
def forge_metadata(built: onnx.ModelProto, chance: random.Random) -> None:
    """Give a metadata entry another value, of any kind."""
    prop = chance.choice(built.metadata_props)
    if chance.random() < 0.5:
        prop.value = chance.choice(WRONG_JSON)
    elif (value := _json(prop.value)) is None:
        prop.value = prop.value[::-1]
    else:
        prop.value = json.dumps(_forged(value, chance))


@on_model
def forge_keys(built: onnx.ModelProto, chance: random.Random) -> None:
    """Leave a metadata entry out, repeat it, rename it, or exchange two values."""
    props = built.metadata_props
    one, other = chance.randrange(len(props)), chance.randrange(len(props))
    match chance.randrange(4):
        case 0:
            del props[one]
        case 1:
            props.add().CopyFrom(props[one])
        case 2:
            props[one].key = chance.choice(("", "\0", "ort_config", "x" * 10_000))
        case _:
            props[one].value, props[other].value = props[other].value, props[one].value


@on_model
def other_operator(built: onnx.ModelProto, chance: random.Random) -> None:
    """Make an operator another one of the standard, or the same of another name."""
    names = sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain})
    node = chance.choice(built.graph.node)
    node.op_type = chance.choice((*names, "", "\0", "x" * 1000))


@on_model
def other_attribute(built: onnx.ModelProto, chance: random.Random) -> None:
    """Give an operator an attribute that it has not, or another value of one that it has."""
    node = chance.choice(built.graph.node)
    schema = onnx.defs.get_schema(node.op_type, built.opset_import[0].version)
    name = chance.choice((*schema.attributes, "unknown"))
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    value = chance.choice((chance.choice(HUGE), [chance.choice(HUGE)] * chance.randrange(1, 9), 1e38, "text"))
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
    if chance.random() < 0.2:
        node.attribute[-1].type = chance.choice(list(AttributeProto.AttributeType.values()))


@on_model
def rewire(built: onnx.ModelProto, chance: random.Random) -> None:
    """Exchange two operators' inputs or outputs, make a loop, leave one out, or write two the same."""
    nodes = built.graph.node
    one, other = chance.choice(nodes), chance.choice(nodes)
    match chance.randrange(6):
        case 0:
            one.input[0], other.input[0] = other.input[0], one.input[0]
        case 1:
            one.input[0] = one.output[0]
        case 2:
            nodes.remove(one)
        case 3:
            one.output[0] = other.output[0]
        case 4:
            one.input.append(other.output[0])
        case _:
            del one.input[-1]


@on_model
def other_versions(built: onnx.ModelProto, chance: random.Random) -> None:
    """Write another version of the format or of the operators."""
    match chance.randrange(3):
        case 0:
            built.ir_version = chance.choice((*HUGE, *range(1, 20)))
        case 1:
            built.opset_import[0].version = chance.choice((*HUGE, *range(1, 40)))
        case _:
            built.opset_import.append(helper.make_opsetid(chance.choice(("", "ai.onnx", "ai.onnx.ml")), 20))


@on_model
def other_shapes(built: onnx.ModelProto, chance: random.Random) -> None:
    """Declare other shapes and types than the graph has."""
    declared = chance.choice((*built.graph.input, *built.graph.output, *built.graph.value_info))
    dims = declared.type.tensor_type.shape.dim
    match chance.randrange(3):
        case 0 if dims:
            dims[chance.randrange(len(dims))].dim_value = chance.choice(HUGE)
        case 1:
            declared.type.tensor_type.elem_type = chance.choice((*range(30), -1, 2**31 - 1))
        case _:
            for _ in range(chance.choice((1, 7, 5000))):
                dims.add(dim_value=chance.choice(HUGE))


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _forged(value: object, chance: random.Random) -> object:
    """Change one thing somewhere inside a value that was JSON."""
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], _forged(value[place], chance), *value[place + 1 :]]
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        return {**value, key: _forged(value[key], chance)}
    if isinstance(value, float) and chance.random() < 0.5:
        return value * chance.choice((1 + 1e-6, 1.01, -1.0, 1e300))
    return chance.choice((None, "", "a\nb", "\x7f", "é" * 50, 0, -1, 1e308, 10**30, [], {}, [value, value], True))

"""The graph inside the file: what the service is willing to run, whoever wrote it.

It does not know the metadata, how a graph is run, or that HTTP exists.
"""

from collections.abc import Iterator
from functools import cache

import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

INPUT_NAME = "features"
OUTPUT_NAME = "anomaly_score"

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
EXPORT_AGAIN = "export the model again with `python -m training export`"

# Versions of the operators and of the format that the runtime takes. Of those before it takes some, and promises none;
# before version 4 of the format constants were inputs.
OPSETS = range(7, 27)
FORMATS = range(4, 14)

# Parsed, an empty field of two bytes takes two hundred: a file is counted before it is parsed. A graph of a hundred
# operators has about a thousand fields, however large its tensors are.
MAX_FIELDS = 250_000

# On integers far beyond any axis, size or count the runtime divides by zero (`blocksize` of DepthToSpace), aborts
# (`batch_dims` of GatherND) or runs for ever (`num_outputs` of Split). Bounds of Slice and constants may be that large.
MAX_INTEGER = 2**20
UNBOUNDED = frozenset({"Constant", "Slice"})

# Of what a file says in its own words, so much goes into a message.
SHOWN_CHARACTERS = 300

# How protobuf writes a field: a variable-length integer, a length and so many bytes, or so many bytes.
_VARINT, _DELIMITED, _FIXED = 0, 2, {1: 8, 5: 4}


class ArtefactError(Exception):
    """The file is no artefact that this service may use; the message says which rule failed and what to do."""


def refusal(rule: str, found: str, expected: str, remedy: str = EXPORT_AGAIN) -> ArtefactError:
    """Make the error for a broken rule, from what was found and what was expected."""
    return ArtefactError(f"{rule}: found {shortened(found)}, expected {expected}; {remedy}")


def shortened(text: str) -> str:
    """Cut what comes out of a file to a length that a log line may have."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def parse_model(file: bytes) -> onnx.ModelProto:
    """Read the ONNX model in `file`; raise ArtefactError for what is none, or would take far more memory than bytes."""
    _check_fields(file)
    try:
        model = onnx.load_model_from_string(file)
    except DecodeError as error:
        raise refusal("format", "bytes that are no ONNX model", "an exported .onnx file") from error
    if any(isinstance(text, bytes) for text in _texts(model)):
        raise refusal("format", "text that is not UTF-8", "an exported .onnx file")
    # Protobuf takes an empty file, and many a short one, for a model without content.
    if not model.ir_version or not model.graph.node:
        raise refusal("format", "a model without a graph", "an exported .onnx file")
    return model


def check_graph(model: onnx.ModelProto) -> None:
    """Refuse a graph that could do more than arithmetic on the events it is given.

    The rule: operators of the ONNX standard, one version of it; every operator takes and gives dense tensors of numbers
    and gives the same for the same; no operator holds a graph of its own; all constants are in the file. What is left
    cannot read a file, run anybody's code, loop, or grow outside the memory that the scorer allows the runtime. A torch
    module exported in evaluation mode needs nothing else, unless it branches or loops on its data (`torch.cond`).
    """
    check_domains(model)
    check_data(model)
    check_versions(model)
    check_operators(model)


def check_domains(model: onnx.ModelProto) -> None:
    """Refuse operators outside the ONNX standard: they are code of somebody else's."""
    for message in _messages(model):
        named = isinstance(message, onnx.NodeProto | onnx.OperatorSetIdProto | onnx.FunctionProto)
        if named and message.domain not in STANDARD_DOMAINS:
            raise refusal("operator domain", repr(message.domain), 'the standard one ("")')


def check_data(model: onnx.ModelProto) -> None:
    """Refuse tensors outside the file, wherever in the model they are, sparse ones, and text.

    Loading external ones would read other files. Sparse ones unfold to any size, and text grows outside the memory that
    the runtime is allowed.
    """
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto):
            if message.data_location == onnx.TensorProto.EXTERNAL or message.external_data:
                found = f"tensor {message.name!r} in external data"
                raise refusal("tensor storage", found, "all tensors inside the file")
            if message.data_type == onnx.TensorProto.STRING:
                raise refusal("tensor type", f"text in tensor {message.name!r}", "numbers")
    for message in _messages(model):
        if isinstance(message, onnx.SparseTensorProto):
            raise refusal("tensor storage", f"sparse tensor {message.values.name!r}", "dense tensors")


def check_versions(model: onnx.ModelProto) -> None:
    """Require a version of the format, and one of the standard's operators, of those that the runtime takes."""
    if model.ir_version not in FORMATS:
        raise refusal("version of the format", str(model.ir_version), f"{FORMATS[0]} to {FORMATS[-1]}")
    versions = [opset.version for opset in model.opset_import]
    if len(versions) != 1 or versions[0] not in OPSETS:
        found = ", ".join(map(str, versions)) or "none"
        raise refusal("operator set", found, f"one version from {OPSETS[0]} to {OPSETS[-1]}")


def check_operators(model: onnx.ModelProto) -> None:
    """Refuse functions, graphs inside operators, and operators that are random or made for sequences or text."""
    if model.functions:
        raise refusal("functions of the model's own", repr(model.functions[0].name), "none: export them inlined")
    version = model.opset_import[0].version
    numbers = _single_numbers(model.graph)
    for node in model.graph.node:
        if objection := _objection(node, version, numbers):
            rule = f"operator {node.op_type!r} of node {node.name!r}"
            raise refusal(
                shortened(rule), objection, "arithmetic on dense tensors of numbers, without branches or loops"
            )


def check_signature(model: onnx.ModelProto, n_features: int) -> None:
    """Require one input `features` float32 (batch, n_features) and one output `anomaly_score` float32 (batch,)."""
    inputs, outputs = ([_signature(value) for value in values] for values in (model.graph.input, model.graph.output))
    for rule, found, expected in (
        ("input", inputs, f"{INPUT_NAME}: float32 (batch, {n_features})"),
        ("output", outputs, f"{OUTPUT_NAME}: float32 (batch)"),
    ):
        if found != [expected]:
            remedy = f"{EXPORT_AGAIN}; the metadata names {n_features} features"
            raise refusal(f"graph {rule}", "; ".join(found) or "none", expected, remedy)


def _objection(node: onnx.NodeProto, version: int, numbers: set[str]) -> str | None:
    """Say what is wrong with an operator, or None; `numbers` are the constants of one number."""
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        return "a graph inside"
    # The two other ways to make text: Constant's `value_string` and `value_strings`, and Cast's `to`.
    makes_text = node.op_type == "Constant" and any(a.name.startswith("value_string") for a in node.attribute)
    if makes_text or (node.op_type == "Cast" and any(a.i == onnx.TensorProto.STRING for a in node.attribute)):
        return "text"
    if not onnx.defs.has(node.op_type):
        return "nothing of this name"
    if node.op_type not in UNBOUNDED:
        for attribute in node.attribute:
            if any(abs(integer) > MAX_INTEGER for integer in (attribute.i, *attribute.ints)):
                return f"{attribute.name} beyond {MAX_INTEGER}"
            if attribute.name == "batch_dims" and attribute.i < 0:
                return "batch_dims below 0"  # the runtime reads before the beginning of its shape
    if node.op_type == "OneHot" and not numbers.issuperset(node.input[1:2]):
        return "a depth that is not one number"  # the runtime's inference reads the first of none
    return _objection_to(node.op_type, version)


def _single_numbers(graph: onnx.GraphProto) -> set[str]:
    """Name the constants that hold exactly one number."""
    constants = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            constants += [(node.output[0], attribute.t) for attribute in node.attribute if attribute.HasField("t")]
    return {name for name, tensor in constants if all(dim == 1 for dim in tensor.dims)}


@cache
def _objection_to(op_type: str, version: int) -> str | None:
    try:
        schema = onnx.defs.get_schema(op_type, version)
    except onnx.defs.SchemaError:
        return f"nothing of this name in operator set {version}"
    determinism = schema.node_determinism  # type: ignore[attr-defined]  # missing in onnx's stubs
    if determinism == onnx.defs.OpSchema.NodeDeterminism.NonDeterministic:
        return "chance"
    for parameter in (*schema.inputs, *schema.outputs):
        if not any(kind.startswith("tensor(") and kind != "tensor(string)" for kind in parameter.types):
            return "sequences, or text"
    return None


def _messages(message: Message) -> Iterator[Message]:
    """Walk every message inside `message`: no tensor or node escapes, whatever subgraph or function holds it."""
    waiting = [message]
    while waiting:
        message = waiting.pop()
        yield message
        for descriptor, value in message.ListFields():
            if descriptor.message_type is not None:
                waiting.extend(value if descriptor.is_repeated else (value,))


def _texts(model: onnx.ModelProto) -> Iterator[str | bytes]:
    """Walk every text in the model; the parser lets those that are no UTF-8 pass, and gives them as bytes."""
    for message in _messages(model):
        for descriptor, value in message.ListFields():
            if descriptor.type == FieldDescriptor.TYPE_STRING:
                yield from value if descriptor.is_repeated else (value,)


def _check_fields(file: bytes) -> None:
    """Refuse a file of more than MAX_FIELDS fields, counted without building any of them."""
    fields = 0
    regions: list[tuple[int, int, Descriptor]] = [(0, len(file), onnx.ModelProto.DESCRIPTOR)]
    while regions:
        place, end, message = regions.pop()
        messages, numbers = _delimited(message)
        while place < end:
            tag, place = _varint(file, place, end)
            wire, length = tag & 7, 0
            if wire == _VARINT:
                _, place = _varint(file, place, end)
            elif wire == _DELIMITED:
                length, place = _varint(file, place, end)
                if tag >> 3 in messages:
                    regions.append((place, min(place + length, end), messages[tag >> 3]))
                elif tag >> 3 in numbers:
                    fields += length  # a byte each at the least, and eight when parsed
            elif wire in _FIXED:
                length = _FIXED[wire]
            else:
                raise refusal("format", "bytes that are no ONNX model", "an exported .onnx file")
            place += length
            fields += 1
            if fields > MAX_FIELDS:
                expected = f"at most {MAX_FIELDS:,}, with large tensors as raw data"
                raise refusal("size of the graph", f"more than {MAX_FIELDS:,} fields", expected)


@cache
def _delimited(message: Descriptor) -> tuple[dict[int, Descriptor], frozenset[int]]:
    """Give the fields of `message` that are messages, and those that may be packed integers, by their numbers."""
    children = {field.number: field.message_type for field in message.fields if field.message_type is not None}
    unpacked = {
        FieldDescriptor.CPPTYPE_STRING,
        FieldDescriptor.CPPTYPE_MESSAGE,
        FieldDescriptor.CPPTYPE_FLOAT,
        FieldDescriptor.CPPTYPE_DOUBLE,
    }
    return children, frozenset(field.number for field in message.fields if field.cpp_type not in unpacked)


def _varint(file: bytes, place: int, end: int) -> tuple[int, int]:
    """Read a variable-length integer, and give it and the place behind it."""
    value = shift = 0
    while place < end and shift < 70:
        byte = file[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
    raise refusal("format", "bytes that are no ONNX model", "an exported .onnx file")


def _signature(value: onnx.ValueInfoProto) -> str:
    """Write an input or output as `name: type (dimensions)`; a symbolic first dimension is called batch."""
    if value.type.WhichOneof("value") != "tensor_type":
        return f"{value.name}: not a tensor"
    tensor = value.type.tensor_type
    dims = [str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]
    if dims and not tensor.shape.dim[0].HasField("dim_value"):
        dims[0] = "batch"
    known = tensor.elem_type in onnx.TensorProto.DataType.values() and tensor.elem_type
    element = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if known else f"type {tensor.elem_type}"
    return f"{value.name}: {element} ({', '.join(dims)})"

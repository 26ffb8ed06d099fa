"""The graph inside the file, and the rules for graphs that the service runs."""

from collections.abc import Iterator
from functools import lru_cache

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

INPUT_NAME = "features"
OUTPUT_NAME = "anomaly_score"

NETWORK_SCORE_NAME = "network_score"
"""An optional value inside the graph: the score without the check of the training's range."""

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
EXPORT_AGAIN = "export the model again with `python -m training export`"

# The versions of the operator set and of the file format (ir_version) that the runtime supports. Before version 4 of
# the format, constants were inputs.
OPSETS = range(7, 27)
FORMATS = range(4, 14)

# A parsed field takes up to a hundred times its bytes in the file, and the runtime parses the file once more. A graph
# of a hundred operators has about a thousand fields, however large its tensors are.
MAX_FIELDS = 250_000
FLOATS = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})

# On integers far beyond any axis, size or count the runtime divides by zero (`blocksize` of DepthToSpace), aborts
# (`batch_dims` of GatherND) or never returns (`num_outputs` of Split). Bounds of Slice and constants may be that large.
MAX_INTEGER = 2**20
UNBOUNDED = frozenset({"Constant", "Slice"})

# Maximum length of a quotation from a file in a message.
SHOWN_CHARACTERS = 300


class ArtefactError(Exception):
    """The file is not a usable artefact; the message names the rule that failed and the remedy."""


def refusal(rule: str, found: str, expected: str, remedy: str = EXPORT_AGAIN) -> ArtefactError:
    """Make the error for a broken rule, from what was found and what was expected."""
    return ArtefactError(f"{rule}: found {shortened(found)}, expected {expected}; {remedy}")


def shortened(text: str) -> str:
    """Cut text from a file to a length that fits a log line."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def parse_model(file: bytes) -> onnx.ModelProto:
    """Parse the ONNX model in `file`; raises ArtefactError for other bytes and for more than MAX_FIELDS fields."""
    try:
        model = onnx.load_model_from_string(file)
    except DecodeError as error:
        raise refusal("format", "bytes that are no ONNX model", "an exported .onnx file") from error
    # Protobuf parses an empty file, and many a short one, as a model without content.
    if not model.ir_version or not model.graph.node:
        raise refusal("format", "a model without a graph", "an exported .onnx file")
    for _ in _messages(model):  # checks the fields
        pass
    return model


def of_network(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return the model with NETWORK_SCORE_NAME as its output; None where the graph has no such value."""
    if not any(NETWORK_SCORE_NAME in node.output for node in model.graph.node):
        return None
    renamed = {OUTPUT_NAME: "score_with_range", NETWORK_SCORE_NAME: OUTPUT_NAME}
    network = onnx.ModelProto()
    network.CopyFrom(model)
    for node in network.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    del network.graph.value_info[:]  # shapes of values by their old names
    return network


def check_graph(model: onnx.ModelProto) -> None:
    """Refuse a graph that could do more than arithmetic on its input events.

    The rule: operators of the ONNX standard, in one version of it; every operator is deterministic, with dense numeric
    tensors as inputs and outputs and no graph of its own; all constants are in the file. Such a graph cannot read a
    file, run foreign code, loop, or allocate beyond the runtime's memory limit (`service.model.scorer`). A torch module
    exported in evaluation mode needs nothing else, unless it branches or loops on its data (`torch.cond`).
    """
    check_contents(model)
    check_versions(model)
    check_operators(model)


def check_contents(model: onnx.ModelProto) -> None:
    """Refuse custom operator domains, and tensors that are text, sparse or outside the file, anywhere in the model.

    Custom operators are foreign code, external tensors would read other files, sparse tensors unfold to any size, and
    text is allocated outside the runtime's memory limit.
    """
    for message in _messages(model):
        match message:
            case onnx.NodeProto() | onnx.OperatorSetIdProto() | onnx.FunctionProto():
                if message.domain not in STANDARD_DOMAINS:
                    raise refusal("operator domain", repr(message.domain), 'the standard one ("")')
            case onnx.SparseTensorProto():
                raise refusal("tensor storage", f"sparse tensor {message.values.name!r}", "dense tensors")
            case onnx.TensorProto():
                if message.data_location == onnx.TensorProto.EXTERNAL or message.external_data:
                    found = f"tensor {message.name!r} in external data"
                    raise refusal("tensor storage", found, "all tensors inside the file")
                if message.data_type == onnx.TensorProto.STRING:
                    raise refusal("tensor type", f"text in tensor {message.name!r}", "numbers")


def check_versions(model: onnx.ModelProto) -> None:
    """Require one operator set, and versions of it and of the file format that the runtime supports."""
    if model.ir_version not in FORMATS:
        raise refusal("version of the format", str(model.ir_version), f"{FORMATS[0]} to {FORMATS[-1]}")
    versions = [opset.version for opset in model.opset_import]
    if len(versions) != 1 or versions[0] not in OPSETS:
        found = ", ".join(map(str, versions)) or "none"
        raise refusal("operator set", found, f"one version from {OPSETS[0]} to {OPSETS[-1]}")


def check_operators(model: onnx.ModelProto) -> None:
    """Refuse local functions, graphs inside operators, and operators that are random or on sequences or text."""
    if model.functions:
        raise refusal("local functions", repr(model.functions[0].name), "none: export them inlined")
    version = model.opset_import[0].version
    scalars = _scalar_constants(model.graph)
    for node in model.graph.node:
        if found := _unsupported(node, version, scalars):
            rule = shortened(f"operator {node.op_type!r} of node {node.name!r}")
            raise refusal(rule, found, "arithmetic on dense tensors of numbers, without branches or loops")


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


def _unsupported(node: onnx.NodeProto, version: int, scalars: set[str]) -> str | None:
    """Name the unsupported part of an operator, None for a supported one; `scalars` are constants of one number."""
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        return "a graph inside"
    # Tensors apart, text comes from Constant's `value_string` and `value_strings` and from Cast's `to`.
    makes_text = node.op_type == "Constant" and any(a.name.startswith("value_string") for a in node.attribute)
    if makes_text or (node.op_type == "Cast" and any(a.i == onnx.TensorProto.STRING for a in node.attribute)):
        return "text"
    if node.op_type not in UNBOUNDED:
        for attribute in node.attribute:
            if any(abs(integer) > MAX_INTEGER for integer in (attribute.i, *attribute.ints)):
                return f"{attribute.name} beyond {MAX_INTEGER}"
            if attribute.name == "batch_dims" and attribute.i < 0:
                return "batch_dims below 0"  # the runtime would read before the start of its shape
    if node.op_type == "OneHot" and not scalars.issuperset(node.input[1:2]):
        return "a depth that is not one number"  # the runtime's shape inference reads the first number unchecked
    return _unsupported_operator(node.op_type, version)


def _scalar_constants(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the constants with exactly one number."""
    constants = [(tensor.name, tensor) for tensor in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            constants += [(node.output[0], attribute.t) for attribute in node.attribute if attribute.HasField("t")]
    return {name for name, tensor in constants if all(dim == 1 for dim in tensor.dims)}


@lru_cache(maxsize=1024)
def _unsupported_operator(op_type: str, version: int) -> str | None:
    try:
        schema = onnx.defs.get_schema(op_type, version)
    except onnx.defs.SchemaError:
        return f"no operator of this name in operator set {version}"
    determinism = schema.node_determinism  # type: ignore[attr-defined]  # missing in onnx's stubs
    if determinism == onnx.defs.OpSchema.NodeDeterminism.NonDeterministic:
        return "random numbers"
    for parameter in (*schema.inputs, *schema.outputs):
        if not any(kind.startswith("tensor(") and kind != "tensor(string)" for kind in parameter.types):
            return "sequences, or text"
    return None


def _messages(model: onnx.ModelProto) -> Iterator[Message]:
    """Walk every message of the model: none is missed, whatever subgraph or function holds it.

    Raises ArtefactError for more than MAX_FIELDS fields and for text that is not UTF-8.
    """
    pending: list[Message] = [model]
    n_fields = 0
    while pending:
        message = pending.pop()
        yield message
        for descriptor, value in message.ListFields():
            values = value if descriptor.is_repeated else (value,)
            if descriptor.cpp_type not in FLOATS:  # these take no more memory than their bytes in the file
                n_fields += len(values)
            if n_fields > MAX_FIELDS:
                expected = f"at most {MAX_FIELDS:,}, with large tensors as raw data"
                raise refusal("size of the graph", f"more than {MAX_FIELDS:,} fields", expected)
            if descriptor.message_type is not None:
                pending.extend(values)
            elif descriptor.type == FieldDescriptor.TYPE_STRING and any(isinstance(text, bytes) for text in values):
                raise refusal("format", "text that is not UTF-8", "an exported .onnx file")


def _signature(value: onnx.ValueInfoProto) -> str:
    """Format an input or output as `name: type (dimensions)`; a symbolic first dimension is called batch."""
    if value.type.WhichOneof("value") != "tensor_type":
        return f"{value.name}: not a tensor"
    tensor = value.type.tensor_type
    dims = [str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]
    if dims and not tensor.shape.dim[0].HasField("dim_value"):
        dims[0] = "batch"
    known = tensor.elem_type in onnx.TensorProto.DataType.values() and tensor.elem_type
    element = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if known else f"type {tensor.elem_type}"
    return f"{value.name}: {element} ({', '.join(dims)})"

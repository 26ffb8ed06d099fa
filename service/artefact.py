"""The exported file: one self-describing ONNX graph, its metadata, and the checks that it must pass before it is used.

It does not know how the graph is run, how it was trained, or that HTTP exists.
"""

import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

SCHEMA_VERSION = 1
INPUT_NAME = "features"
OUTPUT_NAME = "anomaly_score"

# Processors sum a float32 dot product in different orders and approximate exp and log differently: scores of one graph
# agree to a few parts in 1e6. A wrong constant, operator or runtime moves them by far more than these.
GOLDEN_RTOL = 1e-4
GOLDEN_ATOL = 1e-6

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
EXPORT_AGAIN = "export the model again with `python -m training export`"


class ArtefactError(Exception):
    """The file is no artefact that this service may use; the message says which rule failed and what to do."""


class WorkingPoint(msgspec.Struct, frozen=True):
    """A named threshold on the anomaly score, with the background efficiency that it was calibrated to."""

    name: str
    background_efficiency: float
    threshold: float
    threshold_uncertainty: float
    calibration_events: int
    calibration_sha256: str

    def accepts(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Tell which of `scores` (n,) lie above the threshold, as (n,) booleans.

        The comparison is made in float64, as a client makes it with the score and the threshold that it was sent.
        """
        return scores.astype(np.float64) > self.threshold


class Scaler(msgspec.Struct, frozen=True):
    """The constants that standardise the mapped features, for people to read: the graph already holds them."""

    names: list[str]
    mean: list[float]
    scale: list[float]


class GoldenPairs(msgspec.Struct, frozen=True):
    """Events and the anomaly scores that the trained model gave them."""

    features: list[list[float]]
    anomaly_scores: list[float]


class Metadata(msgspec.Struct, frozen=True):
    """All that a user of the graph has to know; stored inside the file."""

    schema_version: int
    model_name: str
    model_version: str
    feature_names: list[str]
    feature_units: list[str]
    scaler: Scaler
    working_points: list[WorkingPoint]
    training: dict[str, Any]
    data_sha256: str
    code_version: str
    golden: GoldenPairs

    def to_props(self) -> dict[str, str]:
        """Give one `metadata_props` entry for each field, its value as JSON."""
        return {name: msgspec.json.encode(getattr(self, name)).decode() for name in self.__struct_fields__}

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> Self:
        """Read the metadata back from `metadata_props`.

        Raises ArtefactError for another schema version, missing keys, and values of a wrong type.
        """
        found = props.get("schema_version")
        if found is not None and found != str(SCHEMA_VERSION):
            raise _refusal("metadata schema version", found, str(SCHEMA_VERSION), "use a service of the file's version")
        missing = [name for name in cls.__struct_fields__ if name not in props]
        if missing:
            raise _refusal("metadata keys", f"none named {', '.join(missing)}", "every field", EXPORT_AGAIN)
        return cls(**{field.name: _read_prop(field, props) for field in msgspec.structs.fields(cls)})


class Artefact(msgspec.Struct, frozen=True):
    """A verified file: one versioned unit with everything needed to score."""

    graph: bytes
    """The serialised ONNX model."""
    metadata: Metadata
    sha256: str

    @property
    def identity(self) -> str:
        """The model's name and the first 12 digits of the file's hash."""
        return f"{self.metadata.model_name}@{self.sha256[:12]}"

    @property
    def n_features(self) -> int:
        """The number of features of an event."""
        return len(self.metadata.feature_names)


def load_artefact(path: str | os.PathLike[str]) -> Artefact:
    """Read and verify the artefact at `path`.

    Raises ArtefactError, which names the file, the rule that failed, the value found, the expected one and the remedy.
    """
    try:
        graph = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ArtefactError(
            f"cannot read the artefact {os.fspath(path)!r}: {reason}; give the path of an exported .onnx file"
        ) from error
    try:
        return parse_artefact(graph)
    except ArtefactError as error:
        raise ArtefactError(f"{os.fspath(path)!r} is not a usable artefact: {error}") from error


def parse_artefact(graph: bytes) -> Artefact:
    """Verify the serialised ONNX model `graph`, touching no other file.

    Raises ArtefactError as `load_artefact` does, without the name of the file.
    """
    model = _parse(graph)
    check_domains(model)
    check_data(model)
    metadata = Metadata.from_props({prop.key: prop.value for prop in model.metadata_props})
    check_name(metadata)
    check_features(metadata)
    check_signature(model, len(metadata.feature_names))
    check_golden(metadata)
    check_working_points(metadata)
    return Artefact(graph=graph, metadata=metadata, sha256=hashlib.sha256(graph).hexdigest())


def with_metadata(model: onnx.ModelProto, metadata: Metadata) -> Artefact:
    """Give `model` this metadata and no other, and verify it as `load_artefact` does: its bytes are a file to write.

    Raises ArtefactError. The same model and metadata give the same bytes, and so the same identity.
    """
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata.to_props())
    return parse_artefact(model.SerializeToString(deterministic=True))


def check_domains(model: onnx.ModelProto) -> None:
    """Refuse operators outside the ONNX standard: they are code of somebody else's."""
    for message in _messages(model):
        named = isinstance(message, onnx.NodeProto | onnx.OperatorSetIdProto | onnx.FunctionProto)
        if named and message.domain not in STANDARD_DOMAINS:
            raise _refusal("operator domain", repr(message.domain), 'the standard one ("")', EXPORT_AGAIN)


def check_data(model: onnx.ModelProto) -> None:
    """Refuse tensors stored outside the file, wherever in the model they are: loading them would read other files."""
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto) and (
            message.data_location == onnx.TensorProto.EXTERNAL or message.external_data
        ):
            found = f"tensor {message.name!r} in external data"
            raise _refusal("tensor storage", found, "all tensors inside the file", EXPORT_AGAIN)


def check_name(metadata: Metadata) -> None:
    """Require a model name that can stand in an HTTP header."""
    if not re.fullmatch("[!-~]+", metadata.model_name):
        expected = "visible ASCII characters without spaces"
        raise _refusal("model name", repr(metadata.model_name), expected, EXPORT_AGAIN)


def check_features(metadata: Metadata) -> None:
    """Require a unit for each feature name, and a mean and a scale for each name in the scaler."""
    names, units, scaler = metadata.feature_names, metadata.feature_units, metadata.scaler
    if not names:
        raise _refusal("feature names", "none", "at least one", EXPORT_AGAIN)
    if len(units) != len(names):
        raise _refusal("feature units", str(len(units)), f"{len(names)}, one for each name", EXPORT_AGAIN)
    if not len(scaler.names) == len(scaler.mean) == len(scaler.scale):
        found = f"{len(scaler.names)} names, {len(scaler.mean)} means, {len(scaler.scale)} scales"
        raise _refusal("scaler", found, "as many of each", EXPORT_AGAIN)


def check_golden(metadata: Metadata) -> None:
    """Require at least one golden pair, each of n finite features and one finite score."""
    n, golden = len(metadata.feature_names), metadata.golden
    if not golden.features:
        raise _refusal("golden pairs", "none", "at least one", EXPORT_AGAIN)
    if len(golden.features) != len(golden.anomaly_scores):
        found = f"{len(golden.features)} events and {len(golden.anomaly_scores)} scores"
        raise _refusal("golden pairs", found, "one score for each event", EXPORT_AGAIN)
    for place, (event, score) in enumerate(zip(golden.features, golden.anomaly_scores, strict=True)):
        if len(event) != n:
            raise _refusal(f"golden pair {place}", f"{len(event)} features", f"{n}", EXPORT_AGAIN)
        if not all(map(math.isfinite, (*event, score))):
            raise _refusal(f"golden pair {place}", "a number that is not finite", "finite numbers", EXPORT_AGAIN)


def check_working_points(metadata: Metadata) -> None:
    """Require different names and finite thresholds."""
    names = [point.name for point in metadata.working_points]
    for point in metadata.working_points:
        if names.count(point.name) > 1:
            raise _refusal("working points", f"more than one named {point.name!r}", "different names", EXPORT_AGAIN)
        if not math.isfinite(point.threshold):
            rule = f"threshold of working point {point.name!r}"
            raise _refusal(rule, str(point.threshold), "a finite number", EXPORT_AGAIN)


def check_signature(model: onnx.ModelProto, n_features: int) -> None:
    """Require one input `features` float32 (batch, n_features) and one output `anomaly_score` float32 (batch,)."""
    inputs, outputs = ([_signature(value) for value in values] for values in (model.graph.input, model.graph.output))
    for rule, found, expected in (
        ("input", inputs, f"{INPUT_NAME}: float32 (batch, {n_features})"),
        ("output", outputs, f"{OUTPUT_NAME}: float32 (batch)"),
    ):
        if found != [expected]:
            remedy = f"{EXPORT_AGAIN}; the metadata names {n_features} features"
            raise _refusal(f"graph {rule}", "; ".join(found) or "none", expected, remedy)


def _refusal(rule: str, found: str, expected: str, remedy: str) -> ArtefactError:
    return ArtefactError(f"{rule}: found {found}, expected {expected}; {remedy}")


def _parse(graph: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(graph)
    except DecodeError as error:
        raise _refusal("format", "bytes that are no ONNX model", "an exported .onnx file", EXPORT_AGAIN) from error
    # Protobuf takes an empty file, and many a short one, for a model without content.
    if not model.ir_version or not model.graph.node:
        raise _refusal("format", "a model without a graph", "an exported .onnx file", EXPORT_AGAIN)
    return model


def _read_prop(field: msgspec.structs.FieldInfo, props: Mapping[str, str]) -> Any:
    try:
        return msgspec.json.decode(props[field.name], type=field.type)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"metadata key {field.name!r}: {error}; {EXPORT_AGAIN}") from error


def _messages(message: Message) -> Iterator[Message]:
    """Walk every message inside `message`: no tensor or node escapes, whatever subgraph or function holds it."""
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for child in value if descriptor.is_repeated else (value,):
                yield from _messages(child)


def _signature(value: onnx.ValueInfoProto) -> str:
    """Write an input or output as `name: type (dimensions)`; a symbolic first dimension is called batch."""
    if value.type.WhichOneof("value") != "tensor_type":
        return f"{value.name}: not a tensor"
    tensor = value.type.tensor_type
    dims = [str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]
    if dims and not tensor.shape.dim[0].HasField("dim_value"):
        dims[0] = "batch"
    element = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else "untyped"
    return f"{value.name}: {element} ({', '.join(dims)})"

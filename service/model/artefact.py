"""The exported file: one self-describing ONNX graph, its metadata, and the checks that it must pass before it is used.

It does not know how the graph is run, how it was trained, or that HTTP exists.
"""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from typing import Any, Self

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from service.model.graph import EXPORT_AGAIN, check_graph, check_signature, parse_model, refusal, shortened
from service.model.graph import INPUT_NAME as INPUT_NAME
from service.model.graph import OUTPUT_NAME as OUTPUT_NAME
from service.model.graph import ArtefactError as ArtefactError

SCHEMA_VERSION = 1

# Processors sum a float32 dot product in different orders and approximate exp and log differently: scores of one graph
# agree to a few parts in 1e6. A wrong constant, operator or runtime moves them by far more than these.
GOLDEN_RTOL = 1e-4
GOLDEN_ATOL = 1e-6

MAX_BYTES = 256 * 2**20
"""Largest file that is read, unless told otherwise."""

# A hundred times what any model has had to say, and so little that no list of it can fill the memory.
MAX_METADATA_BYTES = 4 * 2**20
MAX_FEATURES = 10_000
MAX_WORKING_POINTS = 1_000
MAX_GOLDEN_PAIRS = 10_000
MAX_NAME_CHARACTERS = 100
MAX_DEPTH = 32

SEAL = "content_sha256"
"""Metadata key of the file's own SHA-256, taken with zeros in the digest's place; files of older exports have none."""
_UNSEALED = "0" * 64


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
            raise refusal("metadata schema version", found, str(SCHEMA_VERSION), "use a service of the file's version")
        missing = [name for name in cls.__struct_fields__ if name not in props]
        if missing:
            raise refusal("metadata keys", f"none named {', '.join(missing)}", "every field")
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


def load_artefact(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, sha256: str | None = None) -> Artefact:
    """Read and verify the artefact at `path`, of at most `max_bytes` and, where one is given, of this `sha256`.

    Raises ArtefactError, which names the file, the rule that failed, the value found, the expected one and the remedy.
    """
    try:
        file = _read(path, max_bytes)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ArtefactError(
            f"cannot read the artefact {os.fspath(path)!r}: {reason}; give the path of an exported .onnx file"
        ) from error
    try:
        if sha256 is not None and (found := hashlib.sha256(file).hexdigest()) != sha256:
            raise refusal(
                "SHA-256 of the file", found, sha256, "give the file of this digest, or the digest of this file"
            )
        return parse_artefact(file)
    except ArtefactError as error:
        raise ArtefactError(f"{os.fspath(path)!r} is not a usable artefact: {error}") from error


def parse_artefact(graph: bytes) -> Artefact:
    """Verify the serialised ONNX model `graph`, touching no other file.

    Raises ArtefactError as `load_artefact` does, without the name of the file.
    """
    model = parse_model(graph)
    props = _read_props(model)
    check_seal(graph, props)
    check_graph(model)
    metadata = Metadata.from_props(props)
    check_name(metadata)
    check_features(metadata)
    check_signature(model, len(metadata.feature_names))
    check_golden(metadata)
    check_working_points(metadata)
    check_texts(metadata)
    check_training(metadata)
    return Artefact(graph=graph, metadata=metadata, sha256=hashlib.sha256(graph).hexdigest())


def with_metadata(model: onnx.ModelProto, metadata: Metadata) -> Artefact:
    """Give `model` this metadata and no other, seal it, and verify it as `load_artefact` does: its bytes are a file.

    Raises ArtefactError. The same model and metadata give the same bytes, and so the same identity.
    """
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**metadata.to_props(), SEAL: f'"{_UNSEALED}"'})
    unsealed = model.SerializeToString(deterministic=True)
    seal = hashlib.sha256(unsealed).hexdigest()
    before, key, after = unsealed.rpartition(SEAL.encode())
    return parse_artefact(before + key + after.replace(_UNSEALED.encode(), seal.encode(), 1))


def check_seal(file: bytes, props: Mapping[str, str]) -> None:
    """Require that a file that holds its own digest is what was exported, to the last bit."""
    if SEAL not in props:
        return
    seal = props[SEAL].strip('"')
    if not re.fullmatch("[0-9a-f]{64}", seal):
        raise refusal("seal of the file", repr(seal), "a SHA-256 digest")
    found = hashlib.sha256(file.replace(seal.encode(), _UNSEALED.encode())).hexdigest()
    if found != seal:
        raise refusal("seal of the file", found, f"{seal}, its digest when exported", "it is damaged: copy it again")


def check_name(metadata: Metadata) -> None:
    """Require a model name that can stand in an HTTP header."""
    if not re.fullmatch(f"[!-~]{{1,{MAX_NAME_CHARACTERS}}}", metadata.model_name):
        expected = f"1 to {MAX_NAME_CHARACTERS} visible ASCII characters without spaces"
        raise refusal("model name", repr(metadata.model_name), expected)


def check_features(metadata: Metadata) -> None:
    """Require a unit for each feature name, and a mean and a scale for each name in the scaler."""
    names, units, scaler = metadata.feature_names, metadata.feature_units, metadata.scaler
    if not names:
        raise refusal("feature names", "none", "at least one")
    if len(names) > MAX_FEATURES:
        raise refusal("feature names", str(len(names)), f"at most {MAX_FEATURES}")
    if len(units) != len(names):
        raise refusal("feature units", str(len(units)), f"{len(names)}, one for each name")
    if not len(scaler.names) == len(scaler.mean) == len(scaler.scale):
        found = f"{len(scaler.names)} names, {len(scaler.mean)} means, {len(scaler.scale)} scales"
        raise refusal("scaler", found, "as many of each")


def check_golden(metadata: Metadata) -> None:
    """Require at least one golden pair, each of n finite features and one finite score."""
    n, golden, largest = len(metadata.feature_names), metadata.golden, float(np.finfo(np.float32).max)
    if not golden.features:
        raise refusal("golden pairs", "none", "at least one")
    if len(golden.features) > MAX_GOLDEN_PAIRS:
        raise refusal("golden pairs", str(len(golden.features)), f"at most {MAX_GOLDEN_PAIRS}")
    if len(golden.features) != len(golden.anomaly_scores):
        found = f"{len(golden.features)} events and {len(golden.anomaly_scores)} scores"
        raise refusal("golden pairs", found, "one score for each event")
    for place, (event, score) in enumerate(zip(golden.features, golden.anomaly_scores, strict=True)):
        if len(event) != n:
            raise refusal(f"golden pair {place}", f"{len(event)} features", f"{n}")
        for number in (*event, score):
            if not abs(number) <= largest:
                raise refusal(f"golden pair {place}", str(number), "finite float32 numbers")


def check_working_points(metadata: Metadata) -> None:
    """Require different names; that thresholds are finite is in the JSON, which knows no other numbers."""
    names = [point.name for point in metadata.working_points]
    if len(names) > MAX_WORKING_POINTS:
        raise refusal("working points", str(len(names)), f"at most {MAX_WORKING_POINTS}")
    for name in names:
        if not name:
            raise refusal("working points", "one without a name", "a name for each")
        if names.count(name) > 1:
            raise refusal("working points", f"more than one named {name!r}", "different names")


def check_texts(metadata: Metadata) -> None:
    """Require short printable texts: they go into logs, metrics and replies, where a line break would forge a line."""
    texts = {
        "model version": [metadata.model_version],
        "feature name": metadata.feature_names,
        "feature unit": metadata.feature_units,
        "scaler name": metadata.scaler.names,
        "working point": [point.name for point in metadata.working_points],
        "calibration digest": [point.calibration_sha256 for point in metadata.working_points],
        "data digest": [metadata.data_sha256],
        "code version": [metadata.code_version],
    }
    for rule, values in texts.items():
        for text in values:
            if len(text) > MAX_NAME_CHARACTERS or not text.isprintable():
                expected = f"at most {MAX_NAME_CHARACTERS} printable characters"
                raise refusal(rule, repr(text), expected)


def check_training(metadata: Metadata) -> None:
    """Require training facts that can be written as JSON wherever they were read: not too deep in one another."""
    values: list[Any] = [metadata.training]
    for _ in range(MAX_DEPTH):
        parts = [
            value.values() if isinstance(value, dict) else value for value in values if isinstance(value, dict | list)
        ]
        values = [value for part in parts for value in part]
    if values:
        raise refusal("training facts", "lists in lists", f"a depth of at most {MAX_DEPTH}")


def _read(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Read a regular file whole. Raises OSError or ValueError for what is none, is too large, or changes meanwhile."""
    # Without O_NONBLOCK, opening a pipe waits for somebody to write into it.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > max_bytes:
            raise ValueError(f"it has {status.st_size:,} bytes, expected at most {max_bytes:,}")
        content = file.read(status.st_size + 1)
    if len(content) != status.st_size:
        raise ValueError("it changed while it was read, expected a file that is written aside and renamed")
    return content


def _read_props(model: onnx.ModelProto) -> dict[str, str]:
    """Collect the metadata entries, of which there must be one of a name, and together not too much."""
    size = sum(len(prop.key) + len(prop.value) for prop in model.metadata_props)
    if size > MAX_METADATA_BYTES:
        raise refusal("metadata", f"{size:,} characters", f"at most {MAX_METADATA_BYTES:,}")
    props: dict[str, str] = {}
    for prop in model.metadata_props:
        if prop.key in props:
            raise refusal("metadata keys", f"two named {prop.key!r}", "different names")
        props[prop.key] = prop.value
    return props


def _read_prop(field: msgspec.structs.FieldInfo, props: Mapping[str, str]) -> Any:
    try:
        return msgspec.json.decode(props[field.name], type=field.type)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"metadata key {field.name!r}: {shortened(str(error))}; {EXPORT_AGAIN}") from error

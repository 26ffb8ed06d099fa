"""The exported file: one self-describing ONNX graph, its metadata, and the checks that it must pass before use."""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from typing import Annotated, Any, Self

import msgspec
import numpy as np
import onnx
from msgspec import Meta
from numpy.typing import NDArray

from service.model.graph import EXPORT_AGAIN, check_graph, check_signature, parse_model, refusal, shortened
from service.model.graph import INPUT_NAME as INPUT_NAME
from service.model.graph import NETWORK_SCORE_NAME as NETWORK_SCORE_NAME
from service.model.graph import OUTPUT_NAME as OUTPUT_NAME
from service.model.graph import ArtefactError as ArtefactError
from service.model.reference import Reference, check_reference

SCHEMA_VERSION = 1

# Processors sum a float32 dot product in different orders and approximate exp and log differently: scores of one graph
# agree to a few parts in 1e6. A wrong constant, operator or runtime changes them by far more than these.
GOLDEN_RTOL = 1e-4
GOLDEN_ATOL = 1e-6

MAX_BYTES = 256 * 2**20
"""Default limit of a file's size."""

# A hundred times what any model needs, and little enough that no metadata list can fill the memory.
MAX_METADATA_BYTES = 4 * 2**20
MAX_FEATURES = 10_000
MAX_WORKING_POINTS = 1_000
MAX_GOLDEN_PAIRS = 10_000
MAX_NAME_CHARACTERS = 100
MODEL_NAME = re.compile(f"[!-~]{{1,{MAX_NAME_CHARACTERS}}}")  # printable in an HTTP header
MAX_DEPTH = 32

SEAL = "content_sha256"
"""Metadata key of the file's own SHA-256, taken with zeros in the digest's place; files of older exports have none."""
_UNSEALED = "0" * 64
DAMAGED = "it is damaged: copy it again"

_FLOAT32_MAX = float(np.finfo(np.float32).max)
Float32 = Annotated[float, Meta(ge=-_FLOAT32_MAX, le=_FLOAT32_MAX)]


class WorkingPoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """A named threshold on the anomaly score, with the background efficiency that it was calibrated to.

    One that was requested as a rate also has that rate: of `input_rate_hz` events a second, `rate_hz` are kept if one
    in `prescale` of those above the threshold is kept. The program that takes the decision applies the prescale.
    """

    name: Annotated[str, Meta(min_length=1)]
    background_efficiency: float
    threshold: float
    threshold_uncertainty: float
    calibration_events: int
    calibration_sha256: str
    rate_hz: Annotated[float, Meta(gt=0)] | None = None
    input_rate_hz: Annotated[float, Meta(gt=0)] | None = None
    prescale: Annotated[int, Meta(ge=1)] = 1

    @property
    def sent_threshold(self) -> float:
        """The threshold for clients, with which a comparison of float32 or decimal scores agrees with `accepts`.

        It is the larger of the largest float32 that is not above the threshold and of that number's shortest decimal
        representation, since a score that is equal to it may be read as either.
        """
        with np.errstate(over="ignore"):
            largest = np.float32(self.threshold)
        if float(largest) > self.threshold:
            largest = np.nextafter(largest, np.float32(-np.inf))
        return max(float(largest), float(str(largest))) if np.isfinite(largest) else self.threshold

    def accepts(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which of `scores` (n,) are above the threshold, as (n,) booleans."""
        return scores.astype(np.float64) > self.threshold


class Scaler(msgspec.Struct, frozen=True):
    """The constants that standardise the mapped features, for information: the graph contains them too."""

    names: list[str]
    mean: list[float]
    scale: list[float]


class GoldenPairs(msgspec.Struct, frozen=True):
    """Events (n, n_features) and their anomaly scores (n,) by the trained model."""

    features: Annotated[list[list[Float32]], Meta(min_length=1, max_length=MAX_GOLDEN_PAIRS)]
    anomaly_scores: list[Float32]


class Metadata(msgspec.Struct, frozen=True):
    """The metadata that users of the graph need; stored inside the file."""

    schema_version: int
    model_name: str
    model_version: str
    feature_names: Annotated[list[str], Meta(min_length=1, max_length=MAX_FEATURES)]
    feature_units: list[str]
    scaler: Scaler
    working_points: Annotated[list[WorkingPoint], Meta(max_length=MAX_WORKING_POINTS)]
    training: dict[str, Any]
    data_sha256: str
    code_version: str
    golden: GoldenPairs
    reference: Reference | None = None

    def to_props(self) -> dict[str, str]:
        """Write one `metadata_props` entry for each field, its value as JSON; a reference of None is left out."""
        values = msgspec.structs.asdict(self)
        return {name: msgspec.json.encode(value).decode() for name, value in values.items() if value is not None}

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> Self:
        """Read the metadata back from `metadata_props`.

        Raises ArtefactError for another schema version, missing or unknown keys, and values of a wrong type or length.
        """
        found = props.get("schema_version")
        if found is not None and found != str(SCHEMA_VERSION):
            raise refusal("metadata schema version", found, str(SCHEMA_VERSION), "use a service of the file's version")
        missing = [field.name for field in msgspec.structs.fields(cls) if field.required and field.name not in props]
        if missing:
            raise refusal("metadata keys", f"none named {', '.join(missing)}", "every field")
        if unknown := sorted(props.keys() - {*cls.__struct_fields__, SEAL}):  # the seal's own key may be damaged
            raise refusal("metadata keys", repr(unknown[0]), "no others than those of this version")
        found_fields = [field for field in msgspec.structs.fields(cls) if field.name in props]
        return cls(**{field.name: _read_prop(field, props) for field in found_fields})


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
    """Read and verify the artefact at `path`, of at most `max_bytes` and, if given, with this `sha256`.

    Raises ArtefactError, which names the file, the rule that failed, the value found, the expected one and the remedy.
    """
    try:
        file = read_file(path, max_bytes)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ArtefactError(
            f"cannot read the artefact {os.fspath(path)!r}: {reason}; give the path of an exported .onnx file"
        ) from error
    try:
        if sha256 is not None and (found := hashlib.sha256(file).hexdigest()) != sha256:
            raise refusal("SHA-256 of the file", found, sha256, "give the file of this digest, or the file's digest")
        return parse_artefact(file)
    except ArtefactError as error:
        raise ArtefactError(f"{os.fspath(path)!r} is not a usable artefact: {error}") from error


def parse_artefact(graph: bytes) -> Artefact:
    """Verify the serialised ONNX model `graph`, reading no other file.

    Raises ArtefactError as `load_artefact` does, without the name of the file.
    """
    model = parse_model(graph)
    props = _read_props(model)
    check_seal(graph, props)
    check_graph(model)
    metadata = Metadata.from_props(props)
    check_signature(model, len(metadata.feature_names))
    check_lengths(metadata)
    check_names(metadata)
    check_depth(metadata.training)
    if metadata.reference is not None:
        check_reference(metadata.reference, len(metadata.feature_names))
    return Artefact(graph=graph, metadata=metadata, sha256=hashlib.sha256(graph).hexdigest())


def with_metadata(model: onnx.ModelProto, metadata: Metadata) -> Artefact:
    """Replace the metadata of `model`, seal it, and verify it as `load_artefact` does; `graph` is what to write.

    Raises ArtefactError. The same model and metadata give the same bytes, and so the same identity.
    """
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**metadata.to_props(), SEAL: f'"{_UNSEALED}"'})
    unsealed = model.SerializeToString(deterministic=True)
    seal = hashlib.sha256(unsealed).hexdigest()
    before, key, after = unsealed.rpartition(SEAL.encode())
    return parse_artefact(before + key + after.replace(_UNSEALED.encode(), seal.encode(), 1))


def check_seal(file: bytes, props: Mapping[str, str]) -> None:
    """Require that a sealed file, which contains its own digest, is bit for bit the exported file."""
    if SEAL not in props:
        if SEAL.encode() in file:
            raise refusal("seal of the file", "one that is not among the metadata", "it there", DAMAGED)
        return
    seal = props[SEAL].strip('"')
    if not re.fullmatch("[0-9a-f]{64}", seal):
        raise refusal("seal of the file", repr(seal), "a SHA-256 digest")
    found = hashlib.sha256(file.replace(seal.encode(), _UNSEALED.encode())).hexdigest()
    if found != seal:
        raise refusal("seal of the file", found, f"{seal}, its digest when exported", DAMAGED)


def check_lengths(metadata: Metadata) -> None:
    """Require a unit for each feature, a mean and a scale for each scaler name, and whole golden pairs."""
    n_features, scaler, golden = len(metadata.feature_names), metadata.scaler, metadata.golden
    for rule, found, expected in (
        ("feature units", len(metadata.feature_units), n_features),
        ("scaler means", len(scaler.mean), len(scaler.names)),
        ("scaler scales", len(scaler.scale), len(scaler.names)),
        ("golden scores", len(golden.anomaly_scores), len(golden.features)),
        *((f"features of golden pair {place}", len(event), n_features) for place, event in enumerate(golden.features)),
    ):
        if found != expected:
            raise refusal(rule, str(found), str(expected))


def check_names(metadata: Metadata) -> None:
    """Require a model name that fits an HTTP header, different working points, and short printable texts.

    Texts go into logs, metrics and responses, where a line break would forge a line.
    """
    if not MODEL_NAME.fullmatch(metadata.model_name):
        expected = f"1 to {MAX_NAME_CHARACTERS} visible ASCII characters without spaces"
        raise refusal("model name", repr(metadata.model_name), expected)
    points = [point.name for point in metadata.working_points]
    for name in points:
        if points.count(name) > 1:
            raise refusal("working points", f"more than one named {name!r}", "different names")
    for rule, texts in {
        "model version": [metadata.model_version],
        "feature name": metadata.feature_names,
        "feature unit": metadata.feature_units,
        "scaler name": metadata.scaler.names,
        "working point": points,
        "calibration digest": [point.calibration_sha256 for point in metadata.working_points],
        "data digest": [metadata.data_sha256],
        "reference digest": [metadata.reference.sha256] if metadata.reference else [],
        "code version": [metadata.code_version],
    }.items():
        for text in texts:
            if len(text) > MAX_NAME_CHARACTERS or not text.isprintable():
                raise refusal(rule, repr(text), f"at most {MAX_NAME_CHARACTERS} printable characters")


def check_depth(training: dict[str, Any]) -> None:
    """Require training facts of limited nesting, which can be written as JSON at any depth of the stack."""
    values: list[Any] = [training]
    for _ in range(MAX_DEPTH):
        parts = [value.values() if isinstance(value, dict) else value for value in values]
        values = [value for part in parts for value in part if isinstance(value, dict | list)]
    if values:
        raise refusal("training facts", "lists in lists", f"a depth of at most {MAX_DEPTH}")


def read_file(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Read a regular file; raises OSError or ValueError for other kinds, for a large one, and for one that changes."""
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
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
    """Read the metadata entries, which must have different keys and a limited total size."""
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
        found, reason = shortened(repr(props[field.name])), shortened(str(error))
        raise ArtefactError(f"metadata key {field.name!r}: found {found}: {reason}; {EXPORT_AGAIN}") from error

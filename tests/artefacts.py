"""Small real artefacts for tests: a graph with a simple score, and ways to break it.

The score is the mean over features of ((x - mean) / scale) squared.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.model.artefact import INPUT_NAME, OUTPUT_NAME, SCHEMA_VERSION, GoldenPairs, Metadata, Scaler, WorkingPoint

N_FEATURES = 5
RTOL = 1e-5
"""Agreement of float32 scores with the float64 oracle."""


def feature_names(n_features: int) -> list[str]:
    """Name n features."""
    return [f"feature{column}" for column in range(n_features)]


def constants(n_features: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the scale of each feature, exact in float32."""
    columns = np.arange(n_features, dtype=np.float64)
    return 10.0 * columns - 3.0, 0.5 + columns


def oracle(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Score `features` (n, n_features) one number at a time, in float64, as (n,)."""
    means, scales = constants(features.shape[1])
    scores = []
    for event in features:
        total = 0.0
        for value, mean, scale in zip(event, means, scales, strict=True):
            total += ((float(value) - mean) / scale) ** 2
        scores.append(total / len(event))
    return np.array(scores)


def sample_events(n_events: int, n_features: int = N_FEATURES, seed: int = 0) -> NDArray[np.float32]:
    """Draw events (n, n_features) around the means."""
    means, scales = constants(n_features)
    normal = np.random.default_rng(seed).normal(size=(n_events, n_features))
    return (means + 2.0 * scales * normal).astype(np.float32)


def metadata(n_features: int = N_FEATURES, names: Sequence[str] | None = None) -> Metadata:
    """Describe the model, with golden pairs from the oracle."""
    names = list(names or feature_names(n_features))
    means, scales = constants(len(names))
    golden = sample_events(3, len(names), seed=1)
    return Metadata(
        schema_version=SCHEMA_VERSION,
        model_name="sphere",
        model_version="1.2.3",
        feature_names=names,
        feature_units=["GeV"] * len(names),
        scaler=Scaler(names=names, mean=means.tolist(), scale=scales.tolist()),
        working_points=[
            WorkingPoint("loose", 0.1, 2.0, 0.05, 10_000, "c" * 64),
            WorkingPoint("tight", 0.001, 8.0, 0.5, 10_000, "c" * 64),
        ],
        training={"epochs": 3, "seed": 7},
        data_sha256=hashlib.sha256(b"events").hexdigest(),
        code_version="0.1.0",
        golden=GoldenPairs(features=golden.astype(float).tolist(), anomaly_scores=oracle(golden).tolist()),
    )


def model(description: Metadata | None = None) -> onnx.ModelProto:
    """Build the graph and put its description inside."""
    description = description or metadata()
    n_features = len(description.feature_names)
    means, scales = constants(n_features)
    graph = helper.make_graph(
        [
            helper.make_node("Sub", [INPUT_NAME, "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "scale"], ["scaled"]),
            helper.make_node("Mul", ["scaled", "scaled"], ["squared"]),
            helper.make_node("ReduceMean", ["squared", "axes"], [OUTPUT_NAME], keepdims=0),
        ],
        "sphere",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["batch", n_features])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch"])],
        [
            numpy_helper.from_array(means.astype(np.float32), "mean"),
            numpy_helper.from_array(scales.astype(np.float32), "scale"),
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(built, description.to_props())
    return built


def write_artefact(path: Path, built: onnx.ModelProto | None = None) -> Path:
    """Write a model, a good one unless told otherwise, and return the path."""
    path.write_bytes((built or model()).SerializeToString())
    return path


def with_metadata(**changes: object) -> onnx.ModelProto:
    """Build the graph with some fields of its metadata changed."""
    return model_described(msgspec.structs.replace(metadata(), **changes).to_props())


def model_described(props: dict[str, str]) -> onnx.ModelProto:
    """Build the graph with these metadata entries, right or wrong."""
    built = model()
    del built.metadata_props[:]
    helper.set_model_props(built, props)
    return built


def externally_stored() -> onnx.TensorProto:
    """Make a tensor whose numbers are in another file."""
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "elsewhere")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    return tensor

"""The tensors of the Open Inference Protocol, version 2, over HTTP."""

import json
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.formats import JSON, RAW, Format

MODEL: Final = "anomaly"
INFER: Final = f"/v2/models/{MODEL}/infer"
HEAD_BYTES: Final = 256
"""The length of the JSON before binary tensors, with spaces at its end."""


def write_tensor(array: NDArray[Any]) -> bytes:
    """Write features as a tensor in JSON, those of one event as a batch of one: the protocol knows tensors only."""
    tensor = {**describe(array), "data": array.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def write_binary_tensor(array: NDArray[Any]) -> bytes:
    """Write features with the extension for binary tensors, both ways."""
    octets = array.astype("<f4").tobytes()
    tensor = {**describe(array), "parameters": {"binary_data_size": len(octets)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head.ljust(HEAD_BYTES) + octets


def describe(array: NDArray[Any]) -> dict[str, Any]:
    """Name the input tensor, its shape and its type."""
    return {"name": "features", "shape": np.atleast_2d(array).shape, "datatype": "FP32"}


def read_binary_tensor(body: bytes) -> NDArray[np.float32]:
    """Read the only output, which follows JSON that tells its length."""
    head, _ = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    size = head["outputs"][0]["parameters"]["binary_data_size"]
    return np.frombuffer(body[-size:], "<f4")


TENSOR: Final = Format(
    "tensor in JSON",
    JSON.media_type,
    lambda _, array: write_tensor(array),
    lambda _, body: np.array(json.loads(body)["outputs"][0]["data"]),
    float64=True,
)
BINARY_TENSOR: Final = Format(
    "binary tensor",
    RAW.media_type,
    lambda _, array: write_binary_tensor(array),
    lambda _, body: read_binary_tensor(body),
    headers=(("Inference-Header-Content-Length", str(HEAD_BYTES)),),
)

"""Requests to infer as clients write them, and responses as they read them, without the service's own code."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

MODEL = "sphere"
INFER: Final = f"/v2/models/{MODEL}/infer"
JSON_LENGTH: Final = "Inference-Header-Content-Length"
PADDED_BYTES: Final = 300
"""The length of JSON that is to have one, whatever it says."""


class InferBody(NamedTuple):
    """A body, and the headers that say how it is written."""

    body: bytes
    headers: dict[str, str]


def tensor(events: NDArray[np.float32], **changes: Any) -> dict[str, Any]:
    """Describe the input, with these keys in place of others; None leaves one out."""
    described = {"name": "features", "shape": list(events.shape), "datatype": "FP32", **changes}
    return {key: value for key, value in described.items() if value is not None}


def nested(events: NDArray[np.float32], **keys: Any) -> InferBody:
    """Write rows as lists of numbers in a list."""
    return InferBody(json.dumps({"inputs": [tensor(events, data=events.tolist())], **keys}).encode(), {})


def flat(events: NDArray[np.float32], **keys: Any) -> InferBody:
    """Write rows as one list of numbers."""
    return InferBody(json.dumps({"inputs": [tensor(events, data=events.ravel().tolist())], **keys}).encode(), {})


def binary(events: NDArray[np.float32], n_padded: int = 0, **keys: Any) -> InferBody:
    """Write rows as bytes after the JSON, and ask for such outputs; the JSON is padded to a length."""
    data = events.astype("<f4").tobytes()
    document = {"inputs": [tensor(events, parameters={"binary_data_size": len(data)})], **keys}
    document.setdefault("parameters", {"binary_data_output": True})
    text = json.dumps(document).encode().ljust(n_padded)
    return InferBody(text + data, {JSON_LENGTH: str(len(text))})


def alone(events: NDArray[np.float32]) -> InferBody:
    """Write the rows' bytes without any JSON."""
    return InferBody(events.astype("<f4").tobytes(), {JSON_LENGTH: "0"})


LAYOUTS: Final = {"nested": nested, "flat": flat, "binary": binary, "alone": alone}


def outputs(body: bytes, headers: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a response: the JSON, and each output as (n, 1) by its name."""
    n_json = int(headers.get(JSON_LENGTH.lower(), len(body)))
    document, data = json.loads(body[:n_json]), body[n_json:]
    read = {}
    for output in document["outputs"]:
        dtype = {"FP32": "<f4", "BOOL": "?"}[output["datatype"]]
        if "data" in output:
            values = np.array(output["data"], dtype)
        else:
            size = output["parameters"]["binary_data_size"]
            values, data = np.frombuffer(data[:size], dtype), data[size:]
        read[output["name"]] = values.reshape(output["shape"])
    assert not data
    return document, read

"""Formats that only peers speak: the Open Inference Protocol, version 1, as KServe has it, and float32 as base64.

Beside them, where peers take version 2.
"""

import base64
import json
from typing import Final

import numpy as np

from benchmarks.load.formats import JSON, RAW, Format, Route
from benchmarks.load.tensors import BINARY_TENSOR, INFER, MODEL, TENSOR

BASE64: Final = Format(
    "float32 as base64 in JSON",
    JSON.media_type,
    lambda _, array: json.dumps({"float32": base64.b64encode(array.astype("<f4").tobytes()).decode()}).encode(),
    lambda _, body: np.frombuffer(base64.b64decode(json.loads(body)["float32"]), "<f4"),
)
INSTANCES: Final = Format(
    "JSON",
    JSON.media_type,
    lambda _, array: json.dumps({"instances": np.atleast_2d(array).tolist()}).encode(),
    lambda _, body: np.array(json.loads(body)["predictions"]),
    float64=True,
)
OTHER_RAW: Final = RAW._replace(media_type="application/x-float32")
"""Raw float32 for a server that treats application/octet-stream as JSON."""

OPEN_INFERENCE: Final = {
    "single": Route(TENSOR, INFER),
    "json": Route(TENSOR, INFER),
    "binary": Route(BINARY_TENSOR, INFER),
}
PREDICT: Final = f"/v1/models/{MODEL}:predict"
KSERVE: Final = {
    "single": Route(INSTANCES, PREDICT),
    "json": Route(INSTANCES, PREDICT),
    "binary": Route(OTHER_RAW, PREDICT),
}

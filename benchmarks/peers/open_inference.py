"""Questions in the Open Inference Protocol, version 2, over HTTP."""

import json
from typing import Any

import numpy as np

from benchmarks.peers.surface import JSON, OCTETS, Floats, Question

MODEL = "anomaly"
PATH = f"/v2/models/{MODEL}/infer"


def json_batch(events: Floats) -> Question:
    """Ask for the scores of `events` (n, features) in JSON."""
    tensor = {**describe(events), "data": events.ravel().tolist()}
    return Question(PATH, JSON, json.dumps({"inputs": [tensor]}).encode(), read_json)


def single(event: Floats) -> Question:
    """Ask for the score of one event (features,) in JSON, as a batch of one: the protocol knows tensors only."""
    return json_batch(event[None])


def binary_batch(events: Floats) -> Question:
    """Ask for the scores of `events` (n, features) with the extension for binary tensors, both ways."""
    octets = events.astype("<f4").tobytes()
    tensor = {**describe(events), "parameters": {"binary_data_size": len(octets)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {**OCTETS, "Inference-Header-Content-Length": str(len(head))}
    size = 4 * len(events)  # the scores are the end of the response
    return Question(PATH, headers, head + octets, lambda response: np.frombuffer(response[-size:], "<f4"))


def describe(events: Floats) -> dict[str, Any]:
    """Name the input tensor, its shape and its type."""
    return {"name": "features", "shape": list(events.shape), "datatype": "FP32"}


def read_json(response: bytes) -> Floats:
    """Read the only output as (n,)."""
    return np.array(json.loads(response)["outputs"][0]["data"], np.float32)

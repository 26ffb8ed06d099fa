"""LitServe's side of serving the graph, in a module of its own: its worker is a fresh process that imports it."""
# mypy: disable-error-code="import-not-found,misc,override"

import base64
from typing import Any

import litserve
import numpy as np

from benchmarks.peers.graph import open_graph
from benchmarks.peers.surface import N_FEATURES, Floats


class ScorerAPI(litserve.LitAPI):
    """One path for the three questions: the key of the JSON says which it is."""

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(api_path="/score", **options)
        self.model = model

    def setup(self, device: str) -> None:  # noqa: ARG002  LitServe passes it
        """Open the graph, in the worker."""
        self.score = open_graph(self.model)

    def decode_request(self, request: dict[str, Any]) -> tuple[str, Floats]:
        """Read events (n, features) and remember by which key they came."""
        ((key, value),) = request.items()
        if key == "float32":
            return key, np.frombuffer(base64.b64decode(value), "<f4").reshape(-1, N_FEATURES)
        return key, np.array(value, np.float32).reshape(-1, N_FEATURES)

    def predict(self, decoded: tuple[str, Floats]) -> tuple[str, Floats]:
        """Score the events of one request."""
        key, events = decoded
        return key, self.score(events)

    def encode_response(self, output: tuple[str, Floats]) -> dict[str, Any]:
        """Write the scores as the request was written."""
        key, scores = output
        if key == "features":
            return {"anomaly_score": float(scores[0])}
        if key == "float32":
            return {"float32": base64.b64encode(scores.tobytes()).decode()}
        return {"anomaly_scores": scores.tolist()}


class BatchingScorerAPI(ScorerAPI):
    """The same, with LitServe's batching: `predict` gets the events of several requests."""

    def batch(self, inputs: list[tuple[str, Floats]]) -> tuple[list[str], list[int], Floats]:
        """Put events of several requests together, and remember how many are whose."""
        keys, events = zip(*inputs, strict=True)
        return list(keys), [len(part) for part in events], np.concatenate(events)

    def predict(self, decoded: tuple[list[str], list[int], Floats]) -> list[tuple[str, Floats]]:
        """Score the events of all requests at once."""
        keys, counts, events = decoded
        return list(zip(keys, np.split(self.score(events), np.cumsum(counts)[:-1]), strict=True))

    def unbatch(self, output: list[tuple[str, Floats]]) -> list[tuple[str, Floats]]:
        """Give each request its scores."""
        return output

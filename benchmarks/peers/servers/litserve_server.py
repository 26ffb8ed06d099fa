"""LitServe, with or without its batching.

python -m benchmarks.peers.servers.litserve_server [--batching] MODEL PORT
"""
# mypy: disable-error-code="import-not-found,misc,override"

import base64
import sys
from typing import Any

import litserve
import numpy as np

from benchmarks.peers.servers.graph import N_FEATURES, Floats, open_graph, read_rows


class ScorerAPI(litserve.LitAPI):
    """One path for all requests: the key of the JSON says what it holds."""

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
            return key, read_rows(base64.b64decode(value))
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


if __name__ == "__main__":  # the worker is a fresh process that imports this module
    *batching, model, port = sys.argv[1:]
    api = BatchingScorerAPI(model, max_batch_size=32, batch_timeout=0.001) if batching else ScorerAPI(model)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), num_api_servers=1, log_level="warning", generate_client_file=False)

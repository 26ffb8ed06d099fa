"""KServe's Python server with a model of our own, which speaks version 1 of its protocol, and version 2 over gRPC.

python -m benchmarks.peers.servers.kserve_server OPTIONS_OF_KSERVE NAME MODEL
"""
# mypy: disable-error-code="import-not-found,misc"

import asyncio
import sys
from typing import Any

import kserve
import numpy as np
import uvloop
from kserve.errors import InvalidInput

from benchmarks.peers.servers.graph import N_FEATURES, Floats, open_graph, read_rows


class GraphModel(kserve.Model):
    """The graph behind `instances` in JSON, behind octets, which KServe passes on as they are, and behind tensors."""

    def __init__(self, name: str, model: str) -> None:
        super().__init__(name)
        self.score = open_graph(model)
        self.ready = True

    def predict(
        self,
        payload: dict[str, Any] | bytes | kserve.InferRequest,
        headers: dict[str, str] | None = None,  # noqa: ARG002  KServe passes them
    ) -> dict[str, Any] | bytes | kserve.InferResponse:
        """Score the events of a request."""
        if isinstance(payload, kserve.InferRequest):
            return self._infer(payload)
        try:
            events = read_rows(payload) if isinstance(payload, bytes) else read_instances(payload["instances"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(str(error)) from error
        scores = self.score(events)
        return scores.tobytes() if isinstance(payload, bytes) else {"predictions": scores.tolist()}

    def _infer(self, request: kserve.InferRequest) -> kserve.InferResponse:
        """Score the only input tensor."""
        scores = self.score(request.inputs[0].as_numpy())
        output = kserve.InferOutput("anomaly_score", list(scores.shape), "FP32")
        output.set_data_from_numpy(scores)
        return kserve.InferResponse(request.id, self.name, [output])


def read_instances(instances: list[list[float]]) -> Floats:
    """Read events (n, 14); raises ValueError for another shape."""
    events = np.array(instances, np.float32)
    if events.shape[1:] != (N_FEATURES,):
        raise ValueError(f"the shape is {events.shape}, expected (n, {N_FEATURES})")
    return events


if __name__ == "__main__":
    uvloop.install()  # with one worker, KServe runs asyncio's own loop whatever --event-loop says
    asyncio.set_event_loop(asyncio.new_event_loop())  # it asks for one before it runs another
    kserve.ModelServer().start([GraphModel(*sys.argv[-2:])])

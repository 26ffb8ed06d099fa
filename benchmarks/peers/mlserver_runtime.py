"""MLServer's side of serving the graph: a custom runtime, in a module that MLServer imports by name."""
# mypy: disable-error-code="import-not-found,misc,untyped-decorator"

import mlserver
import numpy as np
from fastapi import Request, Response
from mlserver.codecs import NumpyCodec
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.graph import open_graph
from benchmarks.peers.surface import N_FEATURES


class GraphRuntime(mlserver.MLModel):
    """The graph behind the protocol, and a handler beside it for octets."""

    async def load(self) -> bool:
        """Open the graph."""
        self._score = open_graph(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score the only input tensor."""
        scores = self._score(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("anomaly_score", scores)])

    @custom_handler(rest_path="/raw")
    async def raw(self, request: Request) -> Response:
        """Score float32 rows."""
        events = np.frombuffer(await request.body(), "<f4").reshape(-1, N_FEATURES)
        return Response(self._score(events).tobytes(), media_type="application/octet-stream")

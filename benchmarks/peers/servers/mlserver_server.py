"""MLServer with a custom runtime, which speaks the Open Inference Protocol.

python -m benchmarks.peers.servers.mlserver_server NAME MODEL PORT
"""
# mypy: disable-error-code="import-not-found,misc,untyped-decorator"

import asyncio
import sys

import mlserver
import uvloop
from fastapi import Request, Response
from mlserver.codecs import NumpyCodec
from mlserver.handlers import custom_handler
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.servers.graph import open_graph, read_rows


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
        scores = self._score(read_rows(await request.body()))
        return Response(scores.tobytes(), media_type="application/octet-stream")


async def main(name: str, model: str, port: int) -> None:
    """Serve the graph until SIGINT or SIGTERM."""
    settings = mlserver.Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1,
        metrics_port=port + 2,
        parallel_workers=0,  # a pool of processes would only add a queue on one core
        debug=False,  # it writes an access log
    )
    runtime = "benchmarks.peers.servers.mlserver_server.GraphRuntime"
    served = mlserver.ModelSettings(name=name, implementation=runtime, parameters=ModelParameters(uri=model))
    await mlserver.MLServer(settings).start([served])


if __name__ == "__main__":  # MLServer imports the runtime by the name of this module
    uvloop.install()  # as its command line does
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

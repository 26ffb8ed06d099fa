"""A client of the Open Inference Protocol over gRPC, with the service's own messages."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from service.api.open_inference.grpc_calls import SERVICE
from service.api.open_inference.messages import message
from tests.live import TIMEOUT_S, LiveService, live_service

NAME = "sphere"
"""The name of the model in tests."""
CODES = grpc.StatusCode
MAX_MESSAGE_BYTES = 32 * 2**20


class Client:
    """Calls the service over one connection."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def call(self, name: str, /, timeout_s: float = TIMEOUT_S, metadata: Any = (), **fields: Any) -> Any:
        """Call by name, with the fields of the request, and return the response."""
        return self.send(name, message(f"inference.{name}Request")(**fields).SerializeToString(), timeout_s, metadata)

    def send(self, name: str, body: bytes, timeout_s: float = TIMEOUT_S, metadata: Any = ()) -> Any:
        """Call by name with the bytes of a message."""
        response = message(f"inference.{name}Response").FromString
        call = self.channel.unary_unary(f"/{SERVICE}/{name}", None, response)
        return call(body, timeout=timeout_s, metadata=metadata)

    def infer(self, events: NDArray[np.float32], *, timeout_s: float = TIMEOUT_S, **fields: Any) -> Any:
        """Score events (n, n_features)."""
        return self.call("ModelInfer", timeout_s, **infer_fields(events, **fields))

    def scores(self, events: NDArray[np.float32], **fields: Any) -> NDArray[np.float32]:
        """Score events (n, n_features), and return the scores as (n,)."""
        return read_scores(self.infer(events, **fields))

    def stream(self, requests: Iterator[Any], timeout_s: float = TIMEOUT_S) -> Any:
        """Open a stream of requests, and return the responses."""
        response = message("inference.ModelStreamInferResponse").FromString
        call = self.channel.stream_stream(f"/{SERVICE}/ModelStreamInfer", lambda m: m.SerializeToString(), response)
        return call(requests, timeout=timeout_s)


def infer_fields(events: NDArray[np.float32], *, typed: bool = False, **fields: Any) -> dict[str, Any]:
    """Return the fields of a request with events (n, n_features), as bytes or as numbers."""
    tensor: dict[str, Any] = {"name": "features", "datatype": "FP32", "shape": list(events.shape)}
    if typed:
        tensor["contents"] = {"fp32_contents": events.ravel().tolist()}
        return {"model_name": NAME, "inputs": [tensor], **fields}
    raw = events.astype("<f4").tobytes()
    return {"model_name": NAME, "inputs": [tensor], "raw_input_contents": [raw], **fields}


def infer_request(events: NDArray[np.float32], **fields: Any) -> Any:
    """Write a request with events (n, n_features)."""
    return message("inference.ModelInferRequest")(**infer_fields(events, **fields))


def read_scores(response: Any) -> NDArray[np.float32]:
    """Read the scores (n,) of a response, which has them as the request had its events."""
    output = response.outputs[0]
    assert (output.name, output.datatype, output.shape[1]) == ("anomaly_score", "FP32", 1)
    if response.raw_output_contents:
        scores = np.frombuffer(response.raw_output_contents[0], "<f4")
    else:
        scores = np.array(output.contents.fp32_contents, np.float32)
    assert scores.shape == (output.shape[0],)
    return scores


@contextmanager
def connect(address: str, credentials: grpc.ChannelCredentials | None = None) -> Iterator[Client]:
    """Open a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    options += [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.enable_retries", 0)]
    if credentials is None:
        channel = grpc.insecure_channel(address, options)
    else:
        channel = grpc.secure_channel(address, credentials, options)
    with channel:
        yield Client(channel)


@contextmanager
def grpc_service(
    model: Path | str, *flags: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[LiveService, str]]:
    """Serve `model` with a port for gRPC until the end of the block, and return the service and the address."""
    with live_service(model, "--grpc-port", "0", *flags, env=env) as service:
        yield service, service.wait_for("ready")["grpc_address"]

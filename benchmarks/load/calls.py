"""Calls of the Open Inference Protocol over gRPC, with the tensors as bytes."""

from typing import Any, Final

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.load.scoring import WrongAnswerError, score_fault
from benchmarks.load.tensors import MODEL
from service.api.open_inference.grpc_calls import INFER
from service.api.open_inference.messages import message

TIMEOUT_S: Final = 20


def write_call(events: NDArray[Any]) -> bytes:
    """Write the message that asks for the scores of `events` (n, n_features)."""
    request = message("inference.ModelInferRequest")(
        model_name=MODEL, raw_input_contents=[events.astype("<f4").tobytes()]
    )
    request.inputs.add(name="features", datatype="FP32", shape=events.shape)
    return bytes(request.SerializeToString())


def ask(name: str, address: str, body: bytes, expected: NDArray[np.float32]) -> bytes:
    """Call once and give the response's message; raises WrongAnswerError unless it has the `expected` scores (n,)."""
    try:
        with grpc.insecure_channel(address) as channel:
            response: bytes = channel.unary_unary(INFER)(body, timeout=TIMEOUT_S, wait_for_ready=True)
    except grpc.RpcError as error:
        raise WrongAnswerError(f"{name}: {error.code().name}: {error.details()}") from error
    tensors = message("inference.ModelInferResponse").FromString(response).raw_output_contents
    if len(tensors) != 1:
        raise WrongAnswerError(f"{name}: {len(tensors)} raw outputs, expected one")
    if fault := score_fault(np.frombuffer(tensors[0], "<f4"), expected):
        raise WrongAnswerError(f"{name}: {fault}")
    return response

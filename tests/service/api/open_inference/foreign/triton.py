"""tritonclient over HTTP, blocking and with asyncio, with JSON and bytes, compressed and not."""

import asyncio
import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import tritonclient.http as blocking
import tritonclient.http.aio as awaiting
from tritonclient.utils import InferenceServerException

EVENTS = np.random.default_rng(0).normal(size=(3000, 14)).astype(np.float32)
ENCODINGS = (None, "gzip", "deflate")


def inputs(events: np.ndarray[Any, Any], *, binary: bool) -> list[Any]:
    """Describe events as the input of the model."""
    tensor = blocking.InferInput("features", list(events.shape), "FP32")
    tensor.set_data_from_numpy(events, binary_data=binary)
    return [tensor]


def check(result: Any, n_events: int) -> Any:
    """Return the scores of a response, after a check of what surrounds them."""
    response = result.get_response()
    assert (response["model_version"], response["id"]) == ("1", "7")
    assert response["parameters"]["model_identity"].startswith("density@")
    scores, accepted = result.as_numpy("anomaly_score"), result.as_numpy("accepted")
    assert scores.shape == accepted.shape == (n_events, 1)
    np.testing.assert_array_equal(accepted, scores > response["parameters"]["score_threshold"])
    return scores


def refusal(call: Callable[[], Any]) -> str:
    """Return the message of the error that a call ends with."""
    try:
        call()
    except InferenceServerException as error:
        return str(error.message())
    raise AssertionError("no error")


def infer_blocking(address: str, name: str) -> list[Any]:
    """Score events in every way, and ask for all that is there."""
    client = blocking.InferenceServerClient(address)
    assert client.is_server_live(query_params={"test_1": 1})
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    assert not client.is_model_ready("wrong")
    assert client.is_model_ready(name, "1")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata(name)["inputs"][0]["shape"] == [-1, 14]
    assert client.get_model_config(name)["max_batch_size"] > 1
    assert client.get_model_repository_index()[0]["state"] == "READY"
    found = []
    for binary, n_events, sent, wanted in product((True, False), (1, 100, 3000), ENCODINGS, ENCODINGS):
        for named in (True, False):
            names = ("anomaly_score", "accepted")
            outputs = [blocking.InferRequestedOutput(one, binary_data=binary) for one in names] if named else None
            result = client.infer(
                name,
                inputs(EVENTS[:n_events], binary=binary),
                outputs=outputs,
                request_id="7",
                parameters={"working_point": "loose", "test-param": "abc"},
                request_compression_algorithm=sent,
                response_compression_algorithm=wanted,
            )
            scores = check(result, n_events)
            if n_events == len(EVENTS):
                found.append(scores)
    asked = client.async_infer(name, inputs(EVENTS[:1], binary=True), request_id="7", timeout=10**7)
    assert asked.get_result().as_numpy("anomaly_score")[0] == found[0][0]
    for call, words in (
        (lambda: client.get_model_metadata("wrong_model_name"), "Request for unknown model"),
        (lambda: client.load_model(name), "models are not loaded by clients"),
        (client.get_system_shared_memory_status, "shared memory is not offered"),
        (lambda: client.infer(name, inputs(EVENTS[:, :13], binary=True)), "expected [n, 14]"),
        (lambda: client.infer(name, inputs(EVENTS, binary=True), sequence_id=3), "sequences are not offered"),
        (lambda: client.infer(name, inputs(EVENTS, binary=True), timeout=1), "timeout of 1 us is over"),
    ):
        assert words in refusal(call)
    [statistics] = client.get_inference_statistics(name)["model_stats"]
    assert statistics["inference_stats"]["success"]["count"] >= len(found)
    assert client.get_inference_statistics()["model_stats"][0]["name"] == name
    client.close()
    return found


async def infer_awaiting(address: str, name: str) -> list[Any]:
    """Score events at once by many tasks."""
    async with awaiting.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        assert (await client.get_model_metadata(name))["name"] == name

        async def one(binary: bool, encoding: str | None) -> Any:
            result = await client.infer(
                name,
                inputs(EVENTS, binary=binary),
                request_id="7",
                parameters={"working_point": "tight"},
                request_compression_algorithm=encoding,
                response_compression_algorithm=encoding,
            )
            return check(result, len(EVENTS))

        return list(await asyncio.gather(*[one(*ways) for ways in product((True, False), ENCODINGS * 3)]))


def main(address: str, name: str) -> None:
    """Require the same scores in every way."""
    first, *others = [*infer_blocking(address, name), *asyncio.run(infer_awaiting(address, name))]
    assert len(others) > 20
    for scores in others:
        np.testing.assert_array_equal(scores, first)


if __name__ == "__main__":
    main(*sys.argv[1:])

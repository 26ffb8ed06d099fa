"""KServe's InferenceGRPCClient."""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

EVENTS = np.random.default_rng(0).normal(size=(300, 14)).astype(np.float32)


async def main(address: str, name: str) -> None:
    """Score events as bytes and as numbers."""
    client = InferenceGRPCClient(address, timeout=30)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready(name)
    found = []
    for binary in (True, False):
        tensor = InferInput("features", list(EVENTS.shape), "FP32")
        tensor.set_data_from_numpy(EVENTS, binary_data=binary)
        parameters = {"working_point": "loose", "test-param": "abc"}
        response = await client.infer(InferRequest(name, [tensor], request_id="7", parameters=parameters))
        scores, accepted = (output.as_numpy() for output in response.outputs)
        threshold = float(response.parameters["score_threshold"].string_param)
        np.testing.assert_array_equal(accepted, scores > threshold)
        assert (response.id, response.model_name, response.model_version) == ("7", name, "1")
        found.append(scores)
    np.testing.assert_array_equal(*found)
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""KServe's InferenceRESTClient."""

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

EVENTS = np.random.default_rng(0).normal(size=(300, 14)).astype(np.float32)


async def main(address: str, name: str) -> None:
    """Score events as bytes and as numbers."""
    client, url = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=30)), f"http://{address}"
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, name)
    found = []
    for binary in (True, False):
        for outputs in (None, [RequestedOutput("anomaly_score", {"binary_data": binary})]):
            tensor = InferInput("features", list(EVENTS.shape), "FP32", parameters={"test-param": "abc"})
            tensor.set_data_from_numpy(EVENTS, binary_data=binary)
            parameters = {"test-param": "abc", "binary_data_output": binary}
            request = InferRequest(name, [tensor], "7", parameters=parameters, request_outputs=outputs)
            response = await client.infer(url, request, model_name=name, headers={"Host": "x.example.com"})
            assert (response.id, response.model_name) == ("7", name)  # it reads no version beside bytes
            found.append(response.outputs[0].as_numpy())
    document = {"inputs": [{"name": "features", "shape": [300, 14], "datatype": "FP32", "data": EVENTS.tolist()}]}
    response = await client.infer(url, document, model_name=name)
    found.append(response.outputs[0].as_numpy())
    for scores in found:
        np.testing.assert_array_equal(scores, found[0])
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""tritonclient over gRPC: every call that it has, in threads, with asyncio and in a stream."""

import asyncio
import queue
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

TIMEOUT_S = 30
EVENTS = np.random.default_rng(0).normal(size=(300, 14)).astype(np.float32)
OUTPUT = "anomaly_score"


def inputs(module: Any = tritonclient.grpc) -> list[Any]:
    """Make the one input."""
    tensor = module.InferInput("features", list(EVENTS.shape), "FP32")
    tensor.set_data_from_numpy(EVENTS)
    return [tensor]


def check_descriptions(client: Any, name: str) -> None:
    """Ask for all that describes the server and the model."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    assert client.is_model_ready(name, "1")
    assert client.get_server_metadata().name == "lhc-anomaly"
    assert client.get_model_metadata(name, as_json=True)["outputs"][0]["shape"] == ["-1", "1"]
    config = client.get_model_config(name).config
    assert (config.max_batch_size, list(config.input[0].dims), list(config.output[0].dims)) == (299_593, [14], [1])
    assert client.get_model_repository_index().models[0].state == "READY"
    assert client.get_inference_statistics().model_stats[0].name == name


def check_errors(client: Any) -> None:
    """Ask for what there is not."""
    not_offered = (
        client.get_system_shared_memory_status,
        client.get_trace_settings,
        client.get_log_settings,
        lambda: client.load_model("other"),
    )
    assert status(lambda: client.infer("other", inputs())) == "StatusCode.NOT_FOUND"
    assert {status(call) for call in not_offered} == {"StatusCode.UNIMPLEMENTED"}


def status(call: Callable[[], object]) -> str:
    """Return the status of a call that is refused."""
    try:
        call()
    except InferenceServerException as error:
        return str(error.status())
    return "OK"


def check_threads(client: Any, name: str) -> np.ndarray[Any, Any]:
    """Score events one by one, many at once and in a stream; return the scores."""
    result = client.infer(name, inputs(), request_id="1", timeout=5_000_000, parameters={"working_point": "loose"})
    scores: np.ndarray[Any, Any] = result.as_numpy(OUTPUT)
    threshold = float(result.get_response().parameters["score_threshold"].string_param)
    assert (scores.shape, scores.dtype) == ((300, 1), np.float32)
    np.testing.assert_array_equal(result.as_numpy("accepted"), scores > threshold)
    results: queue.Queue[Any] = queue.Queue()
    for _ in range(40):
        client.async_infer(name, inputs(), lambda result, error: results.put((result, error)))
    client.start_stream(lambda result, error: results.put((result, error)))
    for _ in range(10):
        client.async_stream_infer(name, inputs())
    for _ in range(50):
        result, error = results.get(timeout=TIMEOUT_S)
        assert error is None, error
        np.testing.assert_array_equal(result.as_numpy(OUTPUT), scores)
    client.async_stream_infer("other", inputs())
    _, error = results.get(timeout=TIMEOUT_S)
    assert "Request for unknown model: 'other' is not found" in str(error)
    client.stop_stream()
    return scores


async def check_asyncio(address: str, name: str, scores: np.ndarray[Any, Any]) -> None:
    """Score events with asyncio."""
    module = tritonclient.grpc.aio
    async with module.InferenceServerClient(address) as client:
        for result in await asyncio.gather(*(client.infer(name, inputs(module)) for _ in range(50))):
            np.testing.assert_array_equal(result.as_numpy(OUTPUT), scores)

        async def requests() -> Any:
            for _ in range(5):
                yield {"model_name": name, "inputs": inputs(module)}

        n_results = 0
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            np.testing.assert_array_equal(result.as_numpy(OUTPUT), scores)
            n_results += 1
        assert n_results == 5


def check_cms(address: str, name: str) -> None:
    """Do as the software of CMS does at the start of a job and for an event, with Triton's stubs."""
    import grpc
    from tritonclient.grpc import service_pb2 as messages
    from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

    with grpc.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerMetadata(messages.ServerMetadataRequest()).name
        assert [one.name for one in stub.RepositoryIndex(messages.RepositoryIndexRequest(ready=True)).models] == [name]
        config = stub.ModelConfig(messages.ModelConfigRequest(name=name)).config
        metadata = stub.ModelMetadata(messages.ModelMetadataRequest(name=name))
        assert config.max_batch_size > 0
        assert list(metadata.inputs[0].shape[1:]) == list(config.input[0].dims)
        request = messages.ModelInferRequest(model_name=name, id="1")
        request.inputs.add(name=metadata.inputs[0].name, datatype=metadata.inputs[0].datatype, shape=[300, 14])
        request.outputs.add(name=metadata.outputs[0].name)
        request.raw_input_contents.append(EVENTS.tobytes())
        before = stub.ModelStatistics(messages.ModelStatisticsRequest(name=name)).model_stats[0]
        response = stub.ModelInfer(request, timeout=TIMEOUT_S)
        assert len(response.raw_output_contents[0]) == 4 * 300
        after = stub.ModelStatistics(messages.ModelStatisticsRequest(name=name)).model_stats[0]
        assert after.inference_count - before.inference_count == 300
        assert after.execution_count > before.execution_count


def main(address: str, name: str) -> None:
    """Check all."""
    with tritonclient.grpc.InferenceServerClient(address) as client:
        check_descriptions(client, name)
        check_errors(client)
        scores = check_threads(client, name)
    asyncio.run(check_asyncio(address, name, scores))
    check_cms(address, name)


if __name__ == "__main__":
    main(*sys.argv[1:])

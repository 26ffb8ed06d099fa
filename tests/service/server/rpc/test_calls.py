"""Every call of gRPC against a live service: what it answers, and what it says of wrong requests."""

import re
import socket
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.load.formats import RAW
from service.api.open_inference.grpc_calls import SERVICE
from service.api.open_inference.messages import message
from tests.artefacts import N_FEATURES, RTOL, oracle, sample_events
from tests.live import TIMEOUT_S
from tests.service.api.bad_input import INWARD
from tests.service.server.rpc.client import CODES, NAME, Client, connect, infer_fields, read_scores
from tests.service.server.rpc.conftest import Live

pytestmark = pytest.mark.process

EVENT = sample_events(1)
MAX_EVENTS = 20_000


class Wrong(NamedTuple):
    """A request that is refused: changes of a good one, and a part of the message."""

    detail: str
    fields: dict[str, Any]
    code: grpc.StatusCode = CODES.INVALID_ARGUMENT


def tensor(**changes: Any) -> list[dict[str, Any]]:
    """Change the one input."""
    return [{"name": "features", "datatype": "FP32", "shape": [1, N_FEATURES], **changes}]


def events_with(value: float) -> bytes:
    """Write two events, of which the second has a feature of this value."""
    events = sample_events(2)
    events[1, 3] = value
    return events.astype("<f4").tobytes()


NUMBERS = {"fp32_contents": EVENT[0].tolist()}
WRONG = [
    Wrong("unknown model: 'other' is not found", {"model_name": "other"}, CODES.NOT_FOUND),
    Wrong("unknown model: '' is not found", {"model_name": ""}, CODES.NOT_FOUND),
    Wrong("version 7 is not found", {"model_version": "7"}, CODES.NOT_FOUND),
    Wrong("unexpected input 'other'", {"inputs": tensor(name="other")}),
    Wrong("has the datatype 'FP64', expected FP32", {"inputs": tensor(datatype="FP64")}),
    Wrong("has the shape [1, 4], expected", {"inputs": tensor(shape=[1, 4])}),
    Wrong("has the shape [5], expected", {"inputs": tensor(shape=[N_FEATURES])}),
    Wrong("has the shape [], expected", {"inputs": tensor(shape=[])}),
    Wrong("has the shape [0, 5], expected", {"inputs": tensor(shape=[0, N_FEATURES]), "raw_input_contents": []}),
    Wrong("has the shape [-1, 5], expected", {"inputs": tensor(shape=[-1, N_FEATURES])}),
    Wrong("expected 4 for each number of the shape", {"inputs": tensor(shape=[2**62, N_FEATURES])}),
    Wrong("has 0 inputs, expected one", {"inputs": []}),
    Wrong("has 2 inputs, expected one", {"inputs": tensor() * 2}),
    Wrong("raw_input_contents has 2 entries", {"raw_input_contents": [b"", b""]}),
    Wrong("raw_input_contents[0] has 19 bytes", {"raw_input_contents": [bytes(19)]}),
    Wrong("raw_input_contents[0] has 0 bytes", {"raw_input_contents": [b""]}),
    Wrong("has 0 numbers in fp32_contents", {"raw_input_contents": []}),
    Wrong("has raw_input_contents and fp32_contents", {"inputs": tensor(contents=NUMBERS)}),
    Wrong(
        "has 4 numbers in fp32_contents",
        {"inputs": tensor(contents={"fp32_contents": [1, 2, 3, 4]}), "raw_input_contents": []},
    ),
    Wrong("has fp64_contents", {"inputs": tensor(contents={"fp64_contents": [1] * 5}), "raw_input_contents": []}),
    Wrong("has bytes_contents", {"inputs": tensor(contents={"bytes_contents": [b"a"]}), "raw_input_contents": []}),
    Wrong(
        "events[1][3] (feature3) is nan",
        {"inputs": tensor(shape=[2, N_FEATURES]), "raw_input_contents": [events_with(np.nan)]},
    ),
    Wrong(
        "events[1][3] (feature3) is -inf",
        {"inputs": tensor(shape=[2, N_FEATURES]), "raw_input_contents": [events_with(-np.inf)]},
    ),
    Wrong(
        "the model gave the score inf",
        {"inputs": tensor(shape=[2, N_FEATURES]), "raw_input_contents": [events_with(3e38)]},
    ),
    Wrong("working_point is 'mild', expected", {"parameters": {"working_point": {"string_param": "mild"}}}),
    Wrong("working_point is 3, expected", {"parameters": {"working_point": {"int64_param": 3}}}),
    Wrong("timeout is -1, expected", {"parameters": {"timeout": {"int64_param": -1}}}),
    Wrong("timeout is True, expected", {"parameters": {"timeout": {"bool_param": True}}}),
    Wrong("unexpected output 'other'", {"outputs": [{"name": "other"}]}),
    Wrong("'accepted' needs the parameter working_point", {"outputs": [{"name": "accepted"}]}),
    Wrong("is named twice", {"outputs": [{"name": "anomaly_score"}] * 2}),
]


def refusal(client: Client, name: str, /, **fields: Any) -> grpc.RpcError:
    """Make a call that is refused, and return the error, whose message shows nothing of the inside."""
    with pytest.raises(grpc.RpcError) as caught:
        client.call(name, **fields)
    assert not INWARD.search(caught.value.details()), caught.value.details()
    return caught.value


def test_scores_are_those_of_raw_bodies_to_the_last_bit(live_grpc: Live, client: Client) -> None:
    """In every size, as bytes and as numbers, scores are those of the native API; the model's identity comes along."""
    for n_events in (1, 2, 100, 128, 129, 600, 5000, MAX_EVENTS):
        events = sample_events(n_events, seed=n_events)
        native = live_grpc.service.post("/score/batch", RAW.write("", events), RAW.media_type)
        for typed in (False, True):
            response = client.infer(events, id="a", typed=typed)
            assert read_scores(response).tobytes() == native.content
            assert bool(response.raw_output_contents) is not typed
            assert (response.model_name, response.model_version, response.id) == (NAME, "1", "a")
            assert response.parameters["model_identity"].string_param == native.headers["Model-Version"]


def test_a_working_point_tells_which_events_it_accepts(live_grpc: Live, client: Client) -> None:
    """The output `accepted` and the threshold are those of the native API; outputs can be chosen."""
    events = sample_events(300)
    point = {"working_point": {"string_param": "loose"}}
    native = live_grpc.service.post(
        "/score/batch?working_point=loose", RAW.write("", events), RAW.media_type, Accept="application/json"
    )
    for typed in (False, True):
        response = client.infer(events, typed=typed, parameters=point)
        _, accepted = response.outputs
        assert (accepted.name, accepted.datatype, list(accepted.shape)) == ("accepted", "BOOL", [300, 1])
        if typed:
            found = list(accepted.contents.bool_contents)
        else:
            found = np.frombuffer(response.raw_output_contents[1], np.bool_).tolist()
        assert found == native.json()["accepted"]
        assert response.parameters["score_threshold"].string_param == native.headers["Score-Threshold"]
    chosen = client.infer(events, parameters=point, outputs=[{"name": "accepted"}])
    assert [output.name for output in chosen.outputs] == ["accepted"]
    assert len(chosen.raw_output_contents) == 1


def test_a_known_request_is_checked_as_the_first_was(client: Client) -> None:
    """Its events and identifier are its own; what is wrong with another that differs in little is said."""
    for seed in range(3):
        events = sample_events(2, seed=seed)
        response = client.infer(events, id=str(seed))
        assert response.id == str(seed)
        np.testing.assert_allclose(read_scores(response), oracle(events), rtol=RTOL)
        for wrong in (bytes(39), bytes(80), events_with(np.inf)):
            fields = {**infer_fields(events), "raw_input_contents": [wrong]}
            assert refusal(client, "ModelInfer", **fields).code() is CODES.INVALID_ARGUMENT
    for number in range(200):  # more than are known
        assert client.infer(EVENT, parameters={str(number): {"int64_param": number}}).model_name == NAME


def test_unknown_parameters_are_ignored(client: Client) -> None:
    """Those of clients of other servers have no effect."""
    plain = client.scores(EVENT)
    parameters = {"test-param": {"string_param": "abc"}, "sequence_id": {"int64_param": 0}, "priority": {}}
    assert client.scores(EVENT, parameters=parameters).tobytes() == plain.tobytes()


def test_wrong_requests_are_the_clients_fault(client: Client, subtests: pytest.Subtests) -> None:
    """Each gets a code that says so, and a message that names the place and what was expected."""
    good = infer_fields(EVENT)
    for wrong in WRONG:
        with subtests.test(wrong.detail):
            error = refusal(client, "ModelInfer", **{**good, **wrong.fields})
            assert error.code() is wrong.code
            assert wrong.detail in error.details()
    assert np.isfinite(client.scores(EVENT)).all()


def test_messages_that_are_none_are_refused(client: Client, subtests: pytest.Subtests) -> None:
    """What protobuf cannot parse is the client's fault, as are too many events, and too many bytes."""
    for body in (b"\xff", b"\x0a\xff", bytes(100), b"\x0a\x02\xff\xfe"):
        with subtests.test(repr(body[:9])), pytest.raises(grpc.RpcError) as caught:
            client.send("ModelInfer", body)
        assert caught.value.code() is CODES.INVALID_ARGUMENT
        assert "cannot be parsed, expected a ModelInferRequest" in caught.value.details()
    call = client.channel.stream_unary(f"/{SERVICE}/ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        call(iter([]), timeout=TIMEOUT_S)
    assert caught.value.code() is CODES.INVALID_ARGUMENT
    assert caught.value.details() == "the call has no message, expected one"
    events = np.zeros((MAX_EVENTS + 1, N_FEATURES), np.float32)
    error = refusal(client, "ModelInfer", **infer_fields(events))
    assert error.code() is CODES.INVALID_ARGUMENT
    assert f"more than {MAX_EVENTS} events" in error.details()
    error = refusal(client, "ModelInfer", **infer_fields(events, id="a" * 17 * 2**20))
    assert error.code() is CODES.RESOURCE_EXHAUSTED


def test_the_model_and_the_server_are_described(client: Client) -> None:
    """The sequence of the CMS software has what it reads, and the statistics count what was scored."""
    assert client.call("ServerLive").live
    assert client.call("ServerReady").ready
    assert client.call("ModelReady", name=NAME, version="1").ready
    server = client.call("ServerMetadata")
    assert server.name == "lhc-anomaly"
    assert "statistics" in server.extensions
    [entry] = client.call("RepositoryIndex", ready=True).models
    assert (entry.name, entry.version, entry.state, entry.reason) == (NAME, "1", "READY", "")
    config = client.call("ModelConfig", name=NAME).config
    assert (config.name, config.platform, config.backend) == (NAME, "onnxruntime_onnx", "onnxruntime")
    assert config.max_batch_size == MAX_EVENTS
    assert [list(one.dims) for one in (*config.input, *config.output)] == [[N_FEATURES], [1]]
    assert {one.data_type for one in (*config.input, *config.output)} == {11}
    metadata = client.call("ModelMetadata", name=NAME)
    assert [(one.name, one.datatype, list(one.shape)) for one in (*metadata.inputs, *metadata.outputs)] == [
        ("features", "FP32", [-1, N_FEATURES]),
        ("anomaly_score", "FP32", [-1, 1]),
    ]
    before = client.call("ModelStatistics", name=NAME).model_stats[0]
    client.infer(sample_events(7), timeout_s=20)
    [after] = client.call("ModelStatistics").model_stats
    assert (after.name, after.inference_count - before.inference_count) == (NAME, 7)
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns


def test_other_models_are_not_found(client: Client) -> None:
    """Every call that names a model says so."""
    for name in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
        for fields in ({"name": "other"}, {"name": NAME, "version": "2"}):
            error = refusal(client, name, **fields)
            assert error.code() is CODES.NOT_FOUND
            assert "Request for unknown model" in error.details()


def test_what_is_not_offered_is_unimplemented(client: Client) -> None:
    """Calls of the contract that the service does not have, and calls of no contract."""
    for path in (
        f"/{SERVICE}/RepositoryModelLoad",
        f"/{SERVICE}/SystemSharedMemoryStatus",
        f"/{SERVICE}/",
        "/a/b",
        "/",
    ):
        with pytest.raises(grpc.RpcError) as caught:
            client.channel.unary_unary(path)(b"", timeout=TIMEOUT_S)
        assert caught.value.code() is CODES.UNIMPLEMENTED


def test_probes_use_the_health_checks_of_grpc(client: Client) -> None:
    """Check knows the server and the service; Watch tells at once how it is."""
    stub = health_pb2_grpc.HealthStub(client.channel)
    request, serving = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse.SERVING
    for service in ("", SERVICE):
        assert stub.Check(request(service=service), timeout=TIMEOUT_S).status == serving
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(request(service="other"), timeout=TIMEOUT_S)
    assert caught.value.code() is CODES.NOT_FOUND
    watch = stub.Watch(request(), timeout=TIMEOUT_S)
    assert next(watch).status == serving
    watch.cancel()
    unknown = stub.Watch(request(service="other"), timeout=TIMEOUT_S)
    assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    unknown.cancel()


def test_compressed_messages_are_refused(client: Client) -> None:
    """They would be inflated in whole before their length is checked."""
    call = client.channel.unary_unary(f"/{SERVICE}/ModelInfer")
    body = message("inference.ModelInferRequest")(id="a" * 15 * 2**20).SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        call(body, timeout=TIMEOUT_S, compression=grpc.Compression.Gzip)
    assert caught.value.code() is CODES.UNIMPLEMENTED
    assert client.call("ServerLive").live


def test_requests_are_counted_and_timed_like_those_of_http(live_grpc: Live, client: Client) -> None:
    """By call and by the status that the same error has on HTTP."""
    path = f"/{SERVICE}/ModelInfer"

    def counted(status: int) -> float:
        return live_grpc.service.metrics().get(f"anomaly_requests_total route={path} status={status}", 0)

    before = {status: counted(status) for status in (200, 404)}
    client.infer(EVENT)
    refusal(client, "ModelInfer", **infer_fields(EVENT, model_name="other"))
    assert {status: counted(status) - before[status] for status in (200, 404)} == {200: 1, 404: 1}


def test_a_deadline_ends_a_request(live_grpc: Live) -> None:
    """That of the call, and the timeout among the parameters, in microseconds."""
    events = sample_events(MAX_EVENTS)
    with connect(live_grpc.address) as client:
        error = refusal(client, "ModelInfer", timeout_s=1e-4, **infer_fields(events))
        assert error.code() is CODES.DEADLINE_EXCEEDED
        error = refusal(client, "ModelInfer", **infer_fields(events, parameters={"timeout": {"int64_param": 1}}))
        assert (error.code(), "took longer than its timeout" in error.details()) == (CODES.DEADLINE_EXCEEDED, True)
        assert client.scores(events[:1], parameters={"timeout": {"int64_param": 10_000_000}}).shape == (1,)


def test_other_protocols_on_the_port_are_closed(live_grpc: Live) -> None:
    """HTTP/1.1 is none of gRPC."""
    host, port = live_grpc.address.split(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        while piece := connection.recv(4096):
            received += piece
    assert not re.match(rb"HTTP/1", received)

"""ModelStreamInfer: many requests over one stream, answered in their order."""

from queue import Queue
from typing import Any

import grpc
import numpy as np
import pytest

from tests.artefacts import sample_events
from tests.live import TIMEOUT_S
from tests.service.server.rpc.client import CODES, NAME, Client, infer_request, read_scores

pytestmark = pytest.mark.process


def test_a_stream_gives_the_scores_of_calls_in_their_order(client: Client) -> None:
    """Whatever the sizes, and whether the client waits for a response before it sends another request."""
    batches = [sample_events(n_events, seed=n_events) for n_events in (1, 700, 2, 5000, 1)]
    single = [client.scores(events) for events in batches]
    for typed in (False, True):
        requests = [infer_request(events, id=str(place), typed=typed) for place, events in enumerate(batches)]
        responses = list(client.stream(iter(requests)))
        assert [one.infer_response.id for one in responses] == ["0", "1", "2", "3", "4"]
        for response, scores in zip(responses, single, strict=True):
            assert not response.error_message
            assert read_scores(response.infer_response).tobytes() == scores.tobytes()
    waiting: Queue[Any] = Queue()
    responses = client.stream(iter(waiting.get, None))
    for events, scores in zip(batches, single, strict=True):
        waiting.put(infer_request(events))
        np.testing.assert_array_equal(read_scores(next(responses).infer_response), scores)
    waiting.put(None)
    assert list(responses) == []


def test_a_wrong_request_does_not_end_the_stream(client: Client) -> None:
    """Its response says what is wrong, with the request's id; the next one is answered."""
    requests = [
        infer_request(sample_events(2), id="a", raw_input_contents=[b""]),
        infer_request(sample_events(2), id="b", model_name="other"),
        infer_request(sample_events(2), id="c"),
    ]
    wrong, unknown, good = client.stream(iter(requests))
    assert "raw_input_contents[0] has 0 bytes" in wrong.error_message
    assert "Request for unknown model: 'other' is not found" in unknown.error_message
    assert [one.infer_response.id for one in (wrong, unknown, good)] == ["a", "b", "c"]
    assert not wrong.infer_response.outputs
    assert (good.error_message, good.infer_response.model_name) == ("", NAME)


def test_a_timeout_of_a_request_does_not_end_the_stream(client: Client) -> None:
    """Its response says that it was too long, and the next request is answered."""
    late = infer_request(sample_events(20_000), parameters={"timeout": {"int64_param": 1}})
    first, second = client.stream(iter([late, infer_request(sample_events(2))]))
    assert "took longer than its timeout" in first.error_message
    assert read_scores(second.infer_response).shape == (2,)


def test_a_message_that_is_none_ends_the_stream(client: Client) -> None:
    """As nothing is known of what follows; a stream without a message just ends."""
    call = client.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b"\xff"]), timeout=TIMEOUT_S))
    assert caught.value.code() is CODES.INVALID_ARGUMENT
    assert list(client.stream(iter([]))) == []

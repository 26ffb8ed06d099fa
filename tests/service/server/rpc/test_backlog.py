"""Calls that wait inside gRPC are counted, and their time is in the metrics."""

import time
from contextlib import ExitStack
from itertools import cycle, islice
from threading import Semaphore
from typing import Any, Final

import numpy as np
import pytest

from service import SHIPPED_MODEL
from service.api.open_inference.grpc_calls import INFER
from service.server.rpc.backlog import WINDOW_S, Backlog
from tests.service.server.rpc.client import connect, grpc_service, infer_request

CONNECTIONS, STREAMS = 8, 16
CALLS: Final = 6_000


def test_calls_that_have_not_begun_wait() -> None:
    """One that never begins, for its client has left, counts until some minutes have passed."""
    backlog = Backlog()
    assert backlog.count(n_received=10, n_begun=10, now_s=0) == 0
    assert backlog.count(n_received=60, n_begun=20, now_s=1) == 40
    assert backlog.count(n_received=60, n_begun=55, now_s=2) == 5
    assert backlog.count(n_received=70, n_begun=65, now_s=WINDOW_S) == 5
    assert backlog.count(n_received=80, n_begun=75, now_s=2 * WINDOW_S) == 0
    assert backlog.count(n_received=90, n_begun=80, now_s=2 * WINDOW_S + 1) == 5


def test_without_a_count_none_waits() -> None:
    """Where gRPC does not tell how many calls it has received, none is taken to wait."""
    backlog = Backlog()
    assert [backlog.count(0, n_begun, n_begun) for n_begun in range(0, 2 * WINDOW_S, 7)] == [0] * 86


@pytest.mark.serial
@pytest.mark.slow
@pytest.mark.process
def test_the_queue_of_short_calls_is_seen() -> None:
    """Where more calls arrive than can begin, the time that clients see is in the duration and in the queue."""
    message = infer_request(np.full((100, 14), 100, np.float32), model_name="density").SerializeToString()
    room, waited_s = Semaphore(CONNECTIONS * STREAMS), [0.0]
    with grpc_service(SHIPPED_MODEL) as (service, address), ExitStack() as stack:
        calls = [stack.enter_context(connect(address)).channel.unary_unary(INFER) for _ in range(CONNECTIONS)]
        for call in islice(cycle(calls), CALLS):
            room.acquire()
            _begin(call, message, room, waited_s)
        for _ in range(CONNECTIONS * STREAMS):
            room.acquire()
        counted = service.metrics()
    labels = " model=density version=1"
    assert counted[f"nv_inference_request_success_total{labels}"] == CALLS
    queue_s = counted[f"nv_inference_queue_duration_us_total{labels}"] / 1e6
    assert queue_s > waited_s[0] / 3
    assert queue_s < counted[f"nv_inference_request_duration_us_total{labels}"] / 1e6 < 1.5 * waited_s[0]


def _begin(call: Any, message: bytes, room: Semaphore, waited_s: list[float]) -> None:
    """Call, and add the time until the response to `waited_s`."""
    began_s = time.monotonic()

    def end(response: Any) -> None:
        response.result()
        waited_s[0] += time.monotonic() - began_s
        room.release()

    call.future(message).add_done_callback(end)

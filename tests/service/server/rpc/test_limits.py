"""What clients of gRPC can make a worker hold, and what happens beyond it."""

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from benchmarks.load.formats import RAW
from benchmarks.targets.processes import forget_peak, peak_mb
from service.api.open_inference.grpc_calls import INFER
from service.api.open_inference.messages import message
from service.server.rpc.receiving import CHECK_S, SLOW_S
from tests.artefacts import RTOL, oracle, sample_events
from tests.live import TIMEOUT_S, wait_until
from tests.service.server.rpc.client import CODES, Client, connect, grpc_service, infer_request, read_scores
from tests.service.server.rpc.conftest import Live
from tests.service.server.rpc.frames import END_STREAM, HEADERS, Connection

pytestmark = [pytest.mark.process, pytest.mark.slow]

MESSAGE_BYTES = 16 * 2**20
UNAVAILABLE = b"grpc-status\x0214"


def code(client: Client, n_events: int) -> grpc.StatusCode:
    """Score events, and return how the call ended; a refusal says when to send it again."""
    try:
        client.infer(sample_events(n_events))
    except grpc.RpcError as error:
        found: grpc.StatusCode = error.code()
        pushback = dict(error.trailing_metadata()).get("grpc-retry-pushback-ms")
        assert pushback == ("1000" if found is CODES.UNAVAILABLE else None)
        return found
    return CODES.OK


def test_overload_refuses_batches_and_answers_all_else(model_path: Path) -> None:
    """While batches take all room, others are UNAVAILABLE; single events have their own, and descriptions need none."""
    with (
        grpc_service(model_path, "--max-inflight-events", "1000") as (service, address),
        connect(address) as client,
        service.connect() as held,
    ):
        body = RAW.write("", sample_events(1000))
        fields = (
            "POST /score/batch HTTP/1.1",
            "Host: a",
            f"Content-Type: {RAW.media_type}",
            f"Content-Length: {len(body)}",
        )
        held.sendall("\r\n".join([*fields, "", ""]).encode() + body[:-1])
        wait_until(lambda: service.metrics()["anomaly_inflight_events"] == 1000)
        assert code(client, 2) is CODES.UNAVAILABLE
        assert code(client, 1) is CODES.OK
        assert client.call("RepositoryIndex").models[0].state == "READY"
        assert client.call("ServerReady").ready
        held.sendall(body[-1:])
        wait_until(lambda: code(client, 2) is CODES.OK)
        assert code(client, 5000) is CODES.OK  # alone, any request is admitted


def test_requests_that_arrive_together_are_scored_together(client: Client) -> None:
    """The runtime is called less often than there are requests, more than a connection has streams for.

    Each gets its own scores.
    """
    before = client.call("ModelStatistics").model_stats[0]
    call = client.channel.unary_unary(
        INFER, lambda m: m.SerializeToString(), message("inference.ModelInferResponse").FromString
    )
    batches = [sample_events(3, seed=seed) for seed in range(300)]
    futures = [call.future(infer_request(events), timeout=TIMEOUT_S) for events in batches]
    found = [read_scores(future.result()) for future in futures]
    after = client.call("ModelStatistics").model_stats[0]
    assert after.inference_count - before.inference_count == 900
    assert after.execution_count - before.execution_count < 300
    np.testing.assert_allclose(np.concatenate(found), oracle(np.concatenate(batches)), rtol=RTOL)


def test_a_client_that_leaves_stops_costing_work(live_grpc: Live) -> None:
    """Its call is cancelled and counted as that, and nothing stays in flight."""
    requests = f"anomaly_requests_total route={INFER} status=499"

    def counted() -> dict[str, float]:
        return live_grpc.service.metrics()

    before = counted().get(requests, 0)
    with connect(live_grpc.address) as client:
        call = client.channel.stream_unary(INFER)
        sent, ended = threading.Event(), threading.Event()

        def messages() -> Iterator[bytes]:
            sent.set()
            ended.wait(TIMEOUT_S)
            yield from ()

        future = call.future(messages(), timeout=TIMEOUT_S)
        assert sent.wait(TIMEOUT_S)
        client.call("ServerLive")
        future.cancel()
        ended.set()
    wait_until(lambda: counted().get(requests, 0) == before + 1)
    assert counted()["anomaly_inflight_requests"] == 0


def test_clients_that_leave_while_they_are_scored_count_as_that(live_grpc: Live) -> None:
    """Their work ends with an error, which is sent to no client."""
    events = sample_events(20_000)
    statuses = [f"anomaly_requests_total route={INFER} status={status}" for status in (200, 499, 503)]

    def counted() -> list[int]:
        metrics = live_grpc.service.metrics()
        return [int(metrics.get(status, 0)) for status in statuses]

    before = counted()
    with connect(live_grpc.address) as client:
        call = client.channel.unary_unary(INFER, lambda request: request.SerializeToString())
        futures = [call.future(infer_request(events, typed=True), timeout=TIMEOUT_S) for _ in range(16)]
        futures[0].result()
        for future in futures:
            future.cancel()
    wait_until(lambda: sum(counted()[:2]) - sum(before[:2]) == len(futures))
    assert counted()[1] > before[1]
    assert counted()[2] == before[2]


@pytest.mark.slow
def test_a_message_that_never_comes_is_given_up(live_grpc: Live) -> None:
    """After --request-s, which is 5 here."""

    async def call() -> bytes:
        connection = await Connection.open(live_grpc.address)
        stream = await connection.begin(INFER, 1000)
        async with asyncio.timeout(TIMEOUT_S):
            while stream not in connection.ended:
                await asyncio.sleep(0.05)
        await connection.close()
        return next(one.payload for one in connection.received if one.kind == HEADERS and one.flags & END_STREAM)

    trailers = asyncio.run(call())
    assert b"grpc-status\x014" in trailers  # DEADLINE_EXCEEDED


async def hold(
    address: str, n_connections: int, n_streams: int, n_bytes: int, source: str = "127.0.0.1"
) -> list[Connection]:
    """Open connections whose streams each send so many bytes of the longest message, and no more."""
    connections = [await Connection.open(address, source) for _ in range(n_connections)]
    for connection in connections:
        for _ in range(n_streams):
            connection.unsent[await connection.begin(INFER, MESSAGE_BYTES)] = n_bytes
    while any(
        left and stream not in connection.ended
        for connection in connections
        for stream, left in connection.unsent.items()
    ):
        for connection in connections:
            for stream, left in connection.unsent.items():
                connection.unsent[stream] = left - await connection.send_data(stream, left)
                if stream in connection.ended:
                    connection.unsent[stream] = 0
        await asyncio.sleep(0)
    return connections


def test_slow_messages_are_counted_and_the_clients_with_most_lose_theirs(model_path: Path) -> None:
    """As many may be slow as have room; the oldest of more are UNAVAILABLE, but not those of another address."""
    limit = ("--max-inflight-bytes", str(4 * MESSAGE_BYTES))
    with grpc_service(model_path, *limit) as (_, address), connect(address) as client:

        async def attack() -> Counter[bool]:
            connections = await hold(address, 1, 2, 20_000, source="127.0.0.2")
            connections += await hold(address, 2, 4, 20_000)
            await asyncio.sleep(2 * SLOW_S + 2 * CHECK_S)
            async with asyncio.timeout(TIMEOUT_S):
                while sum(len(one.ended) for one in connections) < 6:
                    await asyncio.sleep(0.05)
            assert code(client, 100) is CODES.OK
            refusals = [one for connection in connections for one in connection.received if one.kind == HEADERS]
            assert all(UNAVAILABLE in one.payload or one.payload[:1] == b"\x88" for one in refusals)
            assert not connections[0].ended
            ended = Counter(stream in one.ended for one in connections for stream in one.unsent)
            for one in connections:
                await one.close()
            return ended

        assert asyncio.run(attack()) == {True: 6, False: 4}


@pytest.mark.slow
@pytest.mark.serial
def test_the_longest_messages_sent_slowly_take_bounded_memory(model_path: Path) -> None:
    """16 connections with 16 streams of 16 MiB, all but the last bytes sent, would take 4 GiB."""
    with grpc_service(model_path) as (service, address), connect(address) as client:
        forget_peak([service.pid])

        async def attack() -> int:
            connections = await hold(address, 16, 16, MESSAGE_BYTES - 1)
            n_ended = sum(len(one.ended) for one in connections)
            for one in connections:
                await one.close()
            return n_ended

        assert asyncio.run(attack()) == 240
        assert peak_mb([service.pid]) < 1000
        assert code(client, 100) is CODES.OK


def test_a_bomb_of_metadata_is_refused(live_grpc: Live) -> None:
    """Beyond the limit of a request head."""
    with connect(live_grpc.address) as client:
        for n_bytes, expected in ((4000, CODES.OK), (40_000, CODES.RESOURCE_EXHAUSTED)):
            try:
                client.call("ServerLive", metadata=(("a", "b" * n_bytes),))
                found = CODES.OK
            except grpc.RpcError as error:
                found = error.code()
            assert found is expected


@pytest.mark.slow
def test_a_service_that_was_stopped_ends_no_call(model_path: Path) -> None:
    """After SIGSTOP and SIGCONT, messages that wait are none of slow clients."""
    limit = ("--max-inflight-bytes", str(MESSAGE_BYTES))
    with grpc_service(model_path, *limit) as (service, address):

        async def stopped() -> None:
            connections = await hold(address, 1, 8, 10)
            service.signal(signal.SIGSTOP)
            await asyncio.sleep(2 * SLOW_S)
            for one in connections:
                for stream in one.unsent:
                    await one.send_data(stream, 100)
            service.signal(signal.SIGCONT)
            with connect(address) as client:
                assert client.call("ServerLive").live
            for one in connections:
                await one.close()

        asyncio.run(stopped())

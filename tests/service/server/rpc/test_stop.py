"""Start, drain and stop of gRPC, with one worker and with several."""

import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.api.open_inference.grpc_calls import SERVICE
from tests.artefacts import sample_events, with_metadata, write_artefact
from tests.live import TIMEOUT_S, live_service, starting_service, wait_until
from tests.service.server.processes import children
from tests.service.server.rpc.client import CODES, Client, connect, grpc_service, infer_request

pytestmark = [pytest.mark.process, pytest.mark.slow]

SERVING, NOT_SERVING = 1, 2


def code(client: Client, n_events: int = 1) -> grpc.StatusCode:
    """Score events, and return how the call ended."""
    try:
        scores = client.scores(sample_events(n_events))
    except grpc.RpcError as error:
        found: grpc.StatusCode = error.code()
        return found
    assert len(scores) == n_events
    return CODES.OK


def test_a_drain_goes_on_scoring_and_tells_those_who_watch(model_path: Path) -> None:
    """The health is NOT_SERVING at once, by Watch and by Check; calls are answered until the drain ends."""
    with grpc_service(model_path, "--drain-s", "60") as (service, address), connect(address) as client:
        health = health_pb2_grpc.HealthStub(client.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        assert next(watch).status == SERVING
        service.signal(signal.SIGTERM)
        assert next(watch).status == NOT_SERVING
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S).status == NOT_SERVING
        assert not client.call("ServerReady").ready
        [entry] = client.call("RepositoryIndex").models
        assert (entry.state, entry.reason) == ("UNAVAILABLE", "draining")
        assert code(client) is CODES.OK
        service.signal(signal.SIGTERM)  # the second ends the drain
        assert list(watch) == []
        assert service.process.wait(TIMEOUT_S) == 0
        assert service.log_levels == {"INFO"}


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_every_call_has_an_end_when_the_service_stops_under_load(model_path: Path, workers: str) -> None:
    """It is a score, or UNAVAILABLE, which clients send again; those with a score are as many as the service counts."""
    with grpc_service(model_path, "--workers", workers, "--access-log") as (service, address):
        ended: Counter[grpc.StatusCode] = Counter()
        lock, scored, gone = threading.Lock(), threading.Event(), threading.Event()

        def ask(n_events: int) -> None:
            with connect(address) as client:
                while not gone.is_set():
                    found = code(client, n_events)
                    with lock:
                        ended[found] += 1
                    if ended[CODES.OK] > 300:
                        scored.set()
                    if found is not CODES.OK:
                        return

        threads = [threading.Thread(target=ask, args=(n_events,)) for n_events in (1, 1, 1, 1, 500, 5000)]
        for thread in threads:
            thread.start()
        assert scored.wait(TIMEOUT_S)
        service.signal(signal.SIGTERM)
        status = service.process.wait(TIMEOUT_S)
        gone.set()
        for thread in threads:
            thread.join(TIMEOUT_S)
        assert status == 0
        assert set(ended) <= {CODES.OK, CODES.UNAVAILABLE}
        statuses = Counter(line["status"] for line in service.events("request"))
        assert statuses[200] == ended[CODES.OK]
        assert "Traceback" not in service.log_text


def test_streams_end_when_the_service_stops(model_path: Path) -> None:
    """One that waits for its next request does not hold the service up; it ends with UNAVAILABLE."""
    with grpc_service(model_path) as (service, address), connect(address) as client:
        requests: Queue[object] = Queue()
        requests.put(infer_request(sample_events(2)))
        responses = client.stream(iter(requests.get, None))
        assert not next(responses).error_message
        service.signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            next(responses)
        assert caught.value.code() is CODES.UNAVAILABLE
        assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
        assert service.process.wait(TIMEOUT_S) == 0
        requests.put(None)


@pytest.mark.parametrize(("shutdown_s", "signals"), [("1", 1), ("3600", 2)])
def test_a_call_that_does_not_end_is_given_the_time_of_the_setting(
    model_path: Path, shutdown_s: str, signals: int
) -> None:
    """A message that never comes holds the stop up for that time, or until another signal."""
    with grpc_service(model_path, "--shutdown-s", shutdown_s) as (service, address), connect(address) as client:
        sent, ended = threading.Event(), threading.Event()

        def messages() -> Iterator[bytes]:
            sent.set()
            ended.wait(TIMEOUT_S)
            yield from ()

        call = client.channel.stream_unary(f"/{SERVICE}/ModelInfer")
        result = call.future(messages(), timeout=TIMEOUT_S)
        assert sent.wait(TIMEOUT_S)
        assert client.call("ServerLive").live  # the other call has arrived before
        for _ in range(signals):
            service.signal(signal.SIGTERM)
            service.wait_for("Shutting down")
        assert service.process.wait(TIMEOUT_S) == 0
        with pytest.raises(grpc.RpcError) as caught:
            result.result(TIMEOUT_S)
        assert caught.value.code() is CODES.UNAVAILABLE
        ended.set()


@pytest.mark.slow
def test_workers_share_the_port_and_one_that_dies_is_replaced(model_path: Path) -> None:
    """Connections reach each worker, and another one that takes its place."""
    with grpc_service(model_path, "--workers", "2") as (service, address):

        def requests_by_pid() -> dict[str, float]:
            counts = service.metrics()
            return {name: value for name, value in counts.items() if name.startswith("anomaly_worker_requests")}

        def reach_both() -> bool:
            with connect(address) as client:
                assert code(client) is CODES.OK
            return len([value for value in requests_by_pid().values() if value]) >= 2

        wait_until(reach_both)
        victim = int(next(iter(requests_by_pid())).rpartition("=")[2])
        subprocess.run(["kill", "-9", str(victim)], check=True)
        service.wait_for("worker died; another is started")
        wait_until(lambda: all(pid != victim for pid in children(service.pid)) and len(requests_by_pid()) == 2)
        for _ in range(20):
            with connect(address) as client:
                assert code(client) is CODES.OK
        assert service.stop() == 0


def test_a_new_model_is_used_by_the_next_call(tmp_path: Path) -> None:
    """Over the connections that there are."""
    model = write_artefact(tmp_path / "model.onnx")
    with grpc_service(model) as (service, address), connect(address) as client:
        first = client.infer(sample_events(1)).parameters["model_identity"].string_param
        write_artefact(model, with_metadata(code_version="0.2.0"))
        service.signal(signal.SIGHUP)
        service.wait_for("model loaded")
        second = client.infer(sample_events(1)).parameters["model_identity"].string_param
        assert second != first
        assert second == httpx.get(f"{service.base_url}/model", timeout=TIMEOUT_S).json()["identity"]


def test_the_port_is_checked_at_the_start(model_path: Path) -> None:
    """One that another process has is refused, also one that it shares with its workers, as is a missing package."""
    with grpc_service(model_path) as (_, address):
        port = address.rpartition(":")[2]
        with starting_service(model_path, "--grpc-port", port) as second:
            assert second.process.wait(TIMEOUT_S) == 1
            [line] = second.events("cannot listen")
            assert line["detail"].startswith(f"127.0.0.1:{port}: Address already in use")
            assert line["detail"].endswith("choose another --host or --grpc-port")


def test_without_grpcio_the_service_runs_and_says_what_is_missing(model_path: Path, tmp_path: Path) -> None:
    """The package is needed by that setting alone."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['grpc'] = None\n")
    env = {"PYTHONPATH": str(tmp_path)}
    with live_service(model_path, env=env) as service:
        assert service.get("/health").status_code == 200
    with starting_service(model_path, "--grpc-port", "0", env=env) as service:
        assert service.process.wait(TIMEOUT_S) == 1
        [line] = service.events("cannot serve gRPC")
        assert line["detail"] == "--grpc-port needs the package grpcio: pip install 'lhc-anomaly[grpc]'"

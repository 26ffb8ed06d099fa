"""HAProxy and Envoy with the files of `deploy/`: no request is lost, and no refusal is repeated."""

import http.client
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.load.formats import RAW
from benchmarks.targets.balancers import (
    ENVOY,
    HAPROXY,
    KINDS,
    PLACEHOLDERS,
    Kind,
    configuration,
    find_program,
    find_site,
)
from service.api.open_inference.grpc_calls import INFER
from service.api.open_inference.messages import message
from service.client import Options
from tests.artefacts import RTOL, oracle, sample_events, write_artefact
from tests.deploy.farm import Farm, farm
from tests.deploy.scoring_load import MODELS, Expected, Load, loading
from tests.live import TIMEOUT_S
from tests.service.server.exchange import LONG_TIMEOUTS, Connection, begin
from tests.service.server.rpc.client import connect, infer_request, read_scores

pytestmark = [pytest.mark.process, pytest.mark.slow]

FIRST_TRY = Options(retries=0)
FEW_EVENTS = 100
REFUSALS = 20
STREAMS = 64


def installed(kind: Kind) -> str:
    """Give the program of a balancer, or skip the test."""
    program = find_program(kind)
    if program is None:
        pytest.skip(f"{kind.program} is not installed: {kind.remedy}")
    return program


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Choose a balancer."""
    chosen = KINDS[request.param]
    installed(chosen)
    return chosen


@pytest.fixture(scope="module")
def expected() -> Expected:
    """Score the events offline."""
    return Expected()


@pytest.fixture(scope="module")
def scorers(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Serve the shipped model twice behind the balancer."""
    folder = tmp_path_factory.mktemp("served")
    served = [Path(shutil.copy(MODELS[0], folder / f"{place}.onnx")) for place in range(2)]
    with farm(kind, *served, flags=("--drain-s", "5", "--served-name", "anomaly")) as found:
        yield found


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (HAPROXY, "retry-on conn-failure", "retry-on con-failure"),
        (HAPROXY, "http-reuse always", "http-reuses always"),
        (HAPROXY, "error-limit 5", "errors-limit 5"),
        (ENVOY, "num_retries", "number_retries"),
        (ENVOY, "healthy_panic_threshold", "panic_threshold"),
        (ENVOY, "FULL_SCAN", "FULLSCAN"),
    ],
)
def test_the_file_is_valid_and_a_misspelt_word_is_not(kind: Kind, right: str, wrong: str, tmp_path: Path) -> None:
    """The program itself says so, without a warning."""
    text = kind.file.read_text()
    assert all(address in text for address in PLACEHOLDERS)
    changed = tmp_path / kind.file.name
    changed.write_text(text.replace(right, wrong))
    command = [installed(kind), *kind.check]
    good = subprocess.run([*command, kind.file], capture_output=True, text=True, check=True)
    assert "warning" not in (good.stdout + good.stderr).lower()
    assert subprocess.run([*command, changed], capture_output=True, check=False).returncode != 0


def test_the_file_of_the_benchmark_is_valid(kind: Kind, tmp_path: Path) -> None:
    """One server after the other, on addresses of this process."""
    text = configuration(kind, find_site(), kind.round_robin)
    assert not any(address in text for address in PLACEHOLDERS)
    assert "least" not in "".join(line.partition("#")[0] for line in text.splitlines())
    changed = tmp_path / kind.file.name
    changed.write_text(text)
    subprocess.run([installed(kind), *kind.check, changed], capture_output=True, check=True)


def check(load: Load) -> None:
    """Require that every call was answered, by the model that the answer names."""
    for kind, outcomes in load.outcomes.items():
        assert outcomes.errors == [], kind
        assert (outcomes.answered, outcomes.wrong) == (outcomes.sent, 0), kind


def test_a_server_that_drains_costs_no_error(scorers: Farm, expected: Expected) -> None:
    """Clients that send each request once see none, while a server drains, ends and starts again."""
    with loading(scorers.urls, expected, FIRST_TRY) as load:
        load.wait()
        assert scorers.services[0].stop() == 0
        load.wait()
        scorers.restart(0)
        load.wait()
    check(load)


def test_a_server_that_is_killed_costs_retries_alone(scorers: Farm, expected: Expected) -> None:
    """What it had received is sent again by the clients, and the balancer leaves it alone until it is back."""
    with loading(scorers.urls, expected, Options()) as load:
        load.wait()
        scorers.services[1].signal(signal.SIGKILL)
        scorers.services[1].process.wait()
        load.wait()
        scorers.restart(1)
        load.wait()
    check(load)


def test_models_are_replaced_without_an_error(scorers: Farm, expected: Expected) -> None:
    """Every answer names the model whose scores it has, while the servers have different ones."""
    with loading(scorers.urls, expected, FIRST_TRY) as load:
        load.wait(expected.models[0])
        for service, served in zip(scorers.services, scorers.models, strict=True):
            Path(shutil.copy(MODELS[1], served.with_suffix(".new"))).rename(served)
            service.signal(signal.SIGHUP)
            load.wait(expected.models[1])
    check(load)


def test_the_id_of_a_request_passes(scorers: Farm) -> None:
    """The client's id comes back with the response, and none is made."""
    url = f"{scorers.balancer.base_url}/health"
    assert httpx.get(url, headers={"X-Request-Id": "abc"}, timeout=TIMEOUT_S).headers["x-request-id"] == "abc"
    assert "x-request-id" not in httpx.get(url, timeout=TIMEOUT_S).headers


def test_limits_and_routes(scorers: Farm) -> None:
    """A body that is too long has the service's own response; the metrics of one server are not those of all."""
    url = httpx.URL(scorers.balancer.base_url)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=TIMEOUT_S)
    connection.putrequest("POST", "/score/batch")
    connection.putheader("Content-Type", RAW.media_type)
    connection.putheader("Content-Length", str(2**30))
    connection.endheaders(bytes(1000))
    response = connection.getresponse()
    assert response.status == 413
    assert b"expected at most" in response.read()
    connection.close()
    for path, status in (("/metrics", 404), ("/health", 200), ("/model", 200)):
        assert httpx.get(f"{url}{path}", timeout=TIMEOUT_S).status_code == status


def test_calls_on_one_connection_go_to_both_servers(kind: Kind, tmp_path: Path) -> None:
    """More of them at once than a server takes on a connection are all answered."""
    model = write_artefact(tmp_path / "model.onnx")
    with farm(kind, model, model) as scorers, connect(scorers.balancer.grpc_address) as client:
        call = client.channel.unary_unary(INFER, None, message("inference.ModelInferResponse").FromString)
        batches = [sample_events(10, seed=seed) for seed in range(STREAMS)]
        calls = [call.future(infer_request(events).SerializeToString(), timeout=TIMEOUT_S) for events in batches]
        for events, answer in zip(batches, calls, strict=True):
            np.testing.assert_allclose(read_scores(answer.result()), oracle(events), RTOL)
        assert all(service.metrics()["anomaly_events_scored_total"] > 0 for service in scorers.services)


def test_a_refusal_is_neither_repeated_nor_held_against_the_server(kind: Kind, tmp_path: Path) -> None:
    """The client gets each 503 with Retry-After, and both servers stay in use."""
    model = write_artefact(tmp_path / "model.onnx")
    flags = ("--max-inflight-events", str(FEW_EVENTS), *LONG_TIMEOUTS)
    body = RAW.write("events", sample_events(FEW_EVENTS))
    refused = "anomaly_requests_total route=/score/batch status=503"
    with farm(kind, model, model, flags=flags) as scorers:
        url = f"{scorers.balancer.base_url}/score/batch"
        first, second = scorers.services
        with Connection(first) as one, Connection(second) as other, httpx.Client(timeout=TIMEOUT_S) as client:
            for busy in (one, other):
                begin(busy, FEW_EVENTS)
            for _ in range(REFUSALS):
                response = client.post(url, content=body, headers={"Content-Type": RAW.media_type})
                assert response.status_code == 503
                assert response.headers["Retry-After"]
            assert sum(service.metrics()[refused] for service in scorers.services) == REFUSALS
            assert scorers.balancer.retries() == {"http": 0, "grpc": 0}
            assert scorers.balancer.healthy() == {"http": 2, "grpc": 2}

"""The container image: built from the Containerfile, run as its user on a root that is not written to, and asked.

All tests are slow: the first build takes minutes and needs a network; build/image keeps what can be used again.
"""

import json
import os
import shutil
import signal
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.deploy.container import ROOT, Container, RunningContainer, build, unpacked
from tests.live import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.process]

MODEL = ROOT / "exported" / "autoencoder.onnx"
EVENT = [-1205.6, 641.3, 88.1, 212.4, 160.2, 58.1, 33.0, 1188.2, -655.9, 402.7, 95.3, 41.8, 25.7, 18.2]
LARGEST_MB = 500


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """Build the image and lay it into a folder."""
    missing = [program for program in ("buildah", "mmdebstrap", "unshare", "setpriv") if not shutil.which(program)]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"the image is built by root with Debian's buildah and mmdebstrap; missing: {missing or 'root'}")
    name, size, unit = build().split()
    print(f"{name} has {size} {unit}")
    assert (name, unit) == ("localhost/lhc-anomaly:latest", "MB")
    assert float(size) < LARGEST_MB
    with unpacked() as made:
        yield made


@pytest.fixture(scope="module")
def running(container: Container) -> Iterator[RunningContainer]:
    """Run it with gRPC, on free ports."""
    env = {"ANOMALY_HOST": "127.0.0.1", "ANOMALY_PORT": "0", "ANOMALY_GRPC_PORT": "0", "ANOMALY_WORKERS": "1"}
    with container.serving({**env, "ANOMALY_DRAIN_S": "3"}) as service:
        yield service


def test_it_says_how_to_run_it(container: Container) -> None:
    """User, port, command and folder are in the image, and nothing of the machine that built it."""
    config = container.config
    assert config["User"] == "10001"
    assert list(config["ExposedPorts"]) == ["8000/tcp"]
    assert config["Entrypoint"] == ["/venv/bin/python", "-m", "service"]
    names = {variable.partition("=")[0] for variable in config["Env"]}
    assert names == {"PATH", "ANOMALY_HOST", "ANOMALY_PORT", "PYTHONDONTWRITEBYTECODE"}
    for mounted in ("etc/pip.conf", "etc/ssl/certs/ca-certificates.crt"):
        path = container.root / mounted
        assert not path.exists() or not path.read_text()


def test_it_holds_the_service_alone(container: Container) -> None:
    """There is no pip, no compiler, no offline half and no test, and a bill of materials of what there is."""
    for command in ("import pip", "import training", "import torch", "import pytest"):
        assert "ModuleNotFoundError" in container.run("/venv/bin/python", "-c", command).stderr
        assert container.run("python", "-c", command).returncode == 1
    assert container.run("gcc", "--version").returncode == 127
    assert container.run("/venv/bin/python", "-c", "import service.formats._json_rows, grpc").returncode == 0
    packages = {one["name"] for one in json.loads((container.root / "app/sbom.json").read_text())["components"]}
    assert {"onnxruntime", "litestar", "grpcio"} <= packages


def test_it_runs_without_rights(container: Container) -> None:
    """The user is not root, has no capabilities and cannot write anywhere."""
    status = "grep -E '^(Cap(Prm|Eff)|NoNewPrivs)' /proc/self/status"
    done = container.run("sh", "-c", f"id -u; {status}; touch /app/x /tmp/x")
    assert done.stdout.split() == ["10001", "CapPrm:", "0" * 16, "CapEff:", "0" * 16, "NoNewPrivs:", "1"]
    assert done.stderr.count("Read-only file system") == 2


def test_it_scores_as_this_checkout_does(running: RunningContainer) -> None:
    """One event has the same score to the last bit, of the same model."""
    artefact = load_artefact(MODEL)
    [expected] = Scorer(artefact).score(np.array([EVENT], np.float32))
    response = running.post("/score", json.dumps({"features": EVENT}).encode(), "application/json")
    assert np.float32(response.json()["anomaly_score"]) == expected
    assert response.headers["Model-Version"] == artefact.identity


def test_it_is_probed(running: RunningContainer) -> None:
    """Health is good over HTTP, in /v2 and over gRPC."""
    assert running.get("/health").json() == {"status": "ok"}
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert running.get(path).status_code == 200
    with grpc.insecure_channel(running.wait_for("ready")["grpc_address"]) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_its_health_check_reads_the_settings(container: Container, running: RunningContainer) -> None:
    """The command of the Containerfile's HEALTHCHECK knows the port from the environment."""
    port = str(running.address[1])
    check = ("/venv/bin/python", "-m", "service", "healthcheck")
    done = container.run(*check, env={"ANOMALY_PORT": port})
    assert (done.returncode, done.stderr) == (0, "")
    assert container.run(*check, env={"ANOMALY_PORT": "1"}).returncode == 1


def test_it_drains_at_sigterm(running: RunningContainer) -> None:
    """As process 1 it goes on to score while /health is 503, and then ends with status 0."""
    running.signal(signal.SIGTERM)
    running.wait_until_health_is(503)
    response = running.post("/score", json.dumps({"features": EVENT}).encode(), "application/json")
    assert response.status_code == 200
    wait_until(lambda: running.process.poll() is not None)
    assert running.process.returncode == 0

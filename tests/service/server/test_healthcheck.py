"""The health check of a container tells whether the service takes requests."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from tests.live import LiveService, live_service
from tests.service.security.certificates import CertificateFiles
from tests.service.server.exchange import score

pytestmark = pytest.mark.process


def probe(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the health check with these flags, and with these variables and no others."""
    command = [sys.executable, "-m", "service", "healthcheck", *flags]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)


def port(service: LiveService) -> str:
    """Return the port that the service listens on."""
    return str(service.address[1])


@pytest.fixture
def free_port() -> str:
    """Find a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def test_a_service_that_takes_requests_is_healthy(live: LiveService) -> None:
    """It asks the port of the environment, on whatever address the service listens, and no proxy."""
    for host in ("127.0.0.1", "0.0.0.0"):
        done = probe(ANOMALY_HOST=host, ANOMALY_PORT=port(live), http_proxy="http://127.0.0.1:1")
        assert (done.returncode, done.stderr) == (0, "")


def test_it_imports_nothing_that_serving_needs(live: LiveService) -> None:
    """It runs every few seconds beside the service, so it leaves out the runtime, NumPy and the server's packages."""
    script = f"""
import sys
sys.modules |= dict.fromkeys(["litestar", "numpy", "onnx", "onnxruntime", "prometheus_client", "uvicorn"])
from service.__main__ import main
sys.exit(main(["healthcheck", "--port", "{port(live)}"]))
"""
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)


def test_a_port_without_a_listener_is_not_healthy(free_port: str) -> None:
    """Without a response it fails and names the address."""
    done = probe(ANOMALY_PORT=free_port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: no response from 127.0.0.1:{free_port}: ")


def test_a_service_that_drains_is_not_healthy(model_path: Path) -> None:
    """For --drain-s after SIGTERM the probe and load balancers see 503, and clients scores; a second one ends it."""
    with live_service(model_path, "--drain-s", "3600") as service:
        service.signal(signal.SIGTERM)
        assert service.wait_until_health_is(503).json() == {"status_code": 503, "detail": "draining"}
        done = probe("--port", port(service))
        assert (done.returncode, done.stderr) == (1, "error: /health is 503, expected 200\n")
        assert score(service).status_code == 200
        assert service.stop() == 0


@pytest.mark.slow
def test_a_service_with_tls_is_healthy(model_path: Path, tmp_path: Path, free_port: str) -> None:
    """It speaks TLS where the service does, and does not verify the certificate, which no system trusts.

    Where clients need certificates of their own, the operations port responds without one.
    """
    files = CertificateFiles.issue(trustme.CA(), tmp_path)
    flags = (*files.flags, "--tls-client-ca", str(files.client_ca))
    with live_service(model_path, *files.flags) as service:
        done = probe("--port", port(service), *files.flags)
        assert (done.returncode, done.stderr) == (0, "")
        assert probe("--port", port(service)).returncode == 1
    with live_service(model_path, *flags, "--ops-port", free_port) as service:
        assert probe("--port", port(service), *flags, "--ops-port", free_port).returncode == 0
        assert probe("--port", port(service), *flags).returncode == 1

"""The health check of a container tells whether the service takes requests."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from tests.live import LiveService, live_service

pytestmark = pytest.mark.process


def probe(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the health check with these flags, and with these variables and no others."""
    command = [sys.executable, "-m", "service", "healthcheck", *flags]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)


def port(service: LiveService) -> str:
    """Give the port that the service listens on."""
    return str(service.address[1])


@pytest.fixture
def free_port() -> str:
    """Find a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


@pytest.fixture
def tls(tmp_path: Path) -> tuple[str, ...]:
    """Write a certificate that no system trusts, its key and its authority; give the flags that name the former two."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    authority.issue_cert("events.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "service.pem")
    return ("--tls-certificate", str(tmp_path / "service.pem"), "--tls-key", str(tmp_path / "service.pem"))


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
    """It fails from SIGTERM on, while the service still scores, so that no more is sent there."""
    with live_service(model_path, "--drain-s", "60") as service:
        service.signal(signal.SIGTERM)
        service.wait_until_health_is(503)
        done = probe("--port", port(service))
        assert (done.returncode, done.stderr) == (1, "error: /health is 503, expected 200\n")
        service.signal(signal.SIGTERM)


@pytest.mark.slow
def test_a_service_with_tls_is_healthy(model_path: Path, tmp_path: Path, tls: tuple[str, ...], free_port: str) -> None:
    """It speaks TLS where the service does, and does not verify the certificate, which is for another name.

    Where clients need certificates of their own, the operations port responds without one.
    """
    authority = ("--tls-client-ca", str(tmp_path / "authority.pem"))
    with live_service(model_path, *tls) as service:
        done = probe("--port", port(service), *tls)
        assert (done.returncode, done.stderr) == (0, "")
        assert probe("--port", port(service)).returncode == 1
    with live_service(model_path, *tls, *authority, "--ops-port", free_port) as service:
        flags = ("--port", port(service), *tls, *authority)
        assert probe(*flags, "--ops-port", free_port).returncode == 0
        assert probe(*flags).returncode == 1

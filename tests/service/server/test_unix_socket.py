"""A Unix domain socket has what the TCP port has."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trustme

from benchmarks.load.formats import JSON, RAW
from tests.artefacts import RTOL, oracle, sample_events
from tests.live import TIMEOUT_S, LiveService, starting_service
from tests.service.security.certificates import HOST, CertificateFiles, client_context

pytestmark = pytest.mark.process
EVENTS = sample_events(300)


def asking(path: Path) -> httpx.Client:
    """Make a client that connects to the socket."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://a", timeout=TIMEOUT_S)


def check_serves(path: Path) -> None:
    """Have events scored, large bodies refused and health answered over a socket."""
    with asking(path) as client:
        for _ in range(4):
            headers = {"Content-Type": RAW.media_type}
            response = client.post("/score/batch", content=EVENTS.tobytes(), headers=headers)
            assert RAW.read("anomaly_scores", response.content) == pytest.approx(oracle(EVENTS), rel=RTOL)
            response = client.post(
                "/score", content=JSON.write("features", EVENTS[0]), headers={"Content-Type": "application/json"}
            )
            assert response.json()["anomaly_score"] == pytest.approx(oracle(EVENTS[:1])[0], rel=RTOL)
            # Its refusal is received though the client still sends.
            refused = client.post("/score/batch", content=bytes(6_000_000), headers={"Content-Type": "text/html"})
            assert refused.status_code == 415
        assert client.get("/health").status_code == 200


def wait_until_ready(service: LiveService, path: Path) -> None:
    """Wait until the service says that it listens there."""
    assert service.wait_for("ready")["url"] == f"unix:{path}"


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_socket_serves_drains_and_is_removed(model_path: Path, tmp_path: Path, workers: str) -> None:
    """It replaces the socket of a process that was killed, is logged and checked by its path, and gone at the end."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    flags = ("--uds", str(path), "--workers", workers, "--drain-s", "3600", "--access-log")
    with starting_service(model_path, *flags) as service:
        wait_until_ready(service, path)
        check_serves(path)
        assert service.wait_for("request")["client"] is None
        health = [sys.executable, "-m", "service", "healthcheck", "--uds", str(path)]
        subprocess.run(health, check=True, timeout=TIMEOUT_S)
        if workers == "2":
            os.kill(service.events("Application startup complete.")[0]["pid"], signal.SIGKILL)
            service.wait_for("Application startup complete.", 3)
            check_serves(path)
        service.signal(signal.SIGTERM)
        with asking(path) as client:
            while client.get("/health").status_code == 200:
                pass
            assert client.get("/health").json()["detail"] == "draining"
        unhealthy = subprocess.run(health, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
        assert (unhealthy.returncode, unhealthy.stderr) == (1, "error: /health is 503, expected 200\n")
        assert service.stop() == 0
        assert not path.exists()


def test_a_path_that_is_taken_is_one_line(model_path: Path, tmp_path: Path) -> None:
    """A socket on which another process listens, another file and a missing directory are named, and left alone."""
    taken, file = tmp_path / "taken", tmp_path / "file"
    file.write_text("text")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(taken))
        other.listen()
        for path in (taken, file, tmp_path / "missing" / "socket"):
            with starting_service(model_path, "--uds", str(path)) as service:
                assert service.process.wait(TIMEOUT_S) == 1
                [line] = service.events("cannot listen")
                assert line["detail"].startswith(f"{path}: ")
                assert line["detail"].endswith("; choose another --uds")
    assert taken.exists()
    assert file.read_text() == "text"


@pytest.mark.slow
def test_a_socket_with_tls(model_path: Path, tmp_path: Path) -> None:
    """With a certificate the socket speaks TLS."""
    path, authority = tmp_path / "socket", trustme.CA()
    files = CertificateFiles.issue(authority, tmp_path)
    with starting_service(model_path, "--uds", str(path), *files.flags) as service:
        wait_until_ready(service, path)
        transport = httpx.HTTPTransport(uds=str(path), verify=client_context(authority))
        with httpx.Client(transport=transport, base_url=f"https://{HOST}", timeout=TIMEOUT_S) as client:
            assert client.get("/health").status_code == 200
        health = [sys.executable, "-m", "service", "healthcheck", "--uds", str(path), *files.flags]
        subprocess.run(health, check=True, timeout=TIMEOUT_S)
        assert service.stop() == 0

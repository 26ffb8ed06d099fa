"""A Unix domain socket has what the TCP port has."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trustme

from benchmarks.load.formats import JSON, RAW
from benchmarks.targets.processes import sockets
from service.security.api_keys import add_key, remove_keys
from tests.artefacts import RTOL, oracle, sample_events
from tests.live import TIMEOUT_S, LiveService, starting_service, wait_until
from tests.service.reload.models import make, put
from tests.service.security.certificates import HOST, CertificateFiles, client_context

pytestmark = pytest.mark.process
EVENTS = sample_events(300)


def asking(path: Path) -> httpx.Client:
    """Make a client that connects to the socket."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://a", timeout=TIMEOUT_S)


def check_serves(path: Path) -> None:
    """Score events, have large bodies refused and ask for the health over a socket."""
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


@pytest.mark.slow
def test_a_path_that_is_taken_is_one_line(model_path: Path, tmp_path: Path) -> None:
    """A socket on which another process listens, another file and a missing directory are named, and left alone.

    The other process may accept no connections, and so many clients may wait that there is no room for another.
    """
    taken, file = tmp_path / "taken", tmp_path / "file"
    file.write_text("text")
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(str(taken))
        other.listen(0)
        waiting.connect(str(taken))
        for path in (taken, file, tmp_path / "missing" / "socket"):
            with starting_service(model_path, "--uds", str(path)) as service:
                assert service.process.wait(TIMEOUT_S) == 1
                [line] = service.events("cannot listen")
                assert line["detail"].startswith(f"{path}: ")
                assert line["detail"].endswith("; choose another --uds")
    assert taken.exists()
    assert file.read_text() == "text"


@pytest.mark.slow
def test_limits_hold_on_a_socket(model_path: Path, tmp_path: Path) -> None:
    """Sizes, events in flight, connections and timeouts have the limits that they have on a port."""
    path = tmp_path / "socket"
    limits = ("--max-body-bytes", "4000", "--max-header-bytes", "2000", "--max-inflight-events", "100")
    times = ("--max-connections", "4", "--header-s", "3", "--stall-s", "3600", "--request-s", "3600")
    with starting_service(model_path, "--uds", str(path), *limits, *times) as service:
        wait_until_ready(service, path)
        raw = {"Content-Type": RAW.media_type}
        with asking(path) as client, socket.socket(socket.AF_UNIX) as slow, socket.socket(socket.AF_UNIX) as late:
            assert client.post("/score/batch", content=bytes(4020), headers=raw).status_code == 413
            assert client.get("/health", headers={"a": "b" * 2000}).status_code == 431
            for each in (slow, late):
                each.settimeout(TIMEOUT_S)
            slow.connect(str(path))
            slow.sendall(b"POST /score/batch HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n")
            slow.sendall(b"Content-Length: 4000\r\nExpect: 100-continue\r\n\r\n")
            assert slow.recv(1000).startswith(b"HTTP/1.1 100 ")
            slow.sendall(EVENTS.tobytes()[:2000])  # or it would be too slow for others that want its room
            refused = client.post("/score/batch", content=EVENTS.tobytes()[:2000], headers=raw)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            late.connect(str(path))
            late.sendall(b"GET / HTTP/1.1\r\n")
            assert late.recv(1000).startswith(b"HTTP/1.1 408 ")
            slow.sendall(EVENTS.tobytes()[2000:4000])
            assert slow.recv(1000).startswith(b"HTTP/1.1 200 ")
        held = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        try:
            for each in held:
                each.settimeout(TIMEOUT_S)
                each.connect(str(path))
            with asking(path) as client:  # it takes the place of one without a request
                assert client.get("/health").status_code == 200
            wait_until(lambda: sockets(service.pid) < 20)
        finally:
            for each in held:
                each.close()


@pytest.mark.slow
def test_keys_and_models_are_reloaded_on_a_socket(tmp_path: Path) -> None:
    """Several workers behind a socket take a new model and new keys into use, and refuse requests without a key."""
    first, second = (make(tmp_path / f"model{place}.onnx", 4.0**place) for place in range(2))
    path, served, keys = tmp_path / "socket", tmp_path / "served.onnx", tmp_path / "keys"
    put(first, served)
    old_key = add_key("old", keys)
    flags = ("--uds", str(path), "--workers", "2", "--api-keys", str(keys))

    def answers(key: str) -> set[str]:
        """Ask so often that each worker responds: the models that scored, or the statuses of refusals."""
        found = set()
        for _ in range(8):
            with asking(path) as client:
                headers = {"Content-Type": RAW.media_type, "Authorization": f"Bearer {key}"}
                response = client.post("/score/batch", content=EVENTS.tobytes(), headers=headers)
            found.add(response.headers.get("Model-Version", str(response.status_code)))
        return found

    with starting_service(served, *flags) as service:
        wait_until_ready(service, path)
        assert answers(old_key) == {first.identity}
        assert answers("other") == {"401"}
        put(second, served)
        new_key = add_key("new", keys)
        remove_keys("old", keys)
        service.signal(signal.SIGHUP)
        wait_until(lambda: answers(new_key) == {second.identity})
        assert answers(old_key) == {"401"}


def test_who_may_connect(model_path: Path, tmp_path: Path) -> None:
    """The umask of the service decides who may connect, beside the permissions of the directory."""
    path = tmp_path / "socket"
    before = os.umask(0o007)
    try:
        with starting_service(model_path, "--uds", str(path)) as service:
            wait_until_ready(service, path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o770
    finally:
        os.umask(before)


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

"""The operations port, which responds whatever clients do on the main port, and running out of file descriptors."""

import resource
import signal
import socket
import ssl
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import trustme

from benchmarks.load.formats import RAW
from service.server.descriptors import SPARE_DESCRIPTORS
from tests.artefacts import sample_events
from tests.live import TIMEOUT_S, LiveService, live_service
from tests.service.server.exchange import Connection, begin
from tests.service.server.processes import children, wait_until_gone

BODY = RAW.write("features", sample_events(1)[0])
HEADERS = {"Content-Type": RAW.media_type}

pytestmark = pytest.mark.process
workers = pytest.mark.parametrize("n_workers", [1, pytest.param(2, marks=pytest.mark.slow)])


def operations(service: LiveService, path: str) -> httpx.Response:
    """Send a request to the operations port."""
    return httpx.get(f"{service.events('ready')[0]['ops_url']}{path}", timeout=TIMEOUT_S)


def test_operations_have_a_port_of_their_own(model_path: Path) -> None:
    """It has health, metrics and model, of which the main port has health alone; it does not score."""
    with live_service(model_path, "--ops-port", "0") as service:
        assert httpx.post(f"{service.base_url}/score", content=BODY, headers=HEADERS).status_code == 200
        for path in ("/health", "/metrics", "/model"):
            assert operations(service, path).status_code == 200
        assert httpx.get(f"{service.base_url}/health").status_code == 200
        assert httpx.get(f"{service.base_url}/metrics").status_code == 404
        assert httpx.get(f"{service.base_url}/model").status_code == 404
        url = service.events("ready")[0]["ops_url"]
        assert httpx.post(f"{url}/score", content=BODY, headers=HEADERS).status_code == 404
        assert service.stop() == 0
        assert {line["level"] for line in service.log_lines} == {"INFO"}


@workers
def test_the_operations_port_has_neither_tls_nor_the_connection_limit(
    model_path: Path, tmp_path: Path, n_workers: int
) -> None:
    """It responds without TLS while the main port has TLS and more connections than its limit."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    files = ("--tls-certificate", str(tmp_path / "chain.pem"), "--tls-key", str(tmp_path / "key.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    flags = ("--max-connections", "2", "--ops-port", "0", "--workers", str(n_workers))
    with live_service(model_path, *files, *flags) as service, ExitStack() as stack:
        url = httpx.URL(service.base_url)
        for _ in range(8):
            plain = stack.enter_context(service.connect())
            stack.enter_context(context.wrap_socket(plain, server_hostname=url.host))
        for _ in range(8):
            assert operations(service, "/health").json() == {"status": "ok"}
            assert operations(service, "/metrics").status_code == 200
        assert service.stop() == 0
        assert "Traceback" not in service.log_text


@pytest.mark.slow
def test_the_operations_port_responds_during_shutdown(model_path: Path) -> None:
    """While a request in flight delays the shutdown, health is 503 and metrics can be read."""
    with (
        live_service(model_path, "--ops-port", "0", "--workers", "2") as service,
        Connection(service) as connection,
    ):
        rest = begin(connection, 2)
        service.signal(signal.SIGTERM)
        service.wait_for("Waiting for connections to close. (CTRL+C to force quit)")
        assert operations(service, "/health").status_code == 503
        assert operations(service, "/metrics").status_code == 200
        connection.send(rest)
        assert connection.response().status == 200
        assert service.process.wait(TIMEOUT_S) == 0


def servers(service: LiveService) -> list[int]:
    """Find the serving processes."""
    return sorted({line["pid"] for line in service.events("Application startup complete.")})


def allow(pid: int, more: int) -> None:
    """Limit a process to so many more descriptors than it has open."""
    n_open = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(n_open + more, hard), hard))


def cpu_s(pid: int) -> float:
    """Read how long the process has run, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.slow
@workers
def test_without_file_descriptors_clients_wait_and_operations_do_not(model_path: Path, n_workers: int) -> None:
    """Clients without a descriptor are served once there is one; none is lost, and no process spins meanwhile."""
    n_each, n_clients = 4, 24
    request = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
    with live_service(model_path, "--ops-port", "0", "--workers", str(n_workers)) as service, ExitStack() as stack:
        operations(service, "/metrics")
        for pid in servers(service):
            allow(pid, SPARE_DESCRIPTORS + n_each)
        clients = [stack.enter_context(service.connect()) for _ in range(n_clients)]
        for client in clients:
            client.sendall(request % (RAW.media_type.encode(), len(BODY), BODY))
        assert "ulimit -n" in service.wait_for("file descriptors ran out", n_workers)["detail"]
        for _ in range(4 * n_workers):
            assert operations(service, "/health").status_code == 200
            assert operations(service, "/metrics").status_code == 200
        pids = [service.process.pid, *children(service.process.pid)]
        before, began = sum(map(cpu_s, pids)), time.monotonic()
        while time.monotonic() - began < 1:
            time.sleep(0.1)
        assert sum(map(cpu_s, pids)) - before < 0.5
        served: set[socket.socket] = set()
        deadline = time.monotonic() + TIMEOUT_S
        while len(served) < n_clients:
            assert time.monotonic() < deadline
            for client in set(clients) - served:
                client.setblocking(False)
                try:
                    response = client.recv(4096)
                except BlockingIOError:
                    continue
                assert response.startswith(b"HTTP/1.1 200 OK")
                served.add(client)
                client.close()  # which frees a descriptor for the next
            time.sleep(0.02)
        assert len(service.events("file descriptors ran out")) == n_workers
        assert service.stop() == 0
        assert "Traceback" not in service.log_text


def test_the_file_descriptor_limit_is_raised_for_the_connections(model_path: Path) -> None:
    """A soft limit that is too low for --max-connections is raised, up to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with live_service(model_path, "--max-connections", "1000") as service:
            raised, _ = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
            assert raised >= 1000 + SPARE_DESCRIPTORS
            assert service.stop() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until_gone(service.process.pid)

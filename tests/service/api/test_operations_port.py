"""The operations port, which responds whatever clients do on the main port, and running out of file descriptors."""

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import httpx
import pytest
import trustme
from litestar.testing import TestClient

from benchmarks.load.formats import RAW
from service.api.app import create_app
from service.model.artefact import Artefact
from service.server.descriptors import SPARE_DESCRIPTORS
from service.settings import Settings
from tests.artefacts import sample_events
from tests.live import TIMEOUT_S, LiveService, live_service
from tests.service.security.certificates import HOST, CertificateFiles, client_context
from tests.service.server.exchange import Connection, begin, post
from tests.service.server.processes import children, limit_descriptors, n_descriptors

workers = pytest.mark.parametrize("n_workers", [1, pytest.param(2, marks=pytest.mark.slow)])


def test_with_an_operations_port_operations_move_there(artefact: Artefact) -> None:
    """Metrics, model and page are on the operations application alone, health on both, all else on the main one."""
    app = create_app(Settings(ops_port=0), artefact)
    assert app.operations is not None
    operations = TestClient(app.operations)
    assert operations.get("/health").status_code == 503  # the model is not loaded yet
    with TestClient(app.main) as client:
        statuses = {path: client.get(path).status_code for path in ("/health", "/docs")}
        assert statuses == {"/health": 200, "/docs": 200}
        for path in ("/", "/dashboard/page.js", "/dashboard/events", "/model", "/metrics"):
            assert (client.get(path).status_code, operations.get(path).status_code) == (404, 200)
        documented = {path for path in client.get("/schema").json()["paths"] if not path.startswith("/v2")}
        assert documented == {"/score", "/score/batch", "/health"}
        client.post("/score", content=b"")
        assert operations.get("/health").status_code == operations.head("/health").status_code == 200
        assert operations.post("/model").status_code == 405
        described = operations.get("/model")
        assert described.json()["identity"] == artefact.identity
        assert described.headers["cache-control"] == "no-store"
        metrics = operations.get("/metrics").text
        assert 'anomaly_requests_total{route="/score",status="415"} 1.0' in metrics
        assert 'anomaly_requests_total{route="/model",status="200"} 2.0' in metrics


def test_the_operations_application_has_nothing_else(artefact: Artefact) -> None:
    """Other paths are a 404 in the form of all errors, which names the routes of this port."""
    operations = TestClient(create_app(Settings(ops_port=0), artefact).operations or pytest.fail("no application"))
    paths = ["/score", "/score/batch", "/docs", "/schema", "/dashboard", "/docs/assets/swagger-ui.css"]
    for method, path in product(("GET", "POST"), paths):
        response = operations.request(method, path)
        assert (response.status_code, response.headers["x-content-type-options"]) == (404, "nosniff")
        detail = f"{path} is not a route of this port, expected one of /, /health, /metrics, /model"
        assert response.json() == {"status_code": 404, "detail": detail}


def test_the_operations_application_needs_no_key(artefact: Artefact, tmp_path: Path) -> None:
    """Keys are for the main port; without an operations port there is no operations application."""
    path = tmp_path / "keys"
    path.write_text(f"alice {'a' * 64}\n")
    app = create_app(Settings(ops_port=0, api_keys=str(path)), artefact)
    assert app.operations is not None
    with TestClient(app.main) as client:
        assert client.get("/model").status_code == 401
        assert TestClient(app.operations).get("/model").status_code == 200
    assert create_app(Settings(), artefact).operations is None


def operations_statuses(service: LiveService) -> set[int]:
    """Send requests to the operations port, to every route."""
    url = service.events("ready")[0]["ops_url"]
    return {
        httpx.get(f"{url}{path}", timeout=TIMEOUT_S, verify=False).status_code
        for path in ("/health", "/metrics", "/model")
    }


@pytest.mark.process
@workers
def test_the_operations_port_has_neither_tls_nor_the_connection_limit(
    model_path: Path, tmp_path: Path, n_workers: int
) -> None:
    """It responds without TLS while the main port has TLS and more connections than its limit."""
    authority = trustme.CA()
    context = client_context(authority)
    files = CertificateFiles.issue(authority, tmp_path)
    flags = ("--max-connections", "2", "--ops-port", "0", "--workers", str(n_workers))
    with live_service(model_path, *files.flags, *flags) as service, ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(context.wrap_socket(stack.enter_context(service.connect()), server_hostname=HOST))
        for _ in range(8):
            assert operations_statuses(service) == {200}
        assert service.stop() == 0
        assert service.log_levels == {"INFO"}


@pytest.mark.process
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
        assert operations_statuses(service) == {200, 503}
        connection.send(rest)
        assert connection.response().status == 200
        assert service.process.wait(TIMEOUT_S) == 0


def cpu_s(pids: Iterable[int]) -> float:
    """Read how long processes have run, in seconds."""
    stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def spins(pids: set[int]) -> bool:
    """Return whether the processes run without a pause, as this one does meanwhile: other load slows down both."""
    before_s, until_s = cpu_s(pids), time.process_time() + 1
    while time.process_time() < until_s:
        pass
    return cpu_s(pids) - before_s > 0.5


@pytest.mark.process
@pytest.mark.slow
@workers
def test_without_file_descriptors_clients_wait_and_operations_do_not(model_path: Path, n_workers: int) -> None:
    """Clients without a descriptor are served once there is one; none is lost, and no process spins meanwhile."""
    request = post(RAW.write("features", sample_events(1)[0]), fmt=RAW)
    with live_service(model_path, "--ops-port", "0", "--workers", str(n_workers)) as service, ExitStack() as stack:
        assert operations_statuses(service) == {200}
        for pid in {line["pid"] for line in service.events("Application startup complete.")}:
            limit_descriptors(pid, n_descriptors(pid) + SPARE_DESCRIPTORS + 4)
        waiting = {stack.enter_context(service.connect()) for _ in range(24)}
        for client in waiting:
            client.sendall(request)
        assert "ulimit -n" in service.wait_for("file descriptors ran out", n_workers)["detail"]
        for _ in range(4 * n_workers):
            assert operations_statuses(service) == {200}
        assert not spins({service.process.pid, *children(service.process.pid)})
        while waiting:
            served, _, _ = select.select(waiting, [], [], TIMEOUT_S)
            assert served
            for client in served:
                assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
                client.close()  # which frees a descriptor for the next
            waiting -= set(served)
        assert len(service.events("file descriptors ran out")) == n_workers
        assert service.stop() == 0
        assert "Traceback" not in service.log_text


@pytest.mark.process
def test_the_file_descriptor_limit_is_raised_for_the_connections(model_path: Path) -> None:
    """A soft limit that is too low for --max-connections is raised, up to the hard limit."""
    before = limit_descriptors(os.getpid(), 256)
    try:
        with live_service(model_path, "--max-connections", "1000") as service:
            assert limit_descriptors(service.process.pid, 2000) >= 1000 + SPARE_DESCRIPTORS
            assert service.stop() == 0
    finally:
        limit_descriptors(os.getpid(), before)


@pytest.mark.process
def test_the_operations_port_may_have_an_address_of_its_own(model_path: Path) -> None:
    """With --ops-host it is on that address alone, whatever the main port listens on."""
    flags = ("--host", "0.0.0.0", "--ops-host", "127.0.0.2", "--ops-port", "0")
    with live_service(model_path, *flags) as service:
        url = httpx.URL(service.events("ready")[0]["ops_url"])
        assert url.host == "127.0.0.2"
        assert httpx.get(f"{url}/metrics", timeout=TIMEOUT_S).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{url.port}/metrics", timeout=TIMEOUT_S)

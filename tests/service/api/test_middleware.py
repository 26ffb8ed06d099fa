"""API keys and the access log."""

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import httpx
import numpy as np
import pytest
from litestar.testing import TestClient

from benchmarks.load.formats import JSON, RAW
from service.api.app import create_app
from service.model.artefact import Artefact
from service.security.api_keys import KeysError, add_key, remove_keys
from service.settings import Settings
from tests.artefacts import oracle, sample_events
from tests.live import LiveService, live_service
from tests.service.server.exchange import Connection, post

pytestmark = pytest.mark.process

TIMEOUT_S = 30
PATHS = ["/score", "/score/batch", "/model", "/metrics", "/docs", "/docs/assets/swagger-ui.css", "/schema"]
PATHS += [
    "/schema/openapi.json",
    "/",
    "/dashboard/events",
    "/nowhere",
    "/health/",
    "//health",
    "/health/../score",
    "/HEALTH",
    "/score/",
]


@pytest.fixture(scope="module")
def keys_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Choose the path of the service's API keys."""
    return tmp_path_factory.mktemp("keys") / "keys"


@pytest.fixture(scope="module")
def key(keys_path: Path) -> str:
    """Create two keys, and give Alice's."""
    add_key("bob", keys_path)
    return add_key("alice", keys_path)


@pytest.fixture(scope="module")
def guarded(model_path: Path, keys_path: Path, key: str) -> Iterator[LiveService]:
    """Serve with API keys and the access log."""
    assert key
    with live_service(model_path, "--api-keys", str(keys_path), "--access-log") as service:
        yield service


@pytest.fixture(scope="module")
def http(guarded: LiveService) -> Iterator[httpx.Client]:
    """Connect a client to it."""
    with httpx.Client(base_url=guarded.base_url, timeout=TIMEOUT_S) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    """Write the header of a key."""
    return {"Authorization": f"Bearer {key}"}


def detail(response: httpx.Response) -> str:
    """Check the form of a 401, and return its detail."""
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"status_code", "detail"}
    assert body["status_code"] == 401
    return str(body["detail"])


def lines_of(service: LiveService, marker: str) -> list[dict[str, object]]:
    """Read the log lines of requests with the marker in their path, once a later request is logged."""
    end = f"/end-of-{marker}"
    httpx.get(service.base_url + end)
    found = service.events("request")
    while not any(line["path"] == end for line in found):
        service.wait_for("request", len(found) + 1)
        found = service.events("request")
    return [line for line in found if marker in str(line["path"]) and line["path"] != end]


def test_the_log_tells_what_was_scored(guarded: LiveService, key: str, artefact: Artefact) -> None:
    """A batch is logged with its events, the length of its body and the model; an error has scored none."""
    body = sample_events(3).tobytes()
    headers = bearer(key) | {"Content-Type": "application/octet-stream"}
    for content in (body, body[:-1]):
        httpx.post(f"{guarded.base_url}/score/batch?events=3", content=content, headers=headers)
    scored, refused = [line for line in lines_of(guarded, "score/batch") if line["status"] in (200, 400)][-2:]
    assert (scored["events"], scored["bytes"], scored["model"]) == (3, len(body), artefact.identity)
    assert (refused["bytes"], refused.keys() & {"events", "model"}) == (len(body) - 1, set())


def test_every_route_but_health_needs_a_key(http: httpx.Client, subtests: pytest.Subtests) -> None:
    """Every other path, known or not and however written, is a 401 without a key, whatever the method."""
    for method, path in product(("GET", "POST", "HEAD", "OPTIONS", "DELETE"), PATHS):
        with subtests.test(f"{method} {path}"):
            request = http.build_request(method, "/")
            request.url = request.url.copy_with(raw_path=path.encode())
            response = http.send(request)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert (response.content == b"") == (method == "HEAD")
    assert http.get("/health").json() == {"status": "ok"}


def test_requests_with_a_key_are_served(http: httpx.Client, key: str) -> None:
    """Scores, model, metrics, page and errors are the same as without keys."""
    events = sample_events(3)
    for scheme in ("Bearer", "bearer", "BEARER "):
        headers = {"Authorization": f"{scheme} {key}", "Content-Type": RAW.media_type}
        response = http.post("/score/batch", content=RAW.write("events", events), headers=headers)
        np.testing.assert_allclose(RAW.read("", response.content), oracle(events), rtol=1e-5)
    statuses = {path: http.get(path, headers=bearer(key)).status_code for path in PATHS[2:6]}
    assert set(statuses.values()) == {200}
    assert http.get("/nowhere", headers=bearer(key)).status_code == 404
    assert http.post("/score", content=b"{", headers=bearer(key)).status_code == 415


def test_wrong_keys_are_refused_and_not_quoted(http: httpx.Client, key: str) -> None:
    """A wrong key, a part of one, another scheme and two headers are refused, in a message that quotes none of it."""
    wrong = [key[:-1], key + "A", key.swapcase(), "x" * 5000, "k\xff", f"{key},{key}", f"{key} {key}"]
    for value in wrong:
        response = http.get("/model", headers=[(b"authorization", b"Bearer " + value.encode("latin-1"))])
        assert detail(response) == "the API key is not known; ask the operator of the service for one"
    for header in (b"", b"Bearer", b"Basic " + key.encode(), key.encode(), b"Bearer\t" + key.encode()):
        response = http.get("/model", headers=[(b"authorization", header)])
        assert detail(response) == "no API key, expected one header Authorization: Bearer KEY"
    good = (b"authorization", f"Bearer {key}".encode())
    assert detail(http.get("/model", headers=[good, good])).startswith("no API key")
    assert detail(http.get(f"/model?key={key}")).startswith("no API key")


def test_a_body_without_a_key_is_not_read(guarded: LiveService) -> None:
    """A client without a key gets a 401 before it has sent the body, and no 100 Continue."""
    for lines in ([], ["Expect: 100-continue"]):
        with Connection(guarded) as connection:
            connection.send(post(bytes(100_000), *lines, path="/score/batch")[:-100_000])
            assert connection.response().status == 401


def test_a_connection_can_be_used_after_a_refused_request(guarded: LiveService, key: str) -> None:
    """The body of a refused request is not read as a request, and the next request on the connection is served."""
    hidden = b"GET /model HTTP/1.1\r\nHost: a\r\n\r\n"
    allowed = f"GET /model HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    with Connection(guarded) as connection:
        connection.send(post(hidden) + allowed.encode())
        assert [connection.response().status for _ in range(2)] == [401, 200]
        assert connection.ended()


def test_refused_requests_are_counted(artefact: Artefact, keys_path: Path, key: str) -> None:
    """Metrics count them by route, unknown paths together."""
    with TestClient(create_app(Settings(api_keys=str(keys_path)), artefact).main) as client:
        for path in ("/score", "/score", "/model", "/a", "/b"):
            client.post(path)
        text = client.get("/metrics", headers=bearer(key)).text
    assert 'anomaly_requests_total{route="/score",status="401"} 2.0' in text
    assert 'anomaly_requests_total{route="/model",status="401"} 1.0' in text
    assert 'anomaly_requests_total{route="other",status="401"} 2.0' in text


def test_keys_change_while_the_service_runs(artefact: Artefact, tmp_path: Path) -> None:
    """After a reload the new key works and the removed one does not; a wrong file changes nothing.

    Without a file the application is not created, since it would be open.
    """
    path = tmp_path / "keys"
    with pytest.raises(KeysError, match="No such file"):
        create_app(Settings(api_keys=str(path)), artefact)
    old = add_key("alice", path)
    app = create_app(Settings(api_keys=str(path)), artefact)
    keys = app.keys
    assert keys is not None
    with TestClient(app.main) as client:
        new = add_key("bob", path)
        remove_keys("alice", path)
        assert client.get("/model", headers=bearer(old)).status_code == 200
        keys.reload(path)
        assert client.get("/model", headers=bearer(old)).status_code == 401
        assert client.get("/model", headers=bearer(new)).status_code == 200
        path.write_text("bob\n")
        with pytest.raises(KeysError):
            keys.reload(path)
        assert client.get("/model", headers=bearer(new)).status_code == 200


@pytest.mark.slow
def test_a_removed_key_is_refused_by_all_workers_and_no_other_is(model_path: Path, tmp_path: Path) -> None:
    """Under load, with two workers: after SIGHUP the removed key is refused, and no other request fails."""
    path = tmp_path / "keys"
    staying, leaving = add_key("alice", path), add_key("bob", path)
    body, typed = RAW.write("", sample_events(5)), {"Content-Type": RAW.media_type}
    removed, ended, served = threading.Event(), threading.Event(), threading.Barrier(9, timeout=TIMEOUT_S)
    statuses: dict[str, list[tuple[bool, int]]] = {staying: [], leaving: []}

    def ask(base_url: str, key: str) -> None:
        with httpx.Client(base_url=base_url, headers={**bearer(key), **typed}, timeout=TIMEOUT_S) as client:
            assert client.post("/score/batch", content=body).status_code == 200
            served.wait()
            while not ended.is_set():
                after = removed.is_set()
                statuses[key].append((after, client.post("/score/batch", content=body).status_code))

    with (
        live_service(model_path, "--workers", "2", "--api-keys", str(path)) as service,
        ThreadPoolExecutor(8) as pool,
    ):
        asking = [pool.submit(ask, service.base_url, key) for key in (staying, leaving) for _ in range(4)]
        try:
            served.wait()
            remove_keys("bob", path)
            service.signal(signal.SIGHUP)
            service.wait_for("keys loaded")
            removed.set()
            with httpx.Client(base_url=service.base_url, headers=bearer(leaving)) as client:
                assert {client.get("/model").status_code for _ in range(20)} == {401}
        finally:
            ended.set()
        for future in asking:
            future.result()
    assert {status for _, status in statuses[staying]} == {200}
    assert {status for after, status in statuses[leaving] if after} <= {401}
    assert {status for after, status in statuses[leaving] if not after} <= {200, 401}


def test_the_openapi_document_says_that_a_key_is_needed(artefact: Artefact, keys_path: Path, key: str) -> None:
    """With keys the document has their scheme, so that the page can send one; without, it has none."""
    with TestClient(create_app(Settings(api_keys=str(keys_path)), artefact).main) as client:
        described = client.get("/schema", headers=bearer(key)).json()
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert described["security"] == [{"key": []}]
    with TestClient(create_app(Settings(), artefact).main) as client:
        described = client.get("/schema").json()
    assert "security" not in described
    assert "securitySchemes" not in described["components"]


def test_each_request_is_one_log_line(guarded: LiveService, http: httpx.Client, key: str) -> None:
    """Whatever its status, a request is logged with path, method, status, time, address and the owner of its key."""
    event = JSON.write("features", sample_events(1)[0])
    typed = {**bearer(key), "Content-Type": JSON.media_type}
    lines_of(guarded, "logged-before")
    before = len(guarded.events("request"))
    requests = [
        (http.post("/score?working_point=loose", content=event, headers=typed), "/score", "alice"),
        (http.post("/score", content=b"{}", headers=typed), "/score", "alice"),
        (http.get("/model", headers=bearer(key)), "/model", "alice"),
        (http.head("/model", headers=bearer(key)), "/model", "alice"),
        (http.get("/nowhere", headers=bearer(key)), "/nowhere", "alice"),
        (http.get("/model"), "/model", None),
        (http.get("/health"), "/health", None),
    ]
    assert [response.status_code for response, *_ in requests] == [200, 400, 200, 200, 404, 401, 200]
    guarded.wait_for("request", before + len(requests))
    lines = guarded.events("request")[before:]
    assert len(lines) == len(requests)
    for line, (response, path, name) in zip(lines, requests, strict=True):
        assert (line["method"], line["path"], line["status"]) == (response.request.method, path, response.status_code)
        assert line["client"] == "127.0.0.1"
        assert line.get("client_name") == name
        assert 0 <= float(line["seconds"]) < TIMEOUT_S
        known = {"method", "path", "status", "seconds", "client", "client_name", "bytes", "events", "model"}
        assert set(line) <= known | {"level", "logger", "pid", "event", "timestamp"}


def test_a_path_cannot_forge_a_log_line(guarded: LiveService, http: httpx.Client) -> None:
    """Line breaks, quotes, terminal escapes and other scripts in a path stay inside its line."""
    lines_of(guarded, "written-before")
    lines = len(guarded.log_text.splitlines())
    marker = "forged"
    for path in (
        f'/{marker}%0a{{"event":"request","path":"/score","status":200}}',
        f'/{marker}%0d%0a","status":200,"x":"',
        f"/{marker}%1b[2J%e2%80%a8%c2%85%00",
        f"/{marker}%ff%ed%a0%80",
        f"/{marker}" + "a" * 3000,
    ):
        request = http.build_request("GET", "/")
        request.url = request.url.copy_with(raw_path=path.replace('"', "%22").encode())
        assert http.send(request).status_code == 401
    found = lines_of(guarded, marker)
    assert len(found) == 5
    assert {line["status"] for line in found} == {401}
    assert max(len(str(line["path"])) for line in found) == 200
    assert len(guarded.log_text.splitlines()) == lines + 6
    assert guarded.log_text.isascii()
    assert "\x1b" not in guarded.log_text
    assert "\x00" not in guarded.log_text


def test_no_secret_and_no_content_reaches_the_log(guarded: LiveService, http: httpx.Client, key: str) -> None:
    """Neither keys, right or wrong, nor headers, queries or bodies are in the log, not even of what fails."""
    secrets = [key, "wrong-key-31337", "secret-header-31337", "secret-query-31337", "secret-body-31337"]
    content = json.dumps({secrets[4]: secrets[4]}).encode()
    for given in (key, secrets[1]):
        headers = {**bearer(given), "Content-Type": JSON.media_type, "X-Secret": secrets[2], "Accept": secrets[2]}
        for path in ("/score", "/score/batch", "/model", "/leaks"):
            http.post(f"{path}?secret={secrets[3]}", content=content, headers=headers)
    assert len(lines_of(guarded, "leaks")) == 2
    for secret in secrets:
        assert secret not in guarded.log_text


def test_without_keys_and_access_log_scoring_comes_first(artefact: Artefact) -> None:
    """Requests to score pass through no middleware where both are off."""
    app = create_app(Settings(), artefact)
    assert app.main.asgi_handler.__qualname__.startswith("before_router")
    assert app.keys is None

"""The page, its document and headers, and what errors do not disclose."""

import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from itertools import product
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from onnx import TensorProto, helper

from benchmarks.load.formats import RAW
from service.api.app import create_app
from service.model.artefact import Artefact, parse_artefact
from service.model.scorer import Scorer
from service.settings import Settings
from tests.artefacts import metadata, model, sample_events, write_artefact
from tests.live import LiveService, live_service
from tests.service.model.broken import led_through

Client = TestClient[Litestar]

BROWSER = shutil.which("chromium") or shutil.which("chromium-headless")
BROWSER_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
BROWSER_FLAGS += ["--virtual-time-budget=10000"]
PAGE_S = 60


def policy(response: httpx.Response) -> dict[str, list[str]]:
    """Read the Content-Security-Policy."""
    directives = (part.split() for part in response.headers["content-security-policy"].split(";"))
    return {name: values for name, *values in directives}


FATAL = -1_000_000.0


def fails_when_run() -> onnx.ModelProto:
    """Build a valid graph that the runtime fails to run for an event whose first feature is FATAL."""
    return led_through(
        helper.make_node("Slice", ["features", "zero", "one", "axes"], ["first"]),
        helper.make_node("Equal", ["first", "fatal"], ["equal"]),
        helper.make_node("Cast", ["equal"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["found"]),  # of a table that has no place 1
        helper.make_node("Add", ["features", "found"], ["passed"]),
        zero=np.array([0]),
        one=np.array([1]),
        fatal=np.array([FATAL], np.float32),
        table=np.zeros(1, np.float32),
    )


@pytest.fixture(scope="module")
def http(live: LiveService) -> Iterator[httpx.Client]:
    """Connect a client to a live service."""
    with httpx.Client(base_url=live.base_url, timeout=PAGE_S) as client:
        yield client


def test_the_policy_of_the_page_allows_its_own_files_only(client: Client) -> None:
    """It names no other host, and allows no script but the page's files and the inline one, by its hash."""
    page = client.get("/docs")
    rules = policy(page)
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == ["'none'"]
    assert rules["connect-src"] == rules["style-src"] == ["'self'"]
    assert rules["img-src"] == ["'self'", "data:"]
    assert not re.search(r"unsafe|https?:|\*", page.headers["content-security-policy"])
    inline = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    assert len(inline) == 1
    assert rules["script-src"] == ["'self'", f"'sha256-{b64encode(sha256(inline[0].encode()).digest()).decode()}'"]
    assert not re.search(r"<style|\s(style|on\w+)=", page.text)


def test_the_page_has_protective_headers(client: Client) -> None:
    """It cannot be framed, shares no window, sends no referrer, and is neither sniffed nor cached."""
    headers = client.get("/docs").headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_other_responses_cannot_be_pages(client: Client, subtests: pytest.Subtests) -> None:
    """JSON, text and errors are not sniffed as markup, run no script and are not cached."""
    paths = ["/health", "/model", "/metrics", "/schema", "/schema/openapi.json", "/schema/no", "/no", "/docs/no"]
    for method, path in product(("GET", "HEAD", "DELETE"), paths):
        with subtests.test(f"{method} {path}"):
            headers = client.request(method, path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["cache-control"] == "no-store"
            assert headers.get("content-length")
            assert "strict-transport-security" not in headers


def test_assets_are_cached_for_a_day(client: Client) -> None:
    """The page's files have their types and are cached; no other file is served."""
    for name, kind in (("swagger-ui-bundle.js", "javascript"), ("swagger-ui.css", "text/css")):
        response = client.get(f"/docs/assets/{name}")
        assert response.status_code == 200
        assert kind in response.headers["content-type"]
        assert response.headers["cache-control"] == "max-age=86400"
        assert response.headers["x-content-type-options"] == "nosniff"
    for path in (
        *("", "/", "/..%2f..%2fservice%2fapp.py", "/%2e%2e/%2e%2e/app.py", "//etc/passwd", "/%00", "/%ff"),
        *("/" + "a" * 3000, "/default.min.css"),
    ):
        response = client.get(f"/docs/assets{path}")
        assert response.status_code == 404, path
        assert response.headers["cache-control"] == "no-store"


def test_https_responses_require_https(artefact: Artefact, tmp_path: Path) -> None:
    """With TLS, responses have Strict-Transport-Security for a year; the application reads no certificate."""
    path = str(tmp_path / "unread")
    with TestClient(create_app(Settings(tls_certificate=path, tls_key=path), artefact).main) as client:
        for path in ("/docs", "/model", "/no"):
            assert client.get(path).headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(BROWSER is None, reason="there is no browser here")
def test_a_browser_shows_the_page(live: LiveService, tmp_path: Path) -> None:
    """A real browser shows every route without errors: the policy allows what the page needs."""
    shown = subprocess.run(
        [str(BROWSER), *BROWSER_FLAGS, f"--user-data-dir={tmp_path}", "--dump-dom", f"{live.base_url}/docs"],
        capture_output=True,
        text=True,
        timeout=PAGE_S,
        check=True,
    )
    for path in ("/score", "/score/batch", "/health", "/model", "/metrics"):
        assert f'data-path="{path}"' in shown.stdout
    assert "CONSOLE" not in shown.stderr


def test_the_document_describes_the_model_in_use(artefact: Artefact) -> None:
    """After a reload the OpenAPI document describes the new model, at both paths."""
    names = ["mass", "width"]
    other = parse_artefact(model(metadata(names=names)).SerializeToString())
    app = create_app(Settings(), artefact)
    with TestClient(app.main) as client:
        for _ in range(2):
            before = client.get("/schema").json()
        app.use_model(Scorer(other))
        after = client.get("/schema").json()
        assert after == client.get("/schema/openapi.json").json()
    event = after["components"]["schemas"]["Event"]["properties"]["features"]
    assert event["description"] == "mass, width"
    assert (event["minItems"], event["maxItems"]) == (2, 2)
    assert before["components"]["schemas"]["Event"] != after["components"]["schemas"]["Event"]
    assert other.identity in str(after)
    assert artefact.identity not in str(after)


LEAKS = re.compile(
    rb"Traceback|File \"|\.py\b|\.so\b|\.cc\b|/usr/|/home/|site-packages|line \d+, in|0x[0-9a-f]{6}"
    rb"|onnxruntime|litestar|uvicorn|msgspec|numpy|httptools|h11|Python/|Gather|INVALID_ARGUMENT",
    re.IGNORECASE,
)


@pytest.mark.process
def test_internal_errors_disclose_nothing(tmp_path: Path) -> None:
    """Where the runtime fails, the client gets a 500 of two words; the cause is in the log alone."""
    good, bad = sample_events(1), sample_events(1)
    bad[0, 0] = FATAL
    with (
        live_service(write_artefact(tmp_path / "model.onnx", fails_when_run())) as service,
        httpx.Client(base_url=service.base_url, headers={"Content-Type": RAW.media_type}) as client,
    ):
        for path in ("/score", "/score/batch"):
            responses = [client.post(path, content=RAW.write("", event)) for event in (good, bad, good)]
            assert [response.status_code for response in responses] == [200, 500, 200]
            assert responses[1].json() == {"status_code": 500, "detail": "internal error"}
            assert not LEAKS.search(responses[1].content + str(responses[1].headers).encode())
        logged = service.wait_for("unexpected exception", 2)
        assert logged["path"] == path
        assert "Gather" in logged["exc_info"]


@pytest.mark.process
def test_errors_disclose_nothing(http: httpx.Client) -> None:
    """No error of any route names a file, a library or a version of the service, or repeats a header or a body."""
    secret = "secret-31337"
    methods = ("GET", "POST", "PUT", "PATCH", "TRACE", "OPTIONS", "PROPFIND")
    paths = ("/score", "/score/batch", "/health", "/model", "/metrics", "/docs", "/schema", "/no")
    bodies = ((b"", "text/html"), (f'{{"{secret}"'.encode(), "application/json"), (b"\xff" * 99, "a/b"))
    for method, path, (content, kind) in product(methods, paths, bodies):
        headers = {"Content-Type": kind, "Cookie": secret, "X-Secret": secret, "Referer": secret}
        response = http.request(method, path, content=content, headers=headers)
        assert "server" not in response.headers
        assert "x-powered-by" not in response.headers
        if response.status_code < 400:
            continue
        assert response.status_code < 500
        assert set(response.json()) == {"status_code", "detail"}
        assert not LEAKS.search(response.content + str(response.headers).encode()), response.text
        assert secret not in response.text


ODD = [
    *("%00", "%ff", "%ed%a0%80", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e", "a" * 3000),
    *("%0d%0aX: y", "{x}", "%7Bname%7D"),
]


@pytest.mark.process
def test_no_path_is_an_internal_error(http: httpx.Client) -> None:
    """Any path below any route is refused in the form of all errors, and is never a 5xx."""
    below = ["/", "/score/", "/health/", "/model/", "/metrics/", "/docs/", "/docs/assets/", "/schema/", "/schema/a/"]
    below.append("/dashboard/")
    for path, odd in product(below, ODD):
        request = http.build_request("GET", "/")
        request.url = request.url.copy_with(raw_path=f"{path}{odd}".encode())
        response = http.send(request)
        assert 400 <= response.status_code < 500, path
        assert response.json()["status_code"] == response.status_code

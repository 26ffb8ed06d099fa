"""Settings for a service behind proxies, and for pages of other servers: off by default."""

import re
import socket
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from benchmarks.load.formats import JSON
from service.api.app import create_app
from service.model.artefact import Artefact
from service.security.api_keys import add_key
from service.settings import Settings
from tests.artefacts import sample_events
from tests.live import TIMEOUT_S, live_service, samples

ORIGIN = "https://a.example"
PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization",
}
EVENT = JSON.write("features", sample_events(1)[0])


@pytest.mark.process
def test_pages_of_named_origins_may_ask(model_path: Path, tmp_path: Path) -> None:
    """A browser's question needs no key; scores and refusals carry the headers by which a page may read them."""
    key = add_key("page", tmp_path / "keys")
    flags = ("--cors-origins", f"{ORIGIN}, https://b.example", "--api-keys", str(tmp_path / "keys"))
    with live_service(model_path, *flags) as service, httpx.Client(base_url=service.base_url) as client:
        allowed = client.options("/score", headers=PREFLIGHT)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == ORIGIN
        assert "Authorization" in allowed.headers["access-control-allow-headers"]
        assert "POST" in allowed.headers["access-control-allow-methods"]
        counted = samples(client.get("/metrics", headers={"Authorization": f"Bearer {key}"}).text)
        assert counted["anomaly_requests_total route=/score status=204"] == 1
        headers = {"Authorization": f"Bearer {key}", "Content-Type": JSON.media_type, "Origin": ORIGIN}
        for given, status in (
            (headers, 200),
            (headers | {"Content-Type": "text/html"}, 415),
            ({"Origin": ORIGIN}, 401),
        ):
            response = client.post("/score", content=EVENT, headers=given)
            assert response.status_code == status
            assert response.headers["access-control-allow-origin"] == ORIGIN
            assert response.headers["vary"] == "Origin"
            assert "Score-Threshold" in response.headers["access-control-expose-headers"]
        for origin in ("https://c.example", "null", f"{ORIGIN}.example"):
            response = client.post("/score", content=EVENT, headers=headers | {"Origin": origin})
            assert response.status_code == 200
            assert not [name for name in response.headers if name.startswith("access-control")]
            assert client.options("/score", headers=PREFLIGHT | {"Origin": origin}).status_code == 401


def test_pages_of_any_origin_may_ask_and_none_by_default(artefact: Artefact, client: TestClient[Litestar]) -> None:
    """With * every origin is allowed; without the setting no response says so."""
    with TestClient(create_app(Settings(cors_origins="*"), artefact).main) as open_to_all:
        for other, expected in ((open_to_all, "*"), (client, None)):
            response = other.get("/health", headers={"Origin": ORIGIN})
            assert response.headers.get("access-control-allow-origin") == expected
            assert "vary" not in response.headers


def test_the_page_works_below_a_prefix(artefact: Artefact) -> None:
    """With --root-path the page loads its files and the document below it, and its script is the one allowed."""
    with TestClient(create_app(Settings(root_path="/lhc/anomaly"), artefact).main) as client:
        response = client.get("/docs")
        addresses = re.findall(r'(?:href|src|url)(?:=|: )"(/[^"]*)"', response.text)
        assert len(addresses) == 3
        for address in addresses:
            assert client.get(address.removeprefix("/lhc/anomaly")).status_code == 200
            assert address.startswith("/lhc/anomaly/")
        [script] = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
        digest = b64encode(sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in response.headers["content-security-policy"]
        assert client.get("/schema").json()["servers"] == [{"url": "/lhc/anomaly"}]


@pytest.mark.process
@pytest.mark.parametrize(("flags", "expected"), [((), "127.0.0.1"), (("--forwarded-for",), "192.0.2.7")])
def test_the_log_has_the_address_that_the_proxy_names(model_path: Path, flags: tuple[str, ...], expected: str) -> None:
    """The last one, which the nearest proxy added; others may be forged. Without the setting it is the peer's."""
    with live_service(model_path, "--access-log", *flags) as service:
        forwarded = [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "203.0.113.9, 192.0.2.7")]
        assert httpx.get(f"{service.base_url}/health", headers=forwarded).status_code == 200
        assert service.wait_for("request")["client"] == expected
        assert httpx.get(f"{service.base_url}/health").status_code == 200
        assert service.wait_for("request", 2)["client"] == "127.0.0.1"


@pytest.mark.process
def test_all_addresses_of_both_families(model_path: Path) -> None:
    """`--host ::` listens on IPv6 and on IPv4."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with live_service(model_path, "--host", "::") as service:
        port = httpx.URL(service.base_url).port
        for host in ("[::1]", "127.0.0.1"):
            assert httpx.get(f"http://{host}:{port}/health", timeout=TIMEOUT_S).status_code == 200

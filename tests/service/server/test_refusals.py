"""A refusal that is sent is received: clients that send a whole body before they read, on every path."""

import http.client
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
import trustme

from service.security.api_keys import add_key
from tests.artefacts import sample_events
from tests.live import LiveService, live_service
from tests.service.formats.encodings import RAW
from tests.service.server.test_protocol import Wire, check_score, event_request, post

MIB = 2**20
SIZES = (MIB, 6 * MIB, 12 * MIB, 70 * MIB)
TIMES = 3


def times(n_bytes: int) -> int:
    """Give how often a body is sent: the longest once, for it takes a second."""
    return 1 if n_bytes == SIZES[-1] else TIMES


class Case(NamedTuple):
    """A request that is refused while its body arrives."""

    status: int
    path: str = "/score/batch"
    content_type: str = "application/octet-stream"
    accept: str = "*/*"
    key: bool = True

    def headers(self, key: str) -> dict[str, str]:
        """Give its headers."""
        authorisation = {"Authorization": f"Bearer {key}"} if self.key else {}
        return {"Content-Type": self.content_type, "Accept": self.accept, **authorisation}


CASES = [
    Case(400),  # NaN in the first event
    Case(401, key=False),
    Case(404, path="/nowhere"),
    Case(405, path="/health"),
    Case(406, accept="text/html"),
    Case(413, path="/score"),
    Case(415, content_type="text/csv"),
]


class Server(NamedTuple):
    """A live service, a key that it knows, and the certificate of its authority where it speaks TLS."""

    service: LiveService
    key: str
    authority: str | None


@pytest.fixture(scope="module", params=["http", "https"])
def server(
    model_path: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serve with keys, with and without TLS; no body here is too long, nor too much beside others."""
    folder = tmp_path_factory.mktemp("server")
    key, authority_path = add_key("tester", folder / "keys"), None
    limits = {"--max-body-bytes": 2 * SIZES[-1], "--max-inflight-bytes": 10**10, "--max-inflight-events": 10**9}
    flags = ["--api-keys", str(folder / "keys"), *(str(part) for limit in limits.items() for part in limit)]
    if request.param == "https":
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(folder / "chain.pem", append=True)
        flags += ["--tls-certificate", str(folder / "chain.pem"), "--tls-key", str(folder / "key.pem")]
        authority_path = str(folder / "authority.pem")
        authority.cert_pem.write_to_path(authority_path)
    with live_service(model_path, *flags) as service:
        yield Server(service, key, authority_path)


@pytest.mark.parametrize("n_bytes", SIZES, ids=lambda size: f"{size // MIB}MiB")
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.status))
def test_a_client_that_closes_receives_every_refusal(server: Server, case: Case, n_bytes: int) -> None:
    """With `Connection: close`, as urllib sends it, the response arrives after a body of any length."""
    body = b"\xff" * n_bytes
    context = ssl.create_default_context(cafile=server.authority) if server.authority else None
    for _ in range(times(n_bytes)):
        request = urllib.request.Request(server.service.base_url + case.path, body, case.headers(server.key))
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, timeout=30, context=context)
        with refusal.value as response:
            assert response.code == case.status
            assert b'"detail"' in response.read()


@pytest.mark.parametrize("n_bytes", SIZES, ids=lambda size: f"{size // MIB}MiB")
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.status))
def test_a_client_that_keeps_its_connection_receives_every_refusal(server: Server, case: Case, n_bytes: int) -> None:
    """On one kept connection each response arrives, and the next request is answered too."""
    body = b"\xff" * n_bytes
    with requests.Session() as session:
        for _ in range(times(n_bytes)):
            response = session.post(
                server.service.base_url + case.path,
                data=body,
                headers=case.headers(server.key),
                timeout=30,
                verify=server.authority or True,
            )
            assert response.status_code == case.status
            assert set(response.json()) == {"status_code", "detail"}


@pytest.mark.parametrize("case", [CASES[0], CASES[1]], ids=lambda case: str(case.status))
def test_many_clients_at_once_receive_their_refusals(server: Server, case: Case) -> None:
    """The worker reads refused bodies at a limited rate, and a client that has to wait for it loses nothing."""
    body = b"\xff" * (12 * MIB)
    context = ssl.create_default_context(cafile=server.authority) if server.authority else None

    def ask(_: int) -> int:
        request = urllib.request.Request(server.service.base_url + case.path, body, case.headers(server.key))
        try:
            with urllib.request.urlopen(request, timeout=60, context=context) as response:
                return int(response.status)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(16))) == [case.status] * 16


def test_an_overloaded_worker_s_refusals_are_received(model_path: Path) -> None:
    """A 503 arrives after a long body, with `Connection: close`, in HTTP/1.0 and kept alive."""
    with live_service(model_path, "--max-inflight-bytes", "1000") as service, ExitStack() as held:
        wire = held.enter_context(Wire(service))
        wire.send(post(RAW.write("events", sample_events(20)), fmt=RAW, path="/score/batch")[:-1])
        for lines in ("Connection: close",), ():
            for n_bytes in SIZES:
                refused = held.enter_context(Wire(service))
                refused.send(post(bytes(n_bytes), *lines, fmt=RAW, path="/score/batch"))
                assert refused.reply().status_line == "HTTP/1.1 503 Service Unavailable"
        old = held.enter_context(Wire(service))
        old.send(post(bytes(12 * MIB), fmt=RAW, path="/score/batch", version="1.0"))
        assert old.reply().status_line == "HTTP/1.1 503 Service Unavailable"
        assert old.ended()


def test_malformed_http_before_a_long_body_is_refused_audibly(server: Server) -> None:
    """A wrong head gets its 400 although megabytes follow it."""
    if server.authority is not None:
        pytest.skip("the bytes are those of plain HTTP")
    for _ in range(TIMES):
        with Wire(server.service) as wire:
            wire.send(b"POST /score/batch HTTP/1.1\r\nHost a\r\n\r\n" + bytes(12 * MIB))
            assert wire.reply().status_line == "HTTP/1.1 400 Bad Request"
            assert wire.ended()


@pytest.mark.parametrize("late", ["body", "head"])
def test_no_limit_counts_the_bytes_of_another_request(model_path: Path, late: str) -> None:
    """A long batch, scored or refused, and the start of the next request in one write: both are answered."""
    batch = RAW.write("events", sample_events(10_000))
    right = post(batch, fmt=RAW, path="/score/batch")
    refused = post(batch, "Accept: text/html", fmt=RAW, path="/score/batch")
    chunks = b"".join(b"14\r\n%b\r\n" % batch[start : start + 20] for start in range(0, len(batch), 20))
    chunked = post(b"", fmt=RAW, path="/score/batch").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    following = event_request()
    with live_service(model_path) as service:
        for first in (right, refused, chunked + chunks + b"0\r\n\r\n"):
            cut = len(following) - (20 if late == "body" else len(following) - 30)
            with Wire(service) as wire:
                wire.send(first + following[:cut])
                assert wire.reply().status_line.startswith("HTTP/1.1 406" if first is refused else "HTTP/1.1 200")
                threading.Event().wait(0.3)
                wire.send(following[cut:])
                check_score(wire.reply())


def test_a_response_in_http_1_0_ends_the_connection_after_it_is_received(server: Server) -> None:
    """An HTTP/1.0 client, as nginx is to its upstream by default, receives the refusal of a long body."""
    if server.authority is not None:
        pytest.skip("the bytes are those of plain HTTP")
    with Wire(server.service) as wire:
        wire.send(post(bytes(12 * MIB), path="/score", version="1.0"))
        assert wire.reply().status_line == f"HTTP/1.1 401 {http.client.responses[401]}"
        assert wire.ended()

"""A refusal that is sent is received: clients that send a whole body before they read, on every path."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
import trustme

from benchmarks.load.formats import RAW
from service.security.api_keys import add_key
from service.server.discard import DISCARD_BYTES
from tests.artefacts import sample_events
from tests.live import LiveService, live_service
from tests.service.security.certificates import CertificateFiles
from tests.service.server.exchange import (
    LONG_TIMEOUTS,
    Connection,
    begin,
    check_refusal,
    check_score,
    event_request,
    post,
)
from tests.service.server.foreign.clients import CLIENTS, installed, refusals, refusing
from tests.service.server.refusals import CASES, OPEN_LIMITS, Case

pytestmark = pytest.mark.process
MIB = 2**20
SLOW_SIZES = (12 * MIB, 70 * MIB)
TIMES = 3


class Server(NamedTuple):
    """A live service, a key that it knows, and the certificate of its authority where it speaks TLS."""

    service: LiveService
    key: str
    authority: str | None

    def status(self, case: Case, body: bytes) -> int:
        """Send a request with `Connection: close`, as urllib does, and return the status of its error."""
        context = ssl.create_default_context(cafile=self.authority) if self.authority else None
        request = urllib.request.Request(self.service.base_url + case.path, body, case.headers(self.key))
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, timeout=60, context=context)
        with refusal.value as response:
            assert b'"detail"' in response.read()
            return response.code


@pytest.fixture(scope="module", params=["http", pytest.param("https", marks=pytest.mark.slow)])
def server(
    model_path: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serve with keys, with and without TLS."""
    folder = tmp_path_factory.mktemp("server")
    key, authority_path = add_key("tester", folder / "keys"), None
    flags = ["--api-keys", str(folder / "keys"), *OPEN_LIMITS]
    if request.param == "https":
        files = CertificateFiles.issue(trustme.CA(), folder)
        flags += files.flags
        authority_path = str(files.client_ca)
    with live_service(model_path, *flags) as service:
        yield Server(service, key, authority_path)


@pytest.mark.parametrize("n_bytes", [MIB, *(pytest.param(size, marks=pytest.mark.slow) for size in SLOW_SIZES)])
def test_every_refusal_is_received(server: Server, n_bytes: int, subtests: pytest.Subtests) -> None:
    """The response arrives after the body, however long it is, with `Connection: close` and on a connection that stays.

    The longest body is sent once, for it takes a second.
    """
    body = b"\xff" * n_bytes
    for case in CASES:
        with subtests.test(msg=f"{case.status} of {n_bytes // MIB} MiB"), requests.Session() as session:
            for _ in range(1 if n_bytes == SLOW_SIZES[-1] else TIMES):
                assert server.status(case, body) == case.status
                response = session.post(
                    server.service.base_url + case.path,
                    data=body,
                    headers=case.headers(server.key),
                    timeout=60,
                    verify=server.authority or True,
                )
                assert response.status_code == case.status
                assert set(response.json()) == {"status_code", "detail"}


@pytest.mark.slow
@pytest.mark.parametrize("case", [CASES[0], CASES[1]], ids=lambda case: str(case.status))
def test_many_clients_at_once_receive_their_refusals(server: Server, case: Case) -> None:
    """The worker reads refused bodies at a limited rate, and a client that has to wait for it loses nothing."""
    body = b"\xff" * (12 * MIB)
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: server.status(case, body), range(16)))
    assert statuses == [case.status] * 16


@pytest.mark.slow
def test_an_overloaded_worker_s_refusals_are_received(model_path: Path) -> None:
    """A 503 arrives after a long body, with `Connection: close`, in HTTP/1.0 and kept alive."""
    with live_service(model_path, "--max-inflight-bytes", "1000", *LONG_TIMEOUTS) as service, ExitStack() as held:
        begin(held.enter_context(Connection(service)), 20)
        for lines in ("Connection: close",), ():
            for n_bytes in (MIB, *SLOW_SIZES):
                refused = held.enter_context(Connection(service))
                refused.send(post(bytes(n_bytes), *lines, fmt=RAW, path="/score/batch"))
                assert refused.response().status == 503
        old = held.enter_context(Connection(service))
        old.send(post(bytes(12 * MIB), fmt=RAW, path="/score/batch", version="1.0"))
        assert old.response().status == 503
        assert old.ended()


def test_plain_requests_before_a_long_body_are_refused_audibly(model_path: Path, tmp_path: Path) -> None:
    """A wrong head gets its 400, and a client of HTTP/1.0, as nginx is by default, its 401: megabytes follow both."""
    add_key("tester", tmp_path / "keys")
    with live_service(model_path, "--api-keys", str(tmp_path / "keys")) as service:
        for request, status in (
            (b"POST /score/batch HTTP/1.1\r\nHost a\r\n\r\n" + bytes(12 * MIB), 400),
            (post(bytes(12 * MIB), version="1.0"), 401),
        ):
            with Connection(service) as connection:
                connection.send(request)
                check_refusal(connection.response(), status, "")
                assert connection.ended()


@pytest.mark.parametrize("late", ["body", "head"])
def test_no_limit_counts_the_bytes_of_another_request(live: LiveService, late: str) -> None:
    """A long batch, scored or refused, and the start of the next request in one write: both are answered."""
    batch = RAW.write("events", sample_events(10_000))
    right = post(batch, fmt=RAW, path="/score/batch")
    refused = post(batch, "Accept: text/html", fmt=RAW, path="/score/batch")
    chunks = b"".join(b"14\r\n%b\r\n" % batch[start : start + 20] for start in range(0, len(batch), 20))
    chunked = post(b"", fmt=RAW, path="/score/batch").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    following = event_request()
    cut = 30 if late == "head" else len(following) - 20
    for first, status in ((right, 200), (refused, 406), (chunked + chunks + b"0\r\n\r\n", 200)):
        with Connection(live) as connection:
            connection.send(first + following[:cut])
            assert connection.response().status == status
            connection.wait_until_read()
            connection.send(following[cut:])
            check_score(connection.response())


@pytest.mark.slow
def test_an_announced_body_is_refused_before_it_comes_and_not_read_for_ever(live: LiveService) -> None:
    """A body beyond the limit gets its 413 at once; a client that sends on regardless is cut off in the end."""
    head = post(b"", path="/score/batch", fmt=RAW).replace(b"Content-Length: 0", b"Content-Length: 1000000000")
    with Connection(live) as connection:
        connection.send(head)
        assert connection.response().status == 413
        sent, piece = 0, bytes(2**20)
        with suppress(ConnectionError):
            while sent < 2 * DISCARD_BYTES:
                connection.send(piece)
                sent += len(piece)
        assert DISCARD_BYTES - len(piece) <= sent < 2 * DISCARD_BYTES


def test_the_body_of_a_refused_request_is_not_the_next_request(live: LiveService) -> None:
    """A request inside the body of one that was refused early is never answered; the one after the body is."""
    inside = event_request()
    with Connection(live) as connection:
        connection.send(post(inside, "Content-Encoding: gzip") + event_request())
        response = connection.response()
        assert (response.status, "Content-Encoding is 'gzip'" in response.detail()) == (415, True)
        check_score(connection.response())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CLIENTS if name not in {"urllib", "requests"}])
def test_foreign_clients_receive_refusals(name: str, subtests: pytest.Subtests) -> None:
    """So do other languages' clients, and those behind a proxy."""
    if not installed(name):
        pytest.skip(f"{name} is not installed")
    with refusing() as (service, full, key):
        for case in [*CASES, Case(503)]:
            with subtests.test(msg=str(case.status)):
                found = refusals(name, full if case.status == 503 else service, case, 6 * MIB, 2, key)
                assert found == {str(case.status): 2}

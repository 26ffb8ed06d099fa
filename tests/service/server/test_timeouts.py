"""Clients that are slow, stalled or silent do not keep what they hold: real sockets against short timeouts."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from benchmarks.load.formats import JSON, NPY, RAW
from benchmarks.targets.processes import sockets
from service.server.worker import TIMEOUT_CHECK_S
from tests.artefacts import sample_events
from tests.live import TIMEOUT_S, LiveService, live_service, wait_until
from tests.service.security.certificates import HOST, CertificateFiles, client_context
from tests.service.server.exchange import Connection, check_refusal, check_score, event_request, post

pytestmark = pytest.mark.process
HEADER_S, STALL_S, REQUEST_S, KEEP_ALIVE_S = 1, 1, 2, 1
SHORT = ("--header-s", str(HEADER_S), "--stall-s", str(STALL_S), "--keep-alive-s", str(KEEP_ALIVE_S))
PAUSE_S = 0.3
"""Between pieces: shorter than any timeout."""
FROZEN_S = 4
"""A timeout longer than the service is away for without being taken for frozen."""


@pytest.fixture(scope="module")
def strict(model_path: Path) -> Iterator[LiveService]:
    """Serve with short timeouts, but for that of a whole request, which would hide the others."""
    with live_service(model_path, *SHORT) as service:
        yield service


def check_timeout(connection: Connection, words: str) -> None:
    """Read a 408 with these words, after which the connection is closed."""
    check_refusal(connection.response(), 408, words)
    assert connection.ended()


def drip(connection: Connection, data: bytes) -> None:
    """Send byte after byte, each before any timeout without progress, until the service answers."""
    connection.socket.settimeout(PAUSE_S)
    for place in range(len(data)):
        connection.send(data[place : place + 1])
        try:
            connection.socket.recv(1, socket.MSG_PEEK)
            break
        except TimeoutError:
            continue
    connection.socket.settimeout(TIMEOUT_S)


@pytest.mark.slow
def test_what_comes_byte_by_byte_has_its_time_and_no_more(model_path: Path) -> None:
    """A drip is always progress, but a head and a whole request have their timeouts."""
    head, _, body = event_request().partition(b"\r\n\r\n")
    with live_service(model_path, *SHORT, "--request-s", str(REQUEST_S)) as service:
        with Connection(service) as connection:
            drip(connection, head)
            check_timeout(connection, f"head took longer than {HEADER_S} s")
        with Connection(service) as connection:
            connection.send(head + b"\r\n\r\n")
            drip(connection, body)
            check_timeout(connection, f"longer than {REQUEST_S} s to arrive")


def test_what_stops_is_given_up_and_counted(strict: LiveService) -> None:
    """A body of which nothing more comes is a 408, on a batch and on one event, and frees what it held.

    Silence, line ends that begin no request, and the slow rest of a body that was refused close the connection.
    """
    batch = post(JSON.write("events", sample_events(3)), path="/score/batch")
    refused = post(b"", path="/score/batch").replace(b"application/json", b"text/plain")
    with ExitStack() as stack:
        silent, blank, rest, *stopped = (stack.enter_context(Connection(strict)) for _ in range(5))
        blank.send(b"\r\n")
        rest.send(refused.replace(b"Content-Length: 0", b"Content-Length: 100") + b"x")
        for connection, request in zip(stopped, (event_request(), batch), strict=True):
            connection.send(request[:-5])
        assert rest.response().status == 415
        for connection in stopped:
            check_timeout(connection, f"no byte of the body arrived for {STALL_S} s")
        for connection in (silent, blank, rest):
            assert connection.ended()
    wait_until(lambda: strict.metrics()["anomaly_inflight_requests"] == 0)  # it is set ten times a second
    assert strict.metrics()["anomaly_requests_total route=/score status=408"] >= 1
    assert strict.log_levels == {"INFO"}


def test_an_idle_connection_is_closed_after_its_time_alone(strict: LiveService) -> None:
    """One that has just been used stays, pauses within a request included; an idle one is closed, with nothing said."""
    request = event_request()
    with Connection(strict) as connection:
        began = time.monotonic()
        while time.monotonic() - began < 2 * KEEP_ALIVE_S:
            for piece in (request[:30], request[30:-5], request[-5:]):
                connection.send(piece)
                time.sleep(PAUSE_S)
            check_score(connection.response())
        assert connection.ended()


def test_a_client_that_reads_nothing_is_cut_off(strict: LiveService) -> None:
    """Responses that a client does not read are not kept: it is cut off, and others are served meanwhile."""
    request = post(
        RAW.write("events", sample_events(200_000)), f"Accept: {NPY.media_type}", fmt=RAW, path="/score/batch"
    )
    with Connection(strict, receive_buffer_bytes=4096) as stalled:
        stalled.socket.settimeout(STALL_S / 2)
        deadline = time.monotonic() + TIMEOUT_S
        try:
            while time.monotonic() < deadline:
                try:
                    stalled.send(request)
                except TimeoutError:
                    with Connection(strict) as other:
                        other.send(event_request())
                        check_score(other.response())
            pytest.fail("a client that reads nothing is still served")
        except ConnectionError:
            pass


def test_a_client_that_reads_nothing_over_tls_is_cut_off(model_path: Path, tmp_path: Path) -> None:
    """So is it over TLS, where the service has more buffers."""
    authority = trustme.CA()
    request = post(
        RAW.write("events", sample_events(400_000)), f"Accept: {JSON.media_type}", fmt=RAW, path="/score/batch"
    )
    with live_service(model_path, *SHORT, *CertificateFiles.issue(authority, tmp_path).flags) as service:
        before = sockets(service.process.pid)
        with Connection(service, receive_buffer_bytes=4096) as stalled:
            secured = client_context(authority).wrap_socket(stalled.socket, server_hostname=HOST)
            with secured:
                secured.sendall(request)
                wait_until(lambda: service.metrics()["anomaly_batch_events_count"] == 1)
                wait_until(lambda: sockets(service.process.pid) <= before)


@pytest.mark.slow
def test_a_frozen_service_ends_no_request(model_path: Path) -> None:
    """After the process was stopped for longer than every timeout, heads, bodies and idle connections have their time.

    What is stopped are the clocks: what comes afterwards in time is answered, what does not is ended.
    """
    limits = [f"--{name}-s={FROZEN_S}" for name in ("header", "stall", "request", "keep-alive")]
    request = event_request()
    with live_service(model_path, *limits) as service, ExitStack() as stack:
        idle, head, body, stopped = (stack.enter_context(Connection(service)) for _ in range(4))
        idle.send(request)
        check_score(idle.response())
        head.send(request[:30])
        body.send(request[:-5])
        stopped.send(request[:-5])
        assert service.get("/health").status_code == 200
        service.signal(signal.SIGSTOP)
        time.sleep(2 * FROZEN_S)
        service.signal(signal.SIGCONT)
        time.sleep(2 * TIMEOUT_CHECK_S)  # by then all timeouts have been checked
        for connection, rest in ((idle, request), (head, request[30:]), (body, request[-5:])):
            connection.send(rest)
            check_score(connection.response())
        check_refusal(stopped.response(), 408, f"no byte of the body arrived for {FROZEN_S} s")

"""What connections make a worker hold is bounded, and those without a request make room first."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trustme

from benchmarks.load.formats import JSON, RAW
from benchmarks.targets.processes import resident_mb, sockets
from tests.artefacts import oracle, sample_events
from tests.live import TIMEOUT_S, LiveService, live_service
from tests.service.security.certificates import HOST, CertificateFiles, client_context
from tests.service.server.exchange import (
    EVENT,
    LONG_TIMEOUTS,
    Connection,
    begin,
    check_refusal,
    check_score,
    event_request,
    post,
    score,
)

pytestmark = pytest.mark.process

MIB = 2**20
INFLIGHT_BYTES, SMALL_BYTES = 8 * MIB, 80_000
"""The limits of the services: an eighth may wait to be parsed or be single events, a quarter be left by clients."""
N_CONNECTIONS = 128
HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def service(model_path: Path) -> Iterator[LiveService]:
    """Serve with room for a few batches."""
    with live_service(model_path, "--max-inflight-bytes", str(INFLIGHT_BYTES), "--access-log") as service:
        yield service
        assert not service.log_levels & {"ERROR", "CRITICAL"}


@pytest.fixture(scope="module")
def small(model_path: Path) -> Iterator[LiveService]:
    """Serve with hardly any room."""
    with live_service(model_path, "--max-inflight-bytes", str(SMALL_BYTES)) as service:
        yield service


def test_thousands_of_requests_of_one_client_take_little_memory_and_are_answered_in_order(service: LiveService) -> None:
    """They are parsed as responses leave, and others are answered in between."""
    n_requests = 4_000
    before_mb = resident_mb([service.pid])
    with Connection(service) as connection:
        connection.send(HEALTH * (n_requests - 1) + event_request())
        assert score(service).status_code == 200
        assert resident_mb([service.pid]) - before_mb < 16
        assert {connection.response().status for _ in range(n_requests - 1)} == {200}
        check_score(connection.response())


def test_more_bytes_than_may_wait_are_refused(small: LiveService) -> None:
    """Requests behind one that is not answered count until they are parsed; what is too much gets 503, in order."""
    with Connection(small) as connection:
        connection.send(HEALTH * (SMALL_BYTES // len(HEALTH)))
        while (response := connection.response()).status == 200:
            pass
        check_refusal(response, 503, "limit of buffered bytes")
        assert connection.ended()


@pytest.mark.slow
def test_a_client_that_takes_its_response_slowly_loses_it_where_memory_is_short(service: LiveService) -> None:
    """What clients do not take is bounded: the slowest is cut off, and those that read are answered."""
    events = sample_events(400_000)
    body, expected = RAW.write("events", events), oracle(events)
    request = post(body, "Accept: application/json", fmt=RAW, path="/score/batch")
    with ExitStack() as stack:
        slow = [stack.enter_context(Connection(service, receive_buffer_bytes=4096)) for _ in range(4)]
        for connection in slow:
            connection.send(request)
            time.sleep(0.3)  # for the service to see that little is taken
        with Connection(service) as reader:
            reader.send(request)
            scores = json.loads(reader.response().body)["anomaly_scores"]
            np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert "response abandoned" in service.log_text


@pytest.fixture(params=["HTTP", "HTTPS"])
def crowded(
    request: pytest.FixtureRequest, model_path: Path, tmp_path: Path
) -> Iterator[tuple[LiveService, Callable[[socket.socket], socket.socket]]]:
    """Serve with a limit of connections, and give what makes a client's connection of a socket."""
    limit = ("--max-connections", str(N_CONNECTIONS), "--header-s", "3600")  # so that no timeout ends any
    if request.param == "HTTP":
        with live_service(model_path, *limit) as service:
            yield service, lambda connected: connected
        return
    authority = trustme.CA()
    with live_service(model_path, *limit, *CertificateFiles.issue(authority, tmp_path).flags) as service:
        yield service, partial(client_context(authority).wrap_socket, server_hostname=HOST)


def test_silent_connections_make_room(
    crowded: tuple[LiveService, Callable[[socket.socket], socket.socket]],
) -> None:
    """Where there are as many connections as there may be, those that never asked for anything are ended first."""
    service, secured = crowded
    with ExitStack() as stack:
        used = stack.enter_context(secured(stack.enter_context(service.connect())))
        assert _is_scored(used)
        silent = [stack.enter_context(service.connect()) for _ in range(3 * N_CONNECTIONS)]
        newcomer = stack.enter_context(secured(stack.enter_context(service.connect())))
        assert _is_scored(newcomer)
        assert _is_ended(silent[0])
        assert _is_scored(used)


def test_a_request_that_has_arrived_keeps_its_connection(model_path: Path) -> None:
    """A new connection is not ended for the sake of others before its first request is read, and none is forgotten."""
    flags = ("--max-connections", str(N_CONNECTIONS), "--shutdown-s", str(2 * TIMEOUT_S))
    with live_service(model_path, *flags) as service, ExitStack() as stack:
        service.signal(signal.SIGSTOP)
        try:
            newcomers = [stack.enter_context(Connection(service)) for _ in range(N_CONNECTIONS // 2)]
            for newcomer in newcomers:
                newcomer.send(event_request())
            for _ in range(2 * N_CONNECTIONS):
                stack.enter_context(service.connect())
        finally:
            service.signal(signal.SIGCONT)
        for newcomer in newcomers:
            check_score(newcomer.response())
        stack.close()
        service.signal(signal.SIGTERM)
        assert service.process.wait(TIMEOUT_S) == 0


def test_a_request_with_many_headers_takes_little_memory(service: LiveService) -> None:
    """The number of headers is limited as well as their bytes, and they are counted as they arrive."""
    with Connection(service) as connection:
        connection.send(b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"ab:cd\r\n" * 99 + b"\r\n")
        assert connection.response().status == 200
        connection.send(b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"ab:cd\r\n" * 101)
        check_refusal(connection.response(), 431, "more than 100 headers")


LONG_BODY = bytes(200_000)
CHUNKED = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: a b\r\n" + b"ab:cd\r\n" * 40_000, 400),
        (post(LONG_BODY, path="/health"), 405),
    ],
    ids=["a head", "a body that nothing reads"],
)
def test_a_refused_connection_keeps_none_of_its_bytes(service: LiveService, refused: bytes, status: int) -> None:
    """What was received of refused clients is not kept, whether they go on sending or not."""
    before_mb = resident_mb([service.pid])
    with ExitStack() as stack:
        for _ in range(N_CONNECTIONS):
            connection = stack.enter_context(Connection(service))
            connection.send(refused)
            assert connection.response().status == status
        assert resident_mb([service.pid]) - before_mb < 16


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (post(b"", "Content-Encoding: gzip").replace(b"Content-Length: 0", b"Content-Length: 100000"), 415),
        (CHUNKED + b"5\r\n[1,2,\r\nZZ\r\n", 400),
    ],
    ids=["the rest of a body", "a broken body"],
)
def test_connections_that_only_get_refusals_make_room(model_path: Path, refused: bytes, status: int) -> None:
    """A client that was refused, and has sent half of its body, keeps no place that another one needs."""
    with live_service(model_path, "--max-connections", "16", *LONG_TIMEOUTS) as service, ExitStack() as stack:
        for _ in range(64):
            connection = stack.enter_context(Connection(service))
            connection.send(refused)
            assert connection.response().status == status
        with Connection(service) as newcomer:
            newcomer.send(event_request())
            check_score(newcomer.response())


def test_a_response_that_is_being_taken_keeps_its_connection(model_path: Path) -> None:
    """The last response of a connection is not cut off for the sake of new ones, however slowly it is read."""
    request = post(
        RAW.write("events", sample_events(50_000)),
        "Accept: application/json",
        "Connection: close",
        fmt=RAW,
        path="/score/batch",
    )
    with (
        live_service(model_path, "--max-connections", "8", *LONG_TIMEOUTS) as service,
        Connection(service, receive_buffer_bytes=4096) as slow,
        ExitStack() as stack,
    ):
        slow.send(request + b"GET /")  # so that it lingers
        status, headers = slow.head()
        assert (status, headers["connection"]) == (200, "close")
        for _ in range(7):
            begin(stack.enter_context(Connection(service)), 1)
        assert {score(service).status_code for _ in range(8)} == {503}
        slow.body(int(headers["content-length"]))
        assert slow.ended()


def _is_scored(connection: socket.socket) -> bool:
    """Return whether an event is scored."""
    connection.settimeout(TIMEOUT_S)
    connection.sendall(event_request())
    received = b""
    while not received.endswith(b"}"):
        more = connection.recv(65_536)
        assert more
        received += more
    return received.startswith(b"HTTP/1.1 200 ")


def _is_ended(connection: socket.socket) -> bool:
    """Return whether the service has closed a connection."""
    connection.settimeout(TIMEOUT_S)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_batches_leave_room_for_single_events(small: LiveService) -> None:
    """However many bytes of batches are announced, one event is scored."""
    head = f"POST /score/batch HTTP/1.1\r\nHost: a\r\nContent-Type: {RAW.media_type}\r\nContent-Length: "
    with Connection(small) as holding, Connection(small) as other:
        holding.send(f"{head}{SMALL_BYTES}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert holding.head() == (100, {})
        other.send(post(RAW.write("events", sample_events(1)), fmt=RAW, path="/score/batch") + event_request())
        assert other.response().status == 503
        check_score(other.response())


def test_an_event_in_chunks_counts_while_it_arrives(small: LiveService) -> None:
    """Bodies without a length are admitted as they grow, single events as well."""
    head = f"POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: {JSON.media_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    part = b"1000\r\n%b\r\n" % (b" " * 0x1000)
    with ExitStack() as stack:
        for _ in range(2):
            waiting = stack.enter_context(Connection(small))
            waiting.send(head.encode() + part)
            waiting.wait_until_read()
        with Connection(small) as connection:
            connection.send(head.encode() + part)
            response = connection.response()
            assert response.status == 503
            assert "bytes in flight" in response.detail()


def test_a_batch_in_chunks_counts_while_it_arrives(small: LiveService) -> None:
    """Bytes of a batch without a length count as those that are announced, where its events would have room."""
    head = f"POST /score/batch HTTP/1.1\r\nHost: a\r\nContent-Type: {JSON.media_type}\r\n"
    body = b'{"events":[[%b1,2,3,4,5]]}' % (b" " * 8000)
    with Connection(small) as holding, Connection(small) as other:
        holding.send(f"{head}Content-Length: {SMALL_BYTES - 4000}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert holding.head() == (100, {})
        other.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"%x\r\n%b\r\n" % (len(body), body))
        other.send(b"0\r\n\r\n")
        response = other.response()
        assert response.status == 503
        assert "bytes in flight" in response.detail()


@pytest.mark.slow
@pytest.mark.parametrize(
    "limit", [("--max-inflight-bytes", "1000"), ("--max-connections", "2")], ids=["room", "places"]
)
def test_a_body_too_slow_to_be_whole_in_time_makes_room(model_path: Path, limit: tuple[str, str]) -> None:
    """Where others need the room or the place, a body that is too slow gets its 408; else it has all of its time."""
    head = f"POST /score/batch HTTP/1.1\r\nHost: a\r\nContent-Type: {RAW.media_type}\r\nContent-Length: "
    flags = (*limit, "--request-s", "600", "--stall-s", "600")
    with live_service(model_path, *flags) as service:
        with Connection(service) as slow, Connection(service):
            slow.send(f"{head}900\r\n\r\n".encode())
            response = slow.response()
            assert response.status == 408
            assert "arrives too slowly" in response.detail()
        with Connection(service) as other:
            other.send(f"{head}400\r\n\r\n".encode())
            time.sleep(7)  # longer than the grace: less than half of the room is taken
            other.send(bytes(400))
            assert other.response().status == 200


@pytest.mark.parametrize("path", ["/score", "/score/batch"])
def test_a_client_that_says_that_it_is_done_gets_its_responses(service: LiveService, path: str) -> None:
    """Requests that are complete are answered after the client has closed its half; one that is cut is not."""
    name = "features" if path == "/score" else "events"
    body = JSON.write(name, EVENT if path == "/score" else sample_events(1))
    for n_requests in (1, 3):
        with Connection(service) as connection:
            connection.send(post(body, path=path) * n_requests + post(body, path=path)[:-10])
            connection.finish()
            assert [connection.response().status for _ in range(n_requests)] == [200] * n_requests
            assert connection.ended()
    with Connection(service) as connection:
        connection.send(b"NONSENSE\r\n\r\n")
        connection.finish()
        check_refusal(connection.response(), 400, "not well-formed")
        assert connection.ended()


def test_a_client_that_is_done_leaves_no_connection_behind(service: LiveService) -> None:
    """Where the client has closed its half, the service closes the connection with a refusal, and does not linger."""
    before = sockets(service.process.pid)
    with Connection(service) as connection:
        service.signal(signal.SIGSTOP)  # reads the end before it has answered
        connection.send(event_request() * 3 + b"NONSENSE\r\n\r\n")
        connection.finish()
        service.signal(signal.SIGCONT)
        assert [connection.response().status for _ in range(4)] == [200, 200, 200, 400]
        assert connection.ended()
        assert sockets(service.process.pid) <= before


def test_what_is_no_request_is_in_the_access_log(service: LiveService) -> None:
    """A refusal by the parser has a line with its status and client."""
    n_lines = len(service.events("request"))
    with Connection(service) as connection:
        connection.send(b"NONSENSE\r\n\r\n")
        check_refusal(connection.response(), 400, "not well-formed")
    line = service.wait_for("request", n_lines + 1)
    assert (line["status"], line["method"], line["path"], line["client"]) == (400, None, "", "127.0.0.1")


def test_the_server_as_a_whole_has_options(service: LiveService) -> None:
    """`OPTIONS *` names the methods."""
    with Connection(service) as connection:
        connection.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" + HEALTH)
        status, headers = connection.head()
        assert (status, headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
        assert connection.response().status == 200


def test_responses_say_how_long_the_connection_stays(service: LiveService) -> None:
    """Clients that reuse connections learn when not to: where the connection goes on, and only there."""
    with Connection(service) as connection:
        connection.send(event_request())
        assert connection.response().headers["keep-alive"] == "timeout=75"
        connection.send(event_request("Connection: close"))
        assert "keep-alive" not in connection.response().headers

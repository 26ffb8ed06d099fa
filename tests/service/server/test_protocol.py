"""HTTP/1.1 byte by byte: whole responses, in the order of their requests, however the client speaks and reads."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load.formats import JSON, NPY, RAW
from tests.artefacts import RTOL, oracle, sample_events
from tests.live import TIMEOUT_S, LiveService, live_service, wait_until
from tests.service.server.exchange import EVENT, Connection, check_head, check_score, event_request, post

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", params=[[], ["--access-log"]], ids=["one-write", "access-log"])
def spoken(model_path: Path, request: pytest.FixtureRequest) -> Iterator[LiveService]:
    """Serve with and without a log of requests, which have ways of their own to send a response."""
    with live_service(model_path, *request.param) as service:
        yield service


def test_a_response_is_a_whole_message(spoken: LiveService) -> None:
    """Status line, date, model, type and length come before the body, and the connection stays open."""
    with Connection(spoken) as connection:
        for _ in range(3):
            connection.send(event_request())
            response = connection.response()
            check_score(response)
            assert set(response.headers) == {"date", "model-version", "content-type", "content-length", "keep-alive"}


BLANKS = [
    "Host: a \t",
    "Accept:\t*/* ",
    "Content-Encoding: identity ",
    "Content-Encoding: \t",
    "Expect: 100-continue\t ",
]
"""Headers with blanks and tabs around their values, which are no part of them (RFC 9110, 5.5)."""


def test_blanks_around_the_value_of_a_header_are_no_part_of_it(spoken: LiveService) -> None:
    """Requests with them are answered as those without, on one connection."""
    with Connection(spoken) as connection:
        for line in BLANKS:
            request = event_request("X: y").replace(
                b"Content-Type: application/json", b"Content-Type:  application/json\t "
            )
            name = line.partition(":")[0].encode()
            lines = [given for given in request.split(b"\r\n") if not given.startswith(name + b":")]
            connection.send(b"\r\n".join([lines[0], line.encode(), *lines[1:]]))
            if name == b"Expect":
                assert connection.socket.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
            check_score(connection.response())


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")
REFUSALS = [
    (post(b'{"features": 7}'), 400, "features is a number, expected a list of 5 numbers"),
    (post(b"", path="/score/batch"), 400, "the body is empty, expected at least 1 event"),
    (event_request("Accept: text/html"), 406, 'Accept is "text/html", expected one of'),
    (post(b"x").replace(b"json", b"yaml"), 415, "Content-Type is"),
    *(
        (line.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", status, "")
        for line, status in (
            ("GET /score", 405),
            ("PUT /score/batch", 405),
            ("GET /nowhere", 404),
            ("POST /score/nowhere", 404),
        )
    ),
]


def test_a_refusal_is_a_whole_message(spoken: LiveService, subtests: pytest.Subtests) -> None:
    """Errors are framed as scores are, are not to be kept, and leave the connection open."""
    with Connection(spoken) as connection:
        for request, status, detail in REFUSALS:
            with subtests.test(msg=repr(request[:40])):
                connection.send(request)
                response = connection.response()
                check_head(response, status, model=False)
                assert response.headers["cache-control"] == "no-store"
                assert response.detail().startswith(detail)
                connection.send(event_request())
                check_score(connection.response())


def test_a_working_point_s_threshold_is_a_header(spoken: LiveService) -> None:
    """Headers of one request alone are framed like all others."""
    with Connection(spoken) as connection:
        connection.send(event_request(path="/score?working_point=loose"))
        response = connection.response()
        check_head(response, 200)
        assert response.headers["score-threshold"] == "2.0"
        assert json.loads(response.body).keys() == {"anomaly_score", "accepted"}


def test_the_connection_is_closed_for_a_client_that_wants_it(spoken: LiveService) -> None:
    """After `Connection: close`, and in HTTP/1.0, the response says so, and ends the connection."""
    for request in (event_request("Connection: close"), event_request(version="1.0")):
        with Connection(spoken) as connection:
            connection.send(request)
            response = connection.response()
            check_score(response)
            assert response.closes
            assert connection.ended()


def test_requests_of_one_packet_are_answered_in_order(spoken: LiveService) -> None:
    """Pipelined requests, good and wrong ones and of both routes, get their responses in the requests' order.

    Those that ask for another protocol are answered in this one.
    """
    events = sample_events(40)
    sent = b""
    for place, event in enumerate(events):
        sent += post(RAW.write("features", event), *(UPGRADE if place % 7 in (1, 2) else ()), fmt=RAW)
        if place % 7 == 0:
            sent += post(b'{"features": []}')
        if place % 5 == 0:
            sent += post(RAW.write("events", events[place:]), fmt=RAW, path="/score/batch")
        if place % 11 == 0:
            sent += b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    with Connection(spoken) as connection:
        connection.send(sent)
        for place in range(len(events)):
            expected = oracle(events[place:])
            np.testing.assert_allclose(np.frombuffer(connection.response().body, "<f4"), expected[:1], RTOL)
            if place % 7 == 0:
                assert connection.response().status == 400
            if place % 5 == 0:
                np.testing.assert_allclose(np.frombuffer(connection.response().body, "<f4"), expected, RTOL)
            if place % 11 == 0:
                assert connection.response().body == b'{"status":"ok"}'
        connection.send(event_request("Connection: close"))
        check_score(connection.response())
        assert connection.ended()


def test_a_client_that_waits_to_send_is_told_to(spoken: LiveService) -> None:
    """With Expect: 100-continue the body is asked for, and one response follows; a refused head gets that alone."""
    body = JSON.write("features", EVENT)
    request = post(body, "Expect: 100-continue")
    with Connection(spoken) as connection:
        for _ in range(2):
            connection.send(request.removesuffix(body))
            assert connection.head() == (100, {})
            connection.send(body)
            check_score(connection.response())
        connection.send(request.removesuffix(body).replace(b"json", b"yaml"))
        assert connection.response().status == 415


def test_a_client_that_reads_late_gets_all_its_responses(spoken: LiveService) -> None:
    """Responses wait, in order, for a client that sends on and does not read, and others are answered meanwhile."""
    sizes = (20_000, 1, 30_000, 17)
    batches = [RAW.write("events", sample_events(n_events, seed=n_events)) for n_events in sizes]
    expected = [oracle(sample_events(n_events, seed=n_events)) for n_events in sizes] * 6
    requests = [post(batch, f"Accept: {NPY.media_type}", fmt=RAW, path="/score/batch") for batch in batches] * 6
    with Connection(spoken, receive_buffer_bytes=4096) as connection, Connection(spoken) as other:
        left = memoryview(b"".join(requests))
        stalled = 0
        while left and stalled < 20:  # until the service takes no more, for it has too much to say
            rest = send_some(connection, left)
            stalled = stalled + 1 if len(rest) == len(left) else 0
            left = rest
            if stalled:
                other.send(event_request())
                check_score(other.response())
        for scores in expected:
            left = send_some(connection, left)
            np.testing.assert_allclose(NPY.read("anomaly_scores", connection.response().body), scores, RTOL)


def send_some(connection: Connection, left: memoryview) -> memoryview:
    """Send as much as the service takes at once, and return the rest."""
    connection.socket.setblocking(False)
    with suppress(BlockingIOError):
        while left:
            left = left[connection.socket.send(left) :]
    connection.socket.settimeout(TIMEOUT_S)
    return left


def test_a_client_that_leaves_early_affects_no_other(spoken: LiveService) -> None:
    """Connections that end within a request, after it, or while many requests wait leave the service as it was."""
    for data in (event_request()[:-5], event_request(), post(bytes(10), fmt=RAW), *[event_request() * 50] * 3):
        with Connection(spoken) as connection:
            connection.send(data)
        with Connection(spoken) as connection:
            connection.send(event_request())
            check_score(connection.response())
    assert spoken.log_levels <= {"INFO", "DEBUG"}


def test_a_client_that_leaves_stops_costing_work(live: LiveService) -> None:
    """Batches of clients that left before they were scored are counted and not scored, and nothing is logged."""
    names = ["anomaly_events_scored_total", "anomaly_requests_total route=/score/batch status=499"]
    body = RAW.write("events", sample_events(4_000))
    before, n_lines = live.metrics(), len(live.log_lines)
    for _ in range(20):
        with Connection(live) as connection:
            connection.send(post(body, fmt=RAW, path="/score/batch")[:-1])
    with Connection(live) as connection:
        connection.send(event_request())
        check_score(connection.response())
    wait_until(lambda: live.metrics()["anomaly_inflight_requests"] == 0)
    assert [live.metrics()[name] - before.get(name, 0) for name in names] == [1, 20]
    assert len(live.log_lines) == n_lines


def test_a_response_to_head_is_that_to_get_without_a_body(spoken: LiveService) -> None:
    """The next response follows its headers."""
    with Connection(spoken) as connection:
        for path, status in (("/health", 200), ("/score", 405)):
            connection.send(f"HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            response = connection.response("HEAD")
            assert response.status == status
            assert path == "/score" or response.headers["content-length"] == "15"
        connection.send(event_request())
        check_score(connection.response())


def test_a_path_with_a_slash_at_its_end_is_the_same(spoken: LiveService) -> None:
    """/score/ and /score/batch/ score, and their events are counted as those of the paths without."""
    events = sample_events(300)
    names = [f"anomaly_requests_total route={path} status=200" for path in ("/score", "/score/batch")]
    names.append("anomaly_events_scored_total")
    before = spoken.metrics()
    with Connection(spoken) as connection:
        connection.send(event_request(path="/score/"))
        check_score(connection.response())
        connection.send(post(RAW.write("events", events), fmt=RAW, path="/score/batch/"))
        np.testing.assert_allclose(np.frombuffer(connection.response().body, "<f4"), oracle(events), RTOL)
    after = spoken.metrics()
    assert [after[name] - before.get(name, 0) for name in names] == [1, 1, 301]


def test_requests_are_logged_only_where_that_is_wanted(spoken: LiveService, request: pytest.FixtureRequest) -> None:
    """With --access-log each request is a line, with its status; without it none is."""
    with Connection(spoken) as connection:
        connection.send(b"GET /no/route?query HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert connection.response().status == 404
        assert connection.ended()

    def logged() -> list[int]:
        return [line["status"] for line in spoken.events("request") if line["path"] == "/no/route"]

    wait_until(lambda: logged() == [404] * ("access-log" in request.node.callspec.id))

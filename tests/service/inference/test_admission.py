"""A worker takes on so much work at once and no more: the rest gets a 503 before its body is read."""

import asyncio
import gzip
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.load.formats import ENCODINGS, JSON, MSGPACK, NPY, RAW, Format
from benchmarks.targets.processes import sockets
from service.errors import NotReadyError, OverloadedError, RequestTimeoutError
from service.inference.admission import Admission
from service.model.artefact import Artefact
from service.server.protocol import RESERVED_CONNECTIONS
from service.settings import Settings
from tests.artefacts import sample_events
from tests.live import LiveService, live_service, wait_until
from tests.service.api.open_inference.infer_bodies import INFER, LAYOUTS
from tests.service.server.exchange import Connection, begin, check_refusal, check_score, event_request, post
from tests.service.server.memory_connection import Worker, settle

MAX_EVENTS = 100


@pytest.fixture(scope="module")
def service(model_path: Path) -> Iterator[LiveService]:
    """Serve with low limits of events in flight, connections and events of a request."""
    flags = ("--max-inflight-events", str(MAX_EVENTS), "--max-connections", "4", "--max-events", "1000")
    with live_service(model_path, *flags) as service:
        yield service


def test_what_does_not_fit_is_refused_at_once_and_the_connection_goes_on(service: LiveService) -> None:
    """Beside a request in flight, one that fits is scored; one that does not gets 503 and Retry-After, unread."""
    with Connection(service) as first, Connection(service) as second:
        rest = begin(first, MAX_EVENTS - 1)
        second.send(event_request())
        check_score(second.response())
        refused = post(RAW.write("events", sample_events(2)), fmt=RAW, path="/score/batch")
        second.send(refused + event_request())
        response = second.response()
        assert (response.status, response.headers["retry-after"]) == (503, "1")
        assert f"expected at most {MAX_EVENTS}" in response.detail()
        check_score(second.response())
        first.send(rest)
        assert len(first.response().body) == 4 * (MAX_EVENTS - 1)


def test_a_refusal_does_not_wait_for_the_body(service: LiveService) -> None:
    """The 503 comes to a client that has sent nothing but its head, and tells it to connect again."""
    with Connection(service) as first, Connection(service) as second:
        rest = begin(first, MAX_EVENTS)
        second.send(post(bytes(20), "Expect: 100-continue", fmt=RAW, path="/score/batch")[:-20])
        check_refusal(second.response(), 503, "")
        assert second.ended()
        first.send(rest)
        assert first.response().status == 200


def test_a_body_in_chunks_is_admitted_as_it_grows(service: LiveService) -> None:
    """Without Content-Length the size shows as the body comes: it is refused once it is too much beside others."""
    with Connection(service) as first, Connection(service) as second:
        rest = begin(first, MAX_EVENTS)
        second.send(
            f"POST /score/batch HTTP/1.1\r\nHost: a\r\nContent-Type: {RAW.media_type}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        body = RAW.write("events", sample_events(MAX_EVENTS))
        second.send(b"%x\r\n%b\r\n" % (len(body), body))
        assert second.response().status == 503
        first.send(rest)
        assert first.response().status == 200


def test_alone_a_request_larger_than_the_limit_is_scored(service: LiveService) -> None:
    """The limit is of all requests in flight together."""
    with Connection(service) as connection:
        connection.send(post(RAW.write("events", sample_events(3 * MAX_EVENTS)), fmt=RAW, path="/score/batch"))
        assert len(connection.response().body) == 4 * 3 * MAX_EVENTS


def test_requests_in_flight_are_in_the_metrics(service: LiveService) -> None:
    """Requests, events and bytes that are being read are counted until they are answered."""

    def in_flight() -> tuple[float, ...]:
        found = service.metrics()
        return tuple(found[f"anomaly_inflight_{name}"] for name in ("requests", "events", "bytes"))

    with Connection(service) as connection:
        rest = begin(connection, 10)
        wait_until(lambda: in_flight() == (1, 10, 200))
        connection.send(rest)
        assert connection.response().status == 200
    wait_until(lambda: in_flight() == (0, 0, 0))


def test_a_client_that_disconnects_makes_room(service: LiveService) -> None:
    """What was in flight for it is in flight no more, and others are admitted again."""
    with Connection(service) as first:
        begin(first, MAX_EVENTS)
    body = RAW.write("events", sample_events(MAX_EVENTS))
    wait_until(lambda: service.post("/score/batch", body, RAW.media_type).status_code == 200)


@pytest.mark.parametrize("fmt", [RAW, JSON], ids=["raw", "json"])
def test_more_events_than_a_request_may_have_are_refused(service: LiveService, fmt: Format) -> None:
    """A batch of one event too many is a 413 that names the limit."""
    with Connection(service) as connection:
        connection.send(post(fmt.write("events", sample_events(1001)), fmt=fmt, path="/score/batch"))
        response = connection.response()
        assert response.status == 413
        assert response.detail() == "the batch has more than 1000 events, expected at most 1000: send smaller batches"


def test_a_connection_too_many_gets_a_503_and_health_is_answered(service: LiveService) -> None:
    """Beyond the limit a scoring request gets a 503 and the connection is closed; health and metrics respond."""
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(service)) for _ in range(4)]
        for connection in connections:
            connection.send(event_request())
            check_score(connection.response())
        with Connection(service) as fifth:
            fifth.send(event_request())
            response = fifth.response()
            check_refusal(response, 503, "")
            assert response.headers["retry-after"] == "1"
            assert fifth.ended()
        assert service.get("/health").status_code == 200
        assert service.metrics()["anomaly_requests_total route=/score status=503"] > 0
        connections[0].send(event_request())
        check_score(connections[0].response())


@pytest.mark.process
def test_connections_above_the_limit_are_bounded(model_path: Path) -> None:
    """Above --max-connections some more are kept, for probes, and further ones are closed."""
    with live_service(model_path, "--max-connections", "1", "--header-s", "3600") as service, ExitStack() as stack:
        before = sockets(service.pid)
        for _ in range(RESERVED_CONNECTIONS + 30):
            stack.enter_context(service.connect())
        wait_until(lambda: sockets(service.pid) - before <= 1 + RESERVED_CONNECTIONS)


@pytest.mark.process
def test_connections_above_the_limit_that_are_answered_are_bounded(model_path: Path) -> None:
    """Those that were refused, and linger for the rest of their request, make room for new ones: all are answered."""
    with live_service(model_path, "--max-connections", "1") as service, ExitStack() as stack:
        first = stack.enter_context(Connection(service))
        begin(first, 1)
        before = sockets(service.pid)
        for _ in range(3 * RESERVED_CONNECTIONS):
            connection = stack.enter_context(Connection(service))
            connection.send(event_request()[:-1])
            assert connection.response().status == 503
        wait_until(lambda: sockets(service.pid) - before <= RESERVED_CONNECTIONS)


def batch_requests(events: NDArray[np.float32]) -> dict[str, tuple[bytes, int]]:
    """Return requests to score a batch, each with the length of its head, by what it is written as."""
    double = events.astype(np.float64)
    bodies = {fmt.name: (fmt, "/score/batch", fmt.write("events", events)) for fmt in ENCODINGS}
    bodies[".npy, float64"] = (NPY, "/score/batch", NPY.write("events", double))
    for name, write in LAYOUTS.items():
        body, headers = write(events)
        bodies[name] = (JSON._replace(headers=tuple(headers.items())), INFER, body)
    return {
        name: (request := post(body, fmt=fmt, path=path), len(request) - len(body))
        for name, (fmt, path, body) in bodies.items()
    }


async def in_flight(worker: Worker, part: bytes) -> float:
    """Receive a part of a request, and return the number of events that it counts as."""
    transport = worker.connect()
    transport.receive(part)
    await settle(transport)
    assert not transport.sent
    counted = worker.metrics()["anomaly_inflight_events"]
    transport.close()
    await settle(transport)
    assert worker.metrics()["anomaly_inflight_events"] == 0
    return counted


def test_a_batch_counts_as_its_events_before_it_is_read(artefact: Artefact, subtests: pytest.Subtests) -> None:
    """By the usual length of an event in its format; binary ones, which are shorter, until they are read.

    A head that was answered before counts as the events that it had then.
    """
    shorter = {"MessagePack, binary": 4 / 9, ".npy": 4 / 8}

    async def count() -> None:
        async with Worker(artefact, Settings()).running() as worker:
            for name, (request, n_head) in batch_requests(sample_events(1000)).items():
                with subtests.test(name):
                    announced = await in_flight(worker, request[:n_head])
                    assert announced == pytest.approx(1000 * shorter.get(name, 1), rel=0.07)
                    transport = worker.connect()
                    transport.receive(request)
                    await settle(transport)
                    assert transport.sent.startswith(b"HTTP/1.1 200 ")
                    n_asked = worker.n_asked
                    assert await in_flight(worker, request[:n_head]) == 1000
                    assert worker.n_asked == n_asked

    asyncio.run(count())


def test_a_batch_counts_as_the_events_that_it_says_within_its_length(artefact: Artefact) -> None:
    """`events` is believed before the body is read, but for more than could be in so many bytes."""
    path, events = "/score/batch?events=", sample_events(500)

    async def count(fmt: Format, n_said: int) -> float:
        async with Worker(artefact, Settings()).running() as worker:
            body = fmt.write("events", events)
            request = post(body, fmt=fmt, path=f"{path}{n_said}")
            return await in_flight(worker, request[: -len(body)])

    for fmt in ENCODINGS:
        assert asyncio.run(count(fmt, 500)) == 500
    assert asyncio.run(count(RAW, 10**9)) == events.nbytes // events.shape[1]


def short_number_bodies(n_events: int, n_spaces: int = 0) -> dict[str, tuple[Format, str, bytes]]:
    """Return batches of the shortest numbers, each with its format and path; JSON has so many spaces in an event."""
    rows = b",".join([b"[1,2,3,4,5%b]" % (b" " * n_spaces)] * n_events)
    tensor = b'{"inputs":[{"name":"features","datatype":"FP32","shape":[%4d,5],"data":[%b]}]}' % (n_events, rows)
    small = np.tile(np.arange(5, dtype=np.int8), (n_events, 1))
    return {
        "JSON": (JSON, "/score/batch", b'{"events":[%b]}' % rows),
        "JSON that says less": (JSON, "/score/batch?events=1", b'{"events":[%b]}' % rows),
        "MessagePack": (MSGPACK, "/score/batch", MSGPACK.write("events", small)),
        ".npy": (NPY, "/score/batch", NPY.write("events", small)),
        "tensor": (JSON, INFER, tensor),
        "gzip": (JSON._replace(headers=(("Content-Encoding", "gzip"),)), INFER, gzip.compress(tensor)),
    }


def n_scored(worker: Worker) -> int:
    """Tell how many events the model has scored, also for requests that were refused then."""
    report = worker.application.deployment.monitor.report()
    assert report is not None
    return report.totals.events


async def beside(worker: Worker, request: bytes, n_held: int) -> tuple[bytes, int]:
    """Return the response beside a request of `n_held` events in flight, and how many of its events were scored."""
    held, transport = worker.connect(), worker.connect()
    other = post(RAW.write("events", sample_events(n_held)), fmt=RAW, path="/score/batch")
    held.receive(other[:-1])
    await settle(held)
    n_head = request.index(b"\r\n\r\n") + 4
    transport.receive(request[:n_head])
    await settle(transport)
    assert not transport.sent
    before = n_scored(worker)
    transport.receive(request[n_head:])
    await settle(transport)
    n_more = n_scored(worker) - before
    held.receive(other[-1:])
    await settle(held)
    assert held.sent.startswith(b"HTTP/1.1 200 ")
    return bytes(transport.sent), n_more


async def alone(worker: Worker, request: bytes) -> bytes:
    """Return the response to a request with nothing beside it in flight."""
    transport = worker.connect()
    transport.receive(request)
    await settle(transport)
    assert worker.metrics()["anomaly_inflight_events"] == 0
    return bytes(transport.sent)


@pytest.mark.parametrize("n_events", [1000, 9000])
def test_short_numbers_do_not_get_round_the_limit(artefact: Artefact, subtests: pytest.Subtests, n_events: int) -> None:
    """A batch of more events than its length says is refused as it is read; alone it is scored.

    So is one whose head is known from a batch of the same length with fewer events.
    """
    settings, n_held = Settings(max_inflight_events=n_events), n_events // 5

    async def ask_both(fmt: Format, path: str, body: bytes, first: bytes) -> tuple[tuple[bytes, int], bytes]:
        request = post(body, fmt=fmt, path=path)
        async with Worker(artefact, settings).running() as worker:
            if first:
                assert len(first) == len(body)
                known = await alone(worker, post(first, fmt=fmt, path=path))
                assert known.startswith(b"HTTP/1.1 200 ")
            return await beside(worker, request, n_held), await alone(worker, request)

    half = short_number_bodies(n_events // 2, len(b"[1,2,3,4,5],"))
    for name, (fmt, path, body) in short_number_bodies(n_events).items():
        for first in (b"", *([half[name][2]] if name in {"JSON", "tensor"} else [])):
            with subtests.test(name, known=bool(first)):
                (refused, n_more), scored = asyncio.run(ask_both(fmt, path, body, first))
                assert refused.startswith(b"HTTP/1.1 503 ")
                assert b"expected at most %d" % n_events in refused
                # Those that there was room for; with a known head, again on the long way.
                assert n_more <= (2 if first else 1) * (n_events - n_held)
                assert scored.startswith(b"HTTP/1.1 400 " if "events=" in path else b"HTTP/1.1 200 ")


def test_the_limits_are_of_events_and_of_bytes() -> None:
    """Either limit refuses a request; one that has ended counts no more; growing counts as being admitted."""
    admission = Admission(max_events=10, max_bytes=1000)

    def in_flight() -> tuple[int, int, int]:
        return admission.requests, admission.events, admission.bytes

    with admission.admit(4, 100):
        for n_events, n_bytes in [(7, 1), (1, 901)]:
            with pytest.raises(OverloadedError, match="4 events and 100 bytes in flight"):
                admission.admit(n_events, n_bytes)
        with admission.admit(1, 100) as admitted:
            admitted.grow(6, 50)
            assert in_flight() == (2, 10, 200)
            admitted.grow(6, 150)
            assert in_flight() == (2, 10, 250)
            with pytest.raises(OverloadedError):
                admitted.grow(7, 50)
        assert in_flight() == (1, 4, 100)
    assert in_flight() == (0, 0, 0)
    for n_events, n_bytes, expected in [(5, 500, False), (6, 0, True), (0, 501, True)]:
        with admission.admit(n_events, n_bytes):
            assert admission.more_than_half_full == expected
    with admission.admit(11, 2000) as admitted:
        admitted.grow(12, 2000)
        assert in_flight() == (1, 12, 2000)
    assert in_flight() == (0, 0, 0)


def test_a_cancelled_request_ends_with_the_error_that_it_was_cancelled_with() -> None:
    """Without an error of its own, a cancellation means that the service has stopped; nothing stays in flight."""
    admission = Admission(max_events=10, max_bytes=1000)
    reason = RequestTimeoutError("too late")
    with pytest.raises(RequestTimeoutError, match="too late"), admission.admit(1, 1):
        raise CancelledError(reason)
    with pytest.raises(NotReadyError, match="the service stopped"), admission.admit(1, 1):
        raise CancelledError
    assert admission.requests == 0

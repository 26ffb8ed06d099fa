"""Requests whose heads are known are answered as all others are: with the same bytes, and counted the same."""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from itertools import count, cycle, pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.load.formats import JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW, Format
from service.formats.format import WRITTEN_EVENTS
from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from service.security.api_keys import add_key, remove_keys
from service.server.known_heads import MAX_HEADS
from service.settings import Settings
from tests.artefacts import sample_events
from tests.live import live_service
from tests.service.api.open_inference.infer_bodies import INFER, PADDED_BYTES, alone, binary, flat, nested
from tests.service.reload.models import make
from tests.service.server.exchange import Connection, event_request, post
from tests.service.server.memory_connection import Transport, Worker, settle

N_EVENTS = (1, 3, 200, 1500)
MANY_EVENTS = 15_000
"""Events that are read block by block, and scored in pieces."""


class Models(NamedTuple):
    """Two models, one in use after the other, and keys."""

    paths: list[Path]
    artefacts: list[Artefact]
    keys: Path
    key: str


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Make two models with different scores, and a key."""
    folder = tmp_path_factory.mktemp("short-way")
    paths = [make(folder / f"{factor}.onnx", factor).path for factor in (1.0, 2.0)]
    return Models(paths, [load_artefact(path) for path in paths], folder / "keys", add_key("a", folder / "keys"))


def requests_of(fmt: Format) -> Iterator[tuple[str, bytes]]:
    """Yield paths and bodies in a format: right ones, and wrong ones of the same lengths."""
    event = fmt.write("features", sample_events(1)[0])
    batches = [("/score/batch", fmt.write("events", sample_events(n_events))) for n_events in N_EVENTS]
    for path, body in [("/score", event), *batches]:
        yield path, body
        yield path, b"\xff" * len(body)
        yield path, body[:-4] + b"\xff\xff\xff\xff"  # NaN in the binary formats


def infer_requests() -> Iterator[tuple[Format, str, bytes]]:
    """Yield requests to infer: right ones, some of one length and with other events or other wishes, and wrong ones."""
    ask: dict[str, Any] = {"id": "a", "parameters": {"working_point": "loose"}}
    wishes: list[dict[str, Any]] = [{}, ask, {**ask, "id": "b"}, {"parameters": {}}]
    for n_events in N_EVENTS:
        events = sample_events(n_events)
        bodies = [nested(events), flat(events), alone(events)]
        bodies += [binary(events, PADDED_BYTES, **keys) for keys in wishes]
        bodies += [binary(sample_events(n_events, seed=7), PADDED_BYTES)]
        bodies += [nested(events, id=name) for name in "ab"] if n_events == 1 else []
        for body, headers in bodies:
            fmt = JSON._replace(headers=tuple(headers.items()))
            yield fmt, INFER, body
            yield fmt, INFER, body[:-4] + b"\xff\xff\xff\xff"


BODIES = [(fmt, path, body) for fmt in (JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW) for path, body in requests_of(fmt)]
RIGHT = list(range(0, len(BODIES), 3))
for fmt in (JSON, RAW):
    RIGHT.append(len(BODIES))
    BODIES.append((fmt, "/score/batch", fmt.write("events", sample_events(MANY_EVENTS))))
RIGHT += range(len(BODIES), len(BODIES) + len(list(infer_requests())), 2)
BODIES += infer_requests()
HEADERS: list[Sequence[str]] = [
    (),
    ("Accept: application/json",),
    ("Accept: text/html",),
    ("Connection: close",),
    ("Content-Encoding: gzip",),
    ("X-Forwarded-For: 10.1.2.3", "Accept: application/octet-stream"),
    ("Accept: application/octet-stream; dtype=bool",),
    ("X-Request-Id: 1", "Accept: application/json"),
    ("x-request-id:2 ",),
    ("X-Request-Id: 3", "X-Request-Id: 4"),
    ("X-Request-Id: 5\r\n 6",),
    ("X-Request-Id: 7 8",),
]
QUERIES = ["", "?events=3", "?events=1", "?working_point=none", "?working_point=loose"]


class Step(NamedTuple):
    """Requests that are sent one behind the other, how they arrive, and what happens before their last piece does."""

    requests: list[tuple[int, int, int]]
    """Places in BODIES, HEADERS and QUERIES."""
    cuts: list[float]
    pauses: bool
    """Whether the service has done what it can before the next piece arrives."""
    event: str


def place_in(several: Sequence[Any]) -> st.SearchStrategy[int]:
    """Draw a place in a list, often the first."""
    return st.sampled_from([0, 0, 0, *range(len(several))])


STEPS = st.builds(
    Step,
    requests=st.lists(
        st.tuples(st.integers(0, len(BODIES) - 1), place_in(HEADERS), place_in(QUERIES)), min_size=1, max_size=2
    ),
    cuts=st.lists(st.floats(0, 1), max_size=2),
    pauses=st.booleans(),
    event=st.sampled_from(["", "", "", "model", "keys", "timeouts", "end of what is sent", "leave", "shutdown"]),
)


def pieces(step: Step, *lines: str) -> list[bytes]:
    """Write the requests of a step with these further headers, and cut them."""
    data = b""
    for body, headers, query in step.requests:
        fmt, path, content = BODIES[body]
        data += post(content, *HEADERS[headers], *lines, fmt=fmt, path=path + QUERIES[query])
    places = [0, *sorted(int(cut * len(data)) for cut in step.cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places) if end > start]


class Outcome(NamedTuple):
    """What a service sent on each connection, and whether it was closed; and its metrics at the end."""

    connections: list[tuple[bytes, bool, bool]]
    metrics: dict[str, float]


async def outcome(models: Models, steps: list[Step], *, twice: bool, known: bool) -> Outcome:
    """Take the steps, each once or `twice`; where heads must not be `known`, each request has a header of its own."""
    transports: list[Transport] = []
    numbers, artefacts = count(), cycle(models.artefacts[::-1])
    authorization = f"Authorization: Bearer {models.key}"
    async with Worker(models.artefacts[0], Settings(api_keys=str(models.keys))).running() as worker:
        for step in [one for one in steps for _ in range(1 + twice)]:
            if not transports or transports[-1].ended or step.event == "leave":
                transports.append(worker.connect())
            transport, number = transports[-1], 0 if known else next(numbers)
            *first, last = pieces(step, authorization, f"X-Number: {number}")
            for piece in first:
                transport.receive(piece)
                if step.pauses:
                    await settle(transport)
            if step.event:
                await settle(transport)
            if step.event == "leave":
                transport.close()
            elif step.event == "shutdown":
                transport.protocol.shutdown()
            elif step.event == "timeouts":
                transport.protocol.check_timeouts(time.monotonic())
            elif step.event == "model":
                worker.application.use_model(Scorer(next(artefacts)))
            elif step.event == "keys":
                assert worker.application.keys is not None
                worker.application.keys.reload(models.keys)
            transport.receive(last)
            if step.event == "end of what is sent" and not transport.closing and not transport.protocol.eof_received():
                transport.close()
            await settle(transport)
        return Outcome([(bytes(one.sent), one.ended, one.closing) for one in transports], worker.metrics())


@pytest.mark.parametrize("n_examples", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_both_ways_give_the_same(models: Models, n_examples: int) -> None:
    """Whatever is sent and happens, the bytes and the metrics are those of heads that are new each time."""

    @settings(max_examples=n_examples, derandomize=True, database=None, deadline=None)
    @given(steps=st.lists(STEPS, min_size=1, max_size=4), twice=st.booleans())
    def check(steps: list[Step], twice: bool) -> None:
        short = asyncio.run(outcome(models, steps, twice=twice, known=True))
        long = asyncio.run(outcome(models, steps, twice=twice, known=False))
        assert short == long

    check()


async def ask(worker: Worker, transport: Transport, request: bytes) -> tuple[bytes, bool]:
    """Return the response, and whether the request came to the application."""
    n_asked, n_sent = worker.n_asked, len(transport.sent)
    transport.receive(request)
    await settle(transport)
    return bytes(transport.sent[n_sent:]), worker.n_asked > n_asked


def test_a_request_with_a_known_head_never_comes_to_the_application(models: Models, subtests: pytest.Subtests) -> None:
    """The second one with the same head is answered without it, as long as a short body, on any connection."""

    async def both(worker: Worker, place: int) -> None:
        fmt, path, body = BODIES[place]
        request = post(body, f"X-Number: {place}", fmt=fmt, path=path)
        first, asked = await ask(worker, worker.connect(), request)
        assert asked
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        transport = worker.connect()
        assert await ask(worker, transport, request) == (first, False)
        assert await ask(worker, transport, request.replace(b"Host: a", b"Host: b")) == (first, True)

    async def each() -> None:
        async with Worker(models.artefacts[0], Settings()).running() as worker:
            for place in RIGHT:
                with subtests.test(place=place):
                    await both(worker, place)

    asyncio.run(each())


def test_decisions_take_the_short_way(models: Models) -> None:
    """The second request for decisions with the same head gets those of its own events, without the application."""

    async def ask_each() -> None:
        async with Worker(models.artefacts[0], Settings()).running() as worker:
            for path, n_events in (("/score", 1), ("/score/batch", 200)):
                responses = []
                for seed, dtype in product((1, 2), ("bool", "float32")):
                    body = RAW.write("", sample_events(n_events, seed=seed))
                    request = post(
                        body, f"Accept: {RAW.media_type}; dtype={dtype}", fmt=RAW, path=f"{path}?working_point=loose"
                    )
                    response, asked = await ask(worker, worker.connect(), request)
                    assert asked is (seed == 1)
                    responses.append(response.partition(b"\r\n\r\n"))
                for (head, _, decisions), (_, _, scores) in zip(responses[::2], responses[1::2], strict=True):
                    assert b"content-type: application/octet-stream; dtype=bool\r\n" in head
                    [threshold] = re.findall(rb"score-threshold: (\S+)", head)
                    assert decisions == (np.frombuffer(scores, "<f4") > float(threshold)).tobytes()

    asyncio.run(ask_each())


def test_each_request_has_its_own_id(models: Models) -> None:
    """Heads that differ in their ids are one head; each response has the id of its request, and none without."""

    async def ask_each(place: int) -> None:
        async with Worker(models.artefacts[0], Settings()).running() as worker:
            fmt, path, body = BODIES[place]
            for number, line in enumerate(("X-Request-Id: ab", "X-Request-Id: cd", "", "X-Request-Id: ef")):
                request = post(body, *filter(None, [line]), fmt=fmt, path=path)
                response, asked = await ask(worker, worker.connect(), request)
                assert asked is (number in (0, 2))
                sent = re.findall(rb"\r\n(x-request-id: .*)\r\n", response)
                assert sent == ([line.lower().encode()] if line else [])

    for place in (0, RIGHT[1], *RIGHT[-12:]):
        asyncio.run(ask_each(place))


@pytest.mark.parametrize("form", ["X-Request-Id: {}", "X-Request-Id: not {}", "X-Request-Id: 1\r\nX-Request-Id: {}"])
def test_ids_make_no_head_be_forgotten(models: Models, form: str) -> None:
    """However many there are, right ones, ones that are ignored, and several."""
    fmt, path, body = BODIES[0]
    plain = post(body, fmt=fmt, path=path)

    async def ask_all() -> None:
        async with Worker(models.artefacts[0], Settings()).running() as worker:
            transport = worker.connect()
            await ask(worker, transport, plain)
            for number in range(MAX_HEADS + 1):
                transport.receive(post(body, form.format(1000 + number), fmt=fmt, path=path))
                await settle(transport)
            assert not (await ask(worker, transport, plain))[1]

    asyncio.run(ask_all())


def test_batches_whose_scores_take_long_to_write_come_to_the_application(models: Models) -> None:
    """They are written in pieces, however often their head was answered."""

    async def ask_twice() -> None:
        async with Worker(models.artefacts[0], Settings()).running() as worker:
            request = post(RAW.write("events", sample_events(WRITTEN_EVENTS + 1)), fmt=RAW, path="/score/batch")
            for _ in range(2):
                _, asked = await ask(worker, worker.connect(), request)
                assert asked

    asyncio.run(ask_twice())


@pytest.mark.parametrize("n_late_bytes", [1, 20, len(BODIES[0][2])])
def test_a_request_that_comes_with_the_rest_of_another_is_answered(models: Models, n_late_bytes: int) -> None:
    """Behind a body of which so many bytes had not arrived before, or with all of it; both have a known head."""
    fmt, path, body = BODIES[0]
    request = post(body, fmt=fmt, path=path)

    async def both() -> None:
        async with Worker(models.artefacts[0], Settings()).running() as worker:
            transport = worker.connect()
            response, _ = await ask(worker, transport, request)
            assert (await ask(worker, transport, request + request))[0] == response + response
            transport.receive(request[:-n_late_bytes])
            assert (await ask(worker, transport, request[-n_late_bytes:] + request))[0] == response + response

    asyncio.run(both())


def test_a_body_in_many_short_pieces_comes_to_the_application(models: Models) -> None:
    """To keep its pieces would take more memory than it has bytes; longer pieces are kept, however many."""
    request = post(JSON.write("events", sample_events(1500)), path="/score/batch")

    async def ask_in_pieces() -> list[bool]:
        async with Worker(models.artefacts[0], Settings()).running() as worker:
            transport = worker.connect()
            response, _ = await ask(worker, transport, request)
            taken = []
            for n_bytes in (600, 1):
                ends = range(1000, len(request), n_bytes)[:200]
                for start, end in pairwise((0, *ends)):
                    transport.receive(request[start:end])
                last, asked = await ask(worker, transport, request[ends[-1] :])
                assert last == response
                taken.append(asked)
            return taken

    assert asyncio.run(ask_in_pieces()) == [False, True]


def test_a_request_without_room_is_refused_though_there_will_be_some(models: Models) -> None:
    """Of requests with a known head that come together, as many are scored as there is room for; then all are again."""
    request = event_request()

    async def ask_together() -> list[list[bytes]]:
        async with Worker(models.artefacts[0], Settings(max_inflight_events=2)).running() as worker:
            transports = [worker.connect() for _ in range(3)]
            await ask(worker, transports[0], request)
            seen = []
            for asked in (transports, transports[1:]):
                before, n_asked = [len(one.sent) for one in transports], worker.n_asked
                for transport in asked:
                    transport.receive(request)
                await settle(*transports)
                seen.append([bytes(one.sent[n:][9:12]) for one, n in zip(transports, before, strict=True)])
                assert worker.n_asked - n_asked == seen[-1].count(b"503")
            return seen

    assert asyncio.run(ask_together()) == [[b"200", b"200", b"503"], [b"", b"200", b"200"]]


def test_a_request_that_ends_its_connection_does_so_each_time(models: Models) -> None:
    """Its head is not known, however often it comes."""
    request = event_request("Connection: close")

    async def ask_twice() -> None:
        async with Worker(models.artefacts[0], Settings()).running() as worker:
            for _ in range(2):
                transport = worker.connect()
                response, asked = await ask(worker, transport, request)
                assert asked
                assert b"\r\nconnection: close\r\n" in response
                assert transport.closing

    asyncio.run(ask_twice())


def test_what_is_known_of_a_head_ends_with_the_model_and_the_keys(models: Models, tmp_path: Path) -> None:
    """Another model answers with its own scores, and a key that was removed is refused."""
    keys = tmp_path / "keys"
    key, other = add_key("a", keys), add_key("b", keys)
    request = post(BODIES[0][2], f"Authorization: Bearer {key}")

    async def reload() -> None:
        async with Worker(models.artefacts[0], Settings(api_keys=str(keys))).running() as worker:
            transport = worker.connect()
            first, _ = await ask(worker, transport, request)
            assert await ask(worker, transport, request) == (first, False)
            worker.application.use_model(Scorer(models.artefacts[1]))
            second, asked = await ask(worker, transport, request)
            assert asked
            assert models.artefacts[1].identity.encode() in second
            assert await ask(worker, transport, request) == (second, False)
            remove_keys("a", keys)
            assert worker.application.keys is not None
            worker.application.keys.reload(keys)
            refused, asked = await ask(worker, transport, request)
            assert asked
            assert refused.startswith(b"HTTP/1.1 401 ")
            allowed, _ = await ask(worker, worker.connect(), request.replace(key.encode(), other.encode()))
            assert allowed == second

    asyncio.run(reload())


@pytest.mark.process
def test_requests_with_known_heads_are_in_the_access_log(models: Models, tmp_path: Path) -> None:
    """With the same line as others, the owner of the key and the client that the proxy names included."""
    keys = tmp_path / "keys"
    request = event_request(f"Authorization: Bearer {add_key('a', keys)}", "X-Forwarded-For: 10.1.2.3")
    flags = ("--api-keys", str(keys), "--access-log", "--forwarded-for")
    with live_service(models.paths[0], *flags) as service, Connection(service) as connection:
        for _ in range(3):
            connection.send(request)
            assert connection.response().status == 200
        service.wait_for("request", 3)
        shown = ("path", "status", "client", "client_name", "events", "bytes", "model")
        lines = [tuple(line[name] for name in shown) for line in service.events("request")]
    n_bytes, identity = len(request.partition(b"\r\n\r\n")[2]), load_artefact(models.paths[0]).identity
    assert lines == [("/score", 200, "10.1.2.3", "a", 1, n_bytes, identity)] * 3


def test_the_text_before_an_event_is_read_each_time(models: Models) -> None:
    """Requests to infer of one head and one length have their own identifiers in their responses."""
    content, _ = nested(sample_events(1))

    async def ask_all() -> None:
        async with Worker(models.artefacts[0], Settings()).running() as worker:
            transport = worker.connect()
            for name in "aabb":
                body = b'{"id": "%b", ' % name.encode() + content[1:]
                response, _ = await ask(worker, transport, post(body, fmt=JSON, path=INFER))
                assert b'"id":"%b"' % name.encode() in response

    asyncio.run(ask_all())


def test_a_worker_knows_a_bounded_number_of_heads(models: Models) -> None:
    """The one that was added first is forgotten first."""
    bodies = [post(BODIES[0][2], f"X-Number: {number}") for number in range(MAX_HEADS + 1)]

    async def ask_all() -> None:
        async with Worker(models.artefacts[0], Settings()).running() as worker:
            transport = worker.connect()
            for request in bodies:
                assert (await ask(worker, transport, request))[1]
            assert not (await ask(worker, transport, bodies[1]))[1]
            assert (await ask(worker, transport, bodies[0]))[1]

    asyncio.run(ask_all())


def test_requests_of_known_heads_that_are_not_whole_leave_nothing_behind(models: Models) -> None:
    """Their room is given back, and they are counted, where the client leaves."""
    fmt, path, body = next(one for one in BODIES if one[0] is RAW and len(one[2]) > 1000)
    request = post(body, fmt=fmt, path=path)

    async def leave() -> None:
        async with Worker(models.artefacts[0], Settings()).running() as worker:
            transport = worker.connect()
            await ask(worker, transport, request)
            transport.receive(request[:-1])
            assert worker.metrics()["anomaly_inflight_requests"] == 1
            transport.close()
            await settle(transport)
            metrics = worker.metrics()
            assert (metrics["anomaly_inflight_requests"], metrics["anomaly_inflight_bytes"]) == (0, 0)
            assert metrics[f"anomaly_requests_total route={path} status=499"] == 1

    asyncio.run(leave())

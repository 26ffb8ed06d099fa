"""A live service under damaged HTTP: whole responses, no 5xx, no growth, and right scores for valid requests."""

import json
import random
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

from benchmarks.load.formats import FORMATS, MSGPACK_BINARY
from tests.artefacts import RTOL, oracle, sample_events, write_artefact
from tests.fuzz.damage import damage
from tests.live import TIMEOUT_S, LiveService, live_service

N_CLIENTS = 6
QUIET_S = 0.05
"""A service that has been silent for so long waits for more of a request."""
GROWTH_BYTES = 200_000_000
HEAD = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [^\r\n]*\r\n((?:[A-Za-z-]+: [^\r\n]*\r\n)*)\r\n")
GETS = ["/health", "/model", "/metrics", "/schema", "/schema/openapi.json", "/docs", "/nowhere", "/"]
ODD_HEADERS = [
    *(b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Content-Encoding: gzip"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Expect: 100-continue", b"Connection: close"),
    *(b"Upgrade: websocket", b"Connection: upgrade", b"Content-Type: application/json", b"Accept: */*;q=0"),
    *(b"X: " + b"y" * 20_000, b"Host: \xff", b"\x00: 1", b": 1", b" folded"),
]
ODD_BYTES = [b"\r\n", b"\n", b"\r", b"\x00", b" ", b":", b"\xff", b"\r\n\r\n", b"HTTP/1.1"]
HTTP_VERSION_NOT_SUPPORTED = 505
"""The one status above 499 that is the client's fault."""


class Response(NamedTuple):
    """A response as it was read."""

    status: int
    body: bytes


class Sent(NamedTuple):
    """What is sent on a connection."""

    data: bytes
    n_responses: int | None
    """How many responses it must get; None where it is damaged, and may get none."""


def run(seconds: float, seed: int) -> int:
    """Send damaged requests to a live service for so long and give the number of connections.

    Raises AssertionError with the bytes that were sent.
    """
    with tempfile.TemporaryDirectory() as directory:
        model = write_artefact(Path(directory, "model.onnx"))
        with live_service(model) as service, ThreadPoolExecutor(N_CLIENTS) as threads:
            for number in range(20):
                check_score(service, random.Random(number))
            before = peak_memory_bytes(service)
            stop = threading.Event()
            until = time.monotonic() + seconds
            clients = [
                threads.submit(run_client, service, random.Random(f"{seed} {n}"), until, stop) for n in range(N_CLIENTS)
            ]
            cases = sum(client.result() for client in clients)
            check_score(service, random.Random(seed))
            grown = peak_memory_bytes(service) - before
            assert grown < GROWTH_BYTES, f"seed {seed}: the service grew by {grown} bytes"
            wrong = [
                line for line in service.log_lines if line["level"] != "INFO" and line["event"] != "non-finite score"
            ]
            assert not wrong, f"seed {seed}: {wrong[:3]}"
    return cases


def run_client(service: LiveService, chance: random.Random, until: float, stop: threading.Event) -> int:
    """Send on one connection after another, and check a score now and then."""
    cases = 0
    try:
        while time.monotonic() < until and not stop.is_set():
            converse(service, made(chance), chance)
            cases += 1
            if cases % 20 == 0:
                check_score(service, chance)
    except BaseException:
        stop.set()
        raise
    return cases


def made(chance: random.Random) -> Sent:
    """Make one to four requests, some of them damaged."""
    requests = [request(chance) for _ in range(chance.choice([1, 1, 2, 4]))]
    if chance.random() < 0.25:
        return Sent(b"".join(requests), len(requests))
    place = chance.randrange(len(requests))
    requests[place] = damaged(requests[place], chance)
    return Sent(b"".join(requests), None)


def request(chance: random.Random) -> bytes:
    """Write a good request of any route and format."""
    if chance.random() < 0.2:
        return b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % chance.choice(GETS).encode()
    events = sample_events(chance.choice([1, 2, 50]), seed=chance.randrange(100))
    single, fmt = chance.random() < 0.5, chance.choice([*FORMATS, MSGPACK_BINARY])
    body = fmt.write("features", events[0]) if single else fmt.write("events", events)
    path = ("/score" if single else "/score/batch") + chance.choice(
        ["", "", "?working_point=loose", "?working_point=x"]
    )
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {fmt.media_type}\r\n"
    head += f"Accept: {chance.choice(FORMATS).media_type}\r\n"
    if chance.random() < 0.3:
        return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, chance)
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes, chance: random.Random) -> bytes:
    """Write a body in chunks."""
    size = chance.choice([7, 100, 5000])
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def damaged(good: bytes, chance: random.Random) -> bytes:
    """Damage the head of a request, or any part of it, or add an odd header."""
    line, _, rest = good.partition(b"\r\n")
    if chance.random() < 0.2:
        return b"\r\n".join([line, chance.choice(ODD_HEADERS), rest])
    head_bytes = good.index(b"\r\n\r\n") + 4 if chance.random() < 0.5 else len(good)
    return damage(good[:head_bytes], chance, ODD_BYTES, chance.choice([1, 1, 3])) + good[head_bytes:]


def converse(service: LiveService, sent: Sent, chance: random.Random) -> None:
    """Send in random pieces, and check what comes back; leave early now and then."""
    with connected(service) as wire:
        try:
            for piece in pieces(sent.data, chance):
                wire.sendall(piece)
        except OSError:  # the service has refused it and closed
            if sent.n_responses is not None:
                raise AssertionError(f"closed while sending {sent.data!r}") from None
        if chance.random() < 0.1:
            return
        responses = read(wire, sent)
        check(responses, sent)
        if sent.n_responses is not None:
            assert len(responses) == sent.n_responses, (sent.data, responses)
            check_score_on(wire, chance)


def pieces(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """Cut what is sent."""
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice([0, 0, 1, 5])))
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        yield data[start:end]


def read(wire: socket.socket, sent: Sent) -> list[Response]:
    """Read responses until those that must come are here, the connection ends, or the service is silent."""
    data = b""
    while True:
        responses, rest = parsed(data, sent)
        if sent.n_responses is not None and len(responses) >= sent.n_responses and not rest:
            return responses
        waits = sent.n_responses is not None or bool(rest)
        wire.settimeout(TIMEOUT_S if waits else QUIET_S)
        try:
            more = wire.recv(65_536)
        except TimeoutError:
            assert not waits, (sent.data, data)
            return responses
        except ConnectionError:
            return responses
        if not more:
            return responses
        data += more


def parsed(data: bytes, sent: Sent) -> tuple[list[Response], bytes]:
    """Find the whole responses, and what is left."""
    responses = []
    while data:
        head = HEAD.match(data)
        if head is None:
            assert b"\r\n\r\n" not in data, (sent.data, data[:500])
            break
        status = int(head[1])
        length = re.search(rb"(?i)content-length: ([0-9]+)\r\n", head[2])
        if status == 100:
            data = data[head.end() :]
            continue
        assert length, (sent.data, data[:500])
        end = head.end() + int(length[1])
        if len(data) < end:
            break
        responses.append(Response(status, data[head.end() : end]))
        data = data[end:]
    return responses, data


def check(responses: list[Response], sent: Sent) -> None:
    """Check that no response is a 5xx, and that errors are in JSON."""
    for response in responses:
        expected = 200 <= response.status < 500 or response.status == HTTP_VERSION_NOT_SUPPORTED
        assert expected, (sent.data, response)
        if response.status >= 400:
            error = json.loads(response.body)
            assert error["status_code"] == response.status, (sent.data, response)
            assert error["detail"], (sent.data, response)


def connected(service: LiveService) -> socket.socket:
    """Open a connection."""
    url = httpx.URL(service.base_url)
    wire = socket.create_connection((url.host, url.port or 80), timeout=TIMEOUT_S)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return wire


def check_score(service: LiveService, chance: random.Random) -> None:
    """Check a score over a connection of its own."""
    assert service.process.poll() is None, service.log_text[-3000:]
    with connected(service) as wire:
        check_score_on(wire, chance)


def check_score_on(wire: socket.socket, chance: random.Random) -> None:
    """Check a score over this connection."""
    events = sample_events(3, seed=chance.randrange(1000))
    fmt = chance.choice([*FORMATS, MSGPACK_BINARY])
    body = fmt.write("events", events)
    head = f"POST /score/batch HTTP/1.1\r\nHost: a\r\nContent-Type: {fmt.media_type}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    data = head.encode() + body
    wire.settimeout(TIMEOUT_S)
    wire.sendall(data)
    [response] = read(wire, Sent(data, 1))
    assert response.status == 200, response
    np.testing.assert_allclose(fmt.read("anomaly_scores", response.body), oracle(events), RTOL)


def peak_memory_bytes(service: LiveService) -> int:
    """Read the most memory that the service has had."""
    lines = Path(f"/proc/{service.process.pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

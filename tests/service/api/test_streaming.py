"""Many clients at once, in every format and in any pieces, each get their own scores, and memory stays small."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.load.formats import FORMATS, JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW, Format
from tests.artefacts import RTOL, metadata, model, oracle, sample_events, write_artefact
from tests.live import TIMEOUT_S, LiveService, live_service
from tests.service.server.exchange import Connection, Response, post

N_CLIENTS = 12
N_REQUESTS = 8
MANY_EVENTS = 20_000
ALL_FORMATS = [*FORMATS, MSGPACK_BINARY]

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def service(model_path: Path) -> Iterator[LiveService]:
    """Serve for these tests alone."""
    with live_service(model_path) as service:
        yield service


def send_in_pieces(connection: Connection, data: bytes, generator: np.random.Generator) -> None:
    """Send in random pieces, with a short pause after some."""
    cuts = generator.integers(len(data) + 1, size=generator.integers(8))
    for start, end in pairwise([0, *sorted(cuts.tolist()), len(data)]):
        connection.send(data[start:end])
        if generator.random() < 0.3:
            time.sleep(generator.random() * 0.003)


def draw_request(generator: np.random.Generator, seed: int) -> tuple[bytes, Callable[[Response], None]]:
    """Draw a request, right or wrong, and the check of its response."""
    fmt = ALL_FORMATS[generator.integers(len(ALL_FORMATS))]
    n_events = round(10 ** generator.uniform(0, np.log10(MANY_EVENTS)))
    single = generator.random() < 0.4
    events = sample_events(1 if single else n_events, seed=seed)
    key, path = ("features", "/score") if single else ("events", "/score/batch")
    wrong = generator.random() < 0.15
    row = int(generator.integers(len(events)))
    if wrong:
        events[row, 3] = np.nan
    replied = FORMATS[generator.integers(len(FORMATS))]
    body = fmt.write(key, events[0] if single else events)
    request = post(body, f"Accept: {replied.media_type}", fmt=fmt, path=path)
    if wrong:
        return request, partial(check_refusal, place="features" if single else f"events[{row}]")
    if generator.random() < 0.3:
        decisions = f"Accept: {RAW.media_type}; dtype=bool"
        request = post(body, decisions, fmt=fmt, path=f"{path}?working_point=loose")
        return request, partial(check_decisions, events=events)
    return request, partial(check_scores, events=events, fmt=replied, single=single)


def check_refusal(response: Response, place: str) -> None:
    """Check that the one wrong number is named."""
    assert response.status == 400
    assert json.loads(response.body)["detail"] == f"{place}[3] (feature3) is nan, expected a finite number"


def check_scores(response: Response, events: NDArray[np.float32], fmt: Format, single: bool) -> None:
    """Check that these are the scores of these events, in their order."""
    assert response.status == 200, response.body
    scores = fmt.read("anomaly_score" if single else "anomaly_scores", response.body)
    np.testing.assert_allclose(np.atleast_1d(scores), oracle(events), RTOL)


def check_decisions(response: Response, events: NDArray[np.float32]) -> None:
    """Check that these are the decisions on these events, in their order."""
    assert response.status == 200, response.body
    assert response.headers["content-type"] == f"{RAW.media_type}; dtype=bool"
    assert response.body == (oracle(events) > metadata().working_points[0].threshold).tobytes()


def run_client(service: LiveService, number: int) -> None:
    """Send requests over one connection, or over a new one after disconnecting in the middle of a request."""
    generator = np.random.default_rng(number)
    connection = Connection(service)
    try:
        for place in range(N_REQUESTS):
            request, check = draw_request(generator, seed=1000 * number + place)
            if generator.random() < 0.15:
                send_in_pieces(connection, request[: generator.integers(len(request))], generator)
                connection.socket.close()
                connection = Connection(service)
            else:
                send_in_pieces(connection, request, generator)
                check(connection.response())
    finally:
        connection.socket.close()


def test_every_client_gets_its_own_scores(service: LiveService) -> None:
    """Of many clients at once, some of them wrong and some that disconnect, each gets the scores of its own events."""
    with ThreadPoolExecutor(N_CLIENTS) as threads:
        for client in [threads.submit(run_client, service, number) for number in range(N_CLIENTS)]:
            client.result()
    assert {line["level"] for line in service.log_lines} == {"INFO"}
    assert 'status="5' not in httpx.get(f"{service.base_url}/metrics").text


@pytest.mark.slow
def test_workers_give_every_client_its_own_scores(model_path: Path) -> None:
    """The same holds for several workers."""
    with live_service(model_path, "--workers", "2") as service, ThreadPoolExecutor(N_CLIENTS) as threads:
        for client in [threads.submit(run_client, service, 100 + number) for number in range(N_CLIENTS)]:
            client.result()
        assert {line["level"] for line in service.log_lines} == {"INFO"}


@pytest.mark.parametrize("fmt", [JSON, RAW, MSGPACK], ids=["json", "raw", "msgpack"])
def test_single_events_are_scored_while_large_batches_are(service: LiveService, fmt: Format) -> None:
    """Four clients with large batches and one with single events all get their own scores."""
    events = sample_events(MANY_EVENTS)
    expected = oracle(events)
    batch = post(fmt.write("events", events), f"Accept: {RAW.media_type}", fmt=fmt, path="/score/batch")
    enough = threading.Event()

    def post_batches() -> int:
        n_batches = 0
        with Connection(service) as connection:
            while n_batches < 3 or not enough.is_set():
                connection.send(batch)
                np.testing.assert_allclose(np.frombuffer(connection.response().body, "<f4"), expected, RTOL)
                n_batches += 1
        return n_batches

    with ThreadPoolExecutor(4) as threads, Connection(service) as connection:
        posting = [threads.submit(post_batches) for _ in range(4)]
        try:
            for event, score in zip(events[:100], expected, strict=False):
                connection.send(post(JSON.write("features", event)))
                np.testing.assert_allclose(json.loads(connection.response().body)["anomaly_score"], score, RTOL)
        finally:
            enough.set()
        assert all(client.result() >= 3 for client in posting)


LARGEST_BYTES = 64 * 2**20


def peak_memory_bytes(pid: int) -> int:
    """Read the most memory that a process has had."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.slow
def test_the_largest_bodies_do_not_make_the_service_grow(tmp_path: Path) -> None:
    """Bodies of 64 MiB take the service less than 60 MB beyond what it has, which their scores are part of."""
    path = write_artefact(tmp_path / "model.onnx", model(metadata(n_features=14)))
    block = sample_events(2048, 14)
    expected = oracle(block)
    row_json = msgspec.json.encode(block.tolist())[1:-1]
    n_raw, n_json = (LARGEST_BYTES - 100) // block.nbytes, (LARGEST_BYTES - 100) // (len(row_json) + 1)
    bodies: list[tuple[Format, Callable[[], bytes], int]] = [
        (RAW, lambda: block.tobytes() * n_raw, n_raw),
        (JSON, lambda: b'{"events":[' + b",".join([row_json] * n_json) + b"]}", n_json),
        (MSGPACK_BINARY, lambda: msgspec.msgpack.encode({"events": block.tobytes() * n_raw}), n_raw),
        (NPY, lambda: NPY.write("events", np.tile(block, (n_raw, 1))), n_raw),
    ]
    with live_service(path) as service:
        pid = service.process.pid
        for fmt in FORMATS:  # what every format needs once is none of a body's memory
            body = fmt.write("events", block)
            httpx.post(f"{service.base_url}/score/batch", content=body, headers={"Content-Type": fmt.media_type})
        before = peak_memory_bytes(pid)
        for fmt, write, n_blocks in bodies:
            body = write()
            assert len(body) > 0.98 * LARGEST_BYTES
            headers = {"Content-Type": fmt.media_type, "Accept": RAW.media_type}
            url = f"{service.base_url}/score/batch"
            response = httpx.post(url, content=body, headers=headers, timeout=TIMEOUT_S)
            scores = np.frombuffer(response.content, "<f4").reshape(n_blocks, len(block))
            np.testing.assert_allclose(scores, np.broadcast_to(expected, scores.shape), RTOL)
            assert peak_memory_bytes(pid) - before < 60e6, fmt.media_type

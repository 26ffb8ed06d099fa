"""Metrics: counters, durations and gauges as Prometheus reads them."""

import asyncio
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from benchmarks.load.formats import RAW
from service.api.app import create_app
from service.api.operations import MetricsText
from service.drift.monitor import Monitor
from service.metrics.counters import MAX_NOTED, Metrics
from service.metrics.exposition import render
from service.metrics.rows import EVENTS, SECONDS, MetricsError, SharedRow, create_rows, open_rows
from service.model.artefact import Artefact
from service.processes import usage
from service.server import startup, worker
from service.settings import Settings
from tests.artefacts import sample_events
from tests.live import samples

Client = TestClient[Litestar]


@pytest.fixture
def fresh(artefact: Artefact) -> Iterator[Client]:
    """Serve without earlier requests."""
    with TestClient(create_app(Settings(), artefact).main, raise_server_exceptions=False) as client:
        yield client


def score(client: Client, n_events: int) -> None:
    """Score some events."""
    body = RAW.write("events", sample_events(n_events))
    assert client.post("/score/batch", content=body, headers={"Content-Type": RAW.media_type}).status_code == 200


def test_requests_and_events_are_counted(fresh: Client) -> None:
    """Each request, good or refused, is counted by route and status, its duration by route, its events once scored."""
    score(fresh, 1)
    score(fresh, 50)
    fresh.post("/score/batch", content=b"")
    fresh.post("/score/batch", content=b"", headers={"Content-Type": RAW.media_type})
    fresh.post("/score/", content=b"")
    fresh.get("/score")
    response = fresh.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    counted = samples(response.text)
    assert counted["anomaly_requests_total route=/score/batch status=200"] == 2
    assert counted["anomaly_requests_total route=/score/batch status=415"] == 1
    assert counted["anomaly_requests_total route=/score/batch status=400"] == 1
    assert counted["anomaly_requests_total route=/score status=415"] == 1
    assert counted["anomaly_requests_total route=/score status=405"] == 1
    assert counted["anomaly_request_seconds_count route=/score/batch"] == 4
    assert counted["anomaly_request_seconds_count route=/score"] == 2
    assert counted["anomaly_request_seconds_bucket le=10.0 route=/score/batch"] == 4
    assert counted["anomaly_request_seconds_sum route=/score/batch"] > 0
    assert counted["anomaly_events_scored_total"] == 51
    assert counted["anomaly_batch_events_count"] == 2
    assert counted["anomaly_batch_events_bucket le=1.0"] == 1


def test_unknown_paths_share_one_label(fresh: Client) -> None:
    """Clients cannot create labels: all unknown paths are one route."""
    for path in ("/a", "/b/c", "/docs/assets/nope"):
        fresh.get(path)
    counted = samples(fresh.get("/metrics").text)
    assert counted["anomaly_requests_total route=other status=404"] == 3
    assert not any("/b/c" in name for name in counted)


@pytest.mark.parametrize("n_requests", [1, MAX_NOTED - 1, MAX_NOTED, MAX_NOTED + 1, 2 * MAX_NOTED + 500])
def test_no_request_is_lost_or_counted_twice(n_requests: int) -> None:
    """However many requests are noted before the metrics are read, each counts once in its status, bucket and sum."""
    metrics = Metrics(["/score", "/score/batch"])
    seconds = [SECONDS[place % len(SECONDS)] * (0.5 + place % 3 / 2) for place in range(n_requests)]
    sizes = [10 ** (place % 8) - place % 2 for place in range(n_requests)]
    for place in range(n_requests):
        metrics.note_request("/score", 400 if place % 4 == 0 else 200, seconds[place])
        metrics.note_request("/nowhere", 404, 1.0)
        metrics.note_events(sizes[place])
    for _ in range(2):
        counted = samples(render(metrics).decode())
        n_wrong = len(range(0, n_requests, 4))
        assert counted.get("anomaly_requests_total route=/score status=200", 0) == n_requests - n_wrong
        assert counted["anomaly_requests_total route=/score status=400"] == n_wrong
        assert counted["anomaly_requests_total route=other status=404"] == n_requests
        assert counted["anomaly_request_seconds_count route=/score"] == n_requests
        assert counted["anomaly_request_seconds_sum route=/score"] == pytest.approx(sum(seconds))
        for bound in SECONDS:
            within = sum(value <= bound for value in seconds)
            assert counted[f"anomaly_request_seconds_bucket le={bound} route=/score"] == within
        assert counted["anomaly_request_seconds_bucket le=+Inf route=/score"] == n_requests
        assert counted["anomaly_request_seconds_count route=/score/batch"] == 0
        assert counted["anomaly_events_scored_total"] == counted["anomaly_batch_events_sum"] == sum(sizes)
        bucket = "anomaly_batch_events_bucket le="
        counts = {float(name.removeprefix(bucket)): n for name, n in counted.items() if name.startswith(bucket)}
        assert counts == {bound: sum(size <= bound for size in sizes) for bound in (*EVENTS, math.inf)}
        assert counted["anomaly_worker_requests"] == 2 * n_requests


def test_memory_that_cannot_be_had_is_an_error_of_one_line(tmp_path: Path) -> None:
    """The message says why, and the log has it where the service cannot start."""
    with pytest.raises(MetricsError, match="no shared memory for -1 workers: Invalid argument; raise the limits"):
        create_rows(-1)
    with pytest.raises(MetricsError, match="missing: No such file or directory"):
        open_rows(str(tmp_path / "missing"))
    assert startup.FAULTS[MetricsError] == worker.FAULTS[MetricsError] == "cannot keep the metrics"


def test_a_worker_goes_on_with_the_counters_of_the_one_that_it_replaces() -> None:
    """What a dead worker has counted stays, in the same memory; its gauges, and those of a row without a worker, go."""
    path = create_rows(3)
    rows = open_rows(path)
    old, other = (Metrics(["/score"], SharedRow(path, place)) for place in range(2))
    for metrics, n_requests in ((old, 3), (other, 4)):
        for _ in range(n_requests):
            metrics.note_request("/score", 200, 0.5)
            metrics.note_events(10)
        metrics.set_inflight(1, 2, 3)
        metrics.set_connections(5)
        metrics.note_load("model")
        metrics.use_model("first@1")
        metrics.fold()
    rows["pid"] = [[7], [8], [0]]
    counted = samples(render(other).decode())
    assert [counted[f"anomaly_worker_requests pid={pid}"] for pid in (7, 8)] == [3, 4]
    assert [counted[f"anomaly_inflight_{unit}"] for unit in ("requests", "events", "bytes")] == [2, 4, 6]
    assert counted["anomaly_connections"] == 10
    other.note_reload("model", successful=False)
    assert samples(render(old).decode())["anomaly_last_reload_successful file=model"] == 0
    rows["pid"][1] = 0
    counted = samples(render(old).decode())
    assert counted["anomaly_last_reload_successful file=model"] == 1
    assert counted["anomaly_inflight_bytes"] == 3
    assert counted["anomaly_events_scored_total"] == 70
    new = Metrics(["/score"], SharedRow(path, 1))
    new.note_request("/score", 200, 0.5)
    new.use_model("second@2")
    counted = samples(render(new).decode())
    assert counted["anomaly_requests_total route=/score status=200"] == 8
    assert (counted["anomaly_worker_starts_total"], counted["anomaly_connections"]) == (3, 5)
    assert counted["anomaly_request_seconds_sum route=/score"] == 4
    assert counted[f"anomaly_worker_requests pid={os.getpid()}"] == 1
    assert {name for name in counted if "model_info" in name} == {
        "anomaly_model_info model=first@1",
        "anomaly_model_info model=second@2",
    }


def test_what_the_process_takes_is_told() -> None:
    """Processor time, memory and start of a worker are those that Linux knows, in the names and units of Prometheus."""
    before = time.process_time()
    counted = samples(render(Metrics([])).decode())
    assert 0 <= counted["process_cpu_seconds_total"] <= time.process_time()
    assert counted["process_cpu_seconds_total"] == pytest.approx(before, abs=0.5)
    assert 10e6 < counted["process_resident_memory_bytes"] < 10e9
    assert counted["process_start_time_seconds"] < time.time()
    assert usage(2**22 + 1) is None  # above the largest number of a process


def test_the_model_in_use_is_named(fresh: Client) -> None:
    """Its identity is a label, and that of an earlier model is none."""
    assert f"anomaly_model_info model={fresh.get('/model').json()['identity']}" in samples(fresh.get("/metrics").text)
    metrics = Metrics([])
    metrics.use_model("old@1")
    metrics.use_model('new"\\@2')
    named = [name for name in samples(render(metrics).decode()) if name.startswith("anomaly_model_info")]
    assert named == ['anomaly_model_info model=new"\\@2']


def test_the_last_check_of_a_file_is_reported() -> None:
    """A refused file is a 0 until one is accepted, and the time is that of the file in use."""
    metrics = Metrics([])
    before = time.time()
    metrics.note_load("model")
    loaded = samples(render(metrics).decode())
    assert loaded["anomaly_last_reload_successful file=model"] == 1
    assert before <= loaded["anomaly_last_reload_seconds file=model"] <= time.time()
    metrics.note_reload("model", successful=False)
    refused = samples(render(metrics).decode())
    assert refused["anomaly_last_reload_successful file=model"] == 0
    assert refused["anomaly_last_reload_seconds file=model"] == loaded["anomaly_last_reload_seconds file=model"]
    assert "anomaly_last_reload_successful file=keys" not in refused


def test_applications_have_separate_metrics(fresh: Client, artefact: Artefact) -> None:
    """Two applications in one process have metrics of their own."""
    score(fresh, 3)
    with TestClient(create_app(Settings(), artefact).main) as other:
        assert samples(other.get("/metrics").text)["anomaly_events_scored_total"] == 0


def test_the_text_is_written_once_for_all_who_ask_at_once() -> None:
    """Requests of one iteration of the event loop share the text; the next ones get what has been counted since."""

    async def ask() -> list[bytes]:
        metrics = Metrics([])
        text = MetricsText(metrics, Monitor(metrics))
        first = text.read()
        metrics.note_events(7)
        at_once = text.read()
        await asyncio.sleep(0)
        return [first, at_once, text.read()]

    first, at_once, later = asyncio.run(ask())
    assert at_once is first
    assert samples(later.decode())["anomaly_events_scored_total"] == 7

"""Metrics: counters, durations and gauges as Prometheus reads them."""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from benchmarks.load.formats import RAW
from service.api.app import create_app
from service.metrics import EVENTS, MAX_NOTED, SECONDS, Metrics
from service.model.artefact import Artefact
from service.settings import Settings
from tests.artefacts import sample_events
from tests.live import live_service, samples, wait_until

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


def test_metrics_are_in_the_prometheus_text_format(fresh: Client) -> None:
    """The response has Prometheus' own media type, and its parser reads it."""
    response = fresh.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert samples(response.text)


def test_requests_are_counted_and_timed_by_route_and_status(fresh: Client) -> None:
    """Each request, good or refused, is counted by route and status, and its duration by route."""
    score(fresh, 1)
    score(fresh, 2)
    fresh.post("/score/batch", content=b"")
    fresh.post("/score/", content=b"")
    fresh.get("/score")
    counted = samples(fresh.get("/metrics").text)
    assert counted["anomaly_requests_total route=/score/batch status=200"] == 2
    assert counted["anomaly_requests_total route=/score/batch status=415"] == 1
    assert counted["anomaly_requests_total route=/score status=415"] == 1
    assert counted["anomaly_requests_total route=/score status=405"] == 1
    assert counted["anomaly_request_seconds_count route=/score/batch"] == 3
    assert counted["anomaly_request_seconds_count route=/score"] == 2
    assert counted["anomaly_request_seconds_bucket le=10.0 route=/score/batch"] == 3
    assert counted["anomaly_request_seconds_bucket le=0.0001 route=/score/batch"] <= 3


def test_scored_events_are_counted(fresh: Client) -> None:
    """Events count once scored, by the request and in total; a refused request counts none."""
    score(fresh, 1)
    score(fresh, 50)
    fresh.post("/score/batch", content=b"", headers={"Content-Type": RAW.media_type})
    counted = samples(fresh.get("/metrics").text)
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
        counted = samples(metrics.render().decode())
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


def test_the_counters_match_the_requests_sent(fresh: Client) -> None:
    """Requests, events and buckets are those of the requests sent, more of them than are noted at once."""
    sizes = [1] * 700 + [7] * 300 + [101] * 20
    for size in sizes:
        score(fresh, size)
    counted = samples(fresh.get("/metrics").text)
    assert counted["anomaly_requests_total route=/score/batch status=200"] == len(sizes) > MAX_NOTED
    assert counted["anomaly_request_seconds_count route=/score/batch"] == len(sizes)
    assert counted["anomaly_request_seconds_bucket le=+Inf route=/score/batch"] == len(sizes)
    assert counted["anomaly_request_seconds_sum route=/score/batch"] > 0
    assert counted["anomaly_events_scored_total"] == counted["anomaly_batch_events_sum"] == sum(sizes)
    assert [counted[f"anomaly_batch_events_bucket le={bound}"] for bound in ("1.0", "10.0", "100.0", "1000.0")] == [
        700,
        1000,
        1000,
        1020,
    ]
    assert counted["anomaly_worker_requests"] == len(sizes)


def test_the_model_in_use_is_named(fresh: Client) -> None:
    """The model's identity is a label."""
    identity = fresh.get("/model").json()["identity"]
    assert samples(fresh.get("/metrics").text)[f"anomaly_model_info model={identity}"] == 1


def test_an_earlier_model_is_not_named() -> None:
    """After another model is opened, its identity is the only one."""
    metrics = Metrics([])
    metrics.use_model("old@1")
    metrics.use_model("new@2")
    named = {name for name in samples(metrics.render().decode()) if name.startswith("anomaly_model_info")}
    assert named == {"anomaly_model_info model=new@2"}


def test_the_last_check_of_a_file_is_reported() -> None:
    """A refused file is a 0 until one is accepted, and the time is that of the file in use."""
    metrics = Metrics([])
    before = time.time()
    metrics.note_load("model")
    loaded = samples(metrics.render().decode())
    assert loaded["anomaly_last_reload_successful file=model"] == 1
    assert before <= loaded["anomaly_last_reload_seconds file=model"] <= time.time()
    metrics.note_reload("model", successful=False)
    refused = samples(metrics.render().decode())
    assert refused["anomaly_last_reload_successful file=model"] == 0
    assert refused["anomaly_last_reload_seconds file=model"] == loaded["anomaly_last_reload_seconds file=model"]
    assert "anomaly_last_reload_successful file=keys" not in refused


def test_applications_have_separate_metrics(fresh: Client, artefact: Artefact) -> None:
    """Two applications in one process have metrics of their own."""
    score(fresh, 3)
    with TestClient(create_app(Settings(), artefact).main) as other:
        assert samples(other.get("/metrics").text)["anomaly_events_scored_total"] == 0


@pytest.mark.slow
@pytest.mark.process
def test_workers_count_together(model_path: Path) -> None:
    """Each worker reports the metrics of all, and the model once."""
    with live_service(model_path, "--workers", "2") as service:
        body = RAW.write("events", sample_events(10))
        for _ in range(40):  # a connection each, which goes to the worker that has the fewest
            service.post("/score/batch", body, RAW.media_type)
        # The other worker adds its counters ten times a second.
        wait_until(lambda: service.metrics()["anomaly_events_scored_total"] == 400)
        for _ in range(4):
            counted = service.metrics()
            assert counted["anomaly_events_scored_total"] == 400
            assert counted["anomaly_requests_total route=/score/batch status=200"] == 40
            by_worker = [value for name, value in counted.items() if name.startswith("anomaly_worker_requests pid=")]
            assert len(by_worker) == 2
            assert sum(by_worker) >= 40  # and those to /metrics
            assert [counted[name] for name in counted if name.startswith("anomaly_model_info")] == [1]

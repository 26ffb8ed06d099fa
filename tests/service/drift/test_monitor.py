"""The model in use as all workers see it, and as /metrics shows it."""

from collections.abc import Iterator

import numpy as np
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from service.drift.counts import COUNTED_EVENTS
from service.drift.monitor import Monitor, Report
from service.drift.observed import ObservedScorer
from service.metrics.counters import Metrics
from service.metrics.rows import SharedRow, create_rows
from service.model.artefact import Artefact
from service.model.scorer import Scorer
from tests.artefacts import oracle, sample_events
from tests.service.drift.models import artefact, drifted_events
from tests.service.drift.serving import Service, serving

Client = TestClient[Litestar]
MODEL = artefact()
OTHER = artefact(model_version="2")


@pytest.fixture
def service() -> Iterator[Service]:
    """Serve a model with reference histograms."""
    with serving(MODEL) as service:
        yield service


def test_metrics_have_accepted_events_and_the_score_histogram(service: Service) -> None:
    """Every scored event counts by working point, and the sample has the bins of the reference."""
    events = sample_events(5000, seed=5)
    service.send(events, 20)
    scores = oracle(events)
    found = service.measured()
    assert found["anomaly_model_events_total"] == 5000
    for point in MODEL.metadata.working_points:
        assert found[f"anomaly_accepted_events_total working_point={point.name}"] == (scores > point.threshold).sum()
        nominal = found[f"anomaly_nominal_background_efficiency working_point={point.name}"]
        assert nominal == point.background_efficiency
    reference = MODEL.metadata.reference
    assert reference is not None
    bounds = [*map(float, reference.anomaly_score.edges), np.inf]
    counted = {float(name.partition("le=")[2]): n for name, n in found.items() if "sampled_score_bucket" in name}
    background = {float(name.partition("le=")[2]): n for name, n in found.items() if "reference_score" in name}
    assert list(counted) == list(background) == bounds
    assert counted[np.inf] == found["anomaly_sampled_events_total"] == found["anomaly_sampled_score_count"]
    assert background[bounds[-2]] == pytest.approx(0.999)
    assert np.allclose(np.array(list(counted.values())) / counted[np.inf], list(background.values()), atol=0.06)


def test_the_verdict_is_that_of_recent_events(service: Service) -> None:
    """Few events have no verdict, events like background none, and others a strong one that names the feature."""
    service.send(sample_events(500), 1)
    assert np.isnan(service.measured()["anomaly_drift_level"])
    service.send(sample_events(3000, seed=1), 60)
    found = service.measured()
    assert found["anomaly_drift_level"] == 0
    assert found["anomaly_drift_window_events"] == found["anomaly_sampled_events_total"] >= 1000
    assert found["anomaly_drift_sampled_ratio"] == found["anomaly_sampled_events_total"] / 3500
    service.send(drifted_events(20_000), 400)
    found = service.measured()
    assert found["anomaly_drift_level"] == 2
    psi = {name: value for name, value in found.items() if name.startswith("anomaly_feature_psi")}
    assert max(psi, key=lambda name: psi[name]) == "anomaly_feature_psi feature=feature4"
    assert 0 < found["anomaly_score_ks"] < found["anomaly_feature_ks feature=feature4"] < 1


def test_explained_events_count_once(service: Service) -> None:
    """The mixtures that explain an event are no events of clients."""
    events = {"events": sample_events(4).tolist()}
    response = service.client.post("/score/batch?explain", json=events)
    assert len(response.json()["anomaly_scores"]) == 4
    found = service.measured()
    assert found["anomaly_model_events_total"] == found["anomaly_sampled_events_total"] == 4


def test_a_model_without_reference_has_no_drift(artefact: Artefact) -> None:
    """Its events are counted, and the other families are absent; /model says so."""
    with serving(artefact) as service:
        service.send(sample_events(2000), 1)
        text = service.client.get("/metrics").text
        assert f'anomaly_model_events_total{{model="{artefact.identity}"}} 2000.0' in text
        assert "sampled" not in text
        assert "drift" not in text
        assert service.client.get("/model").json()["reference_events"] is None
    with serving(MODEL) as service:
        assert service.client.get("/model").json()["reference_events"] == 20_000


def workers(path: str, *places: int) -> list[Monitor]:
    """Start workers on rows of shared memory."""
    return [Monitor(Metrics([], SharedRow(path, place))) for place in places]


def scorer(monitor: Monitor, model: Artefact) -> ObservedScorer:
    """Have a worker use a model."""
    return ObservedScorer(Scorer(model), monitor.use(model))


def report(monitor: Monitor) -> Report:
    """Get the report of a worker that has a model."""
    found = monitor.report()
    assert found is not None
    return found


def test_workers_are_reported_together() -> None:
    """Any worker reports the events of all that have its model, and goes on where one that has died has stopped."""
    path = create_rows(3)
    first, second, third = workers(path, 0, 1, 2)
    assert first.report() is None
    for monitor, n_events in ((first, 10), (second, 200)):
        scorer(monitor, MODEL).score_rows(sample_events(n_events))
        monitor.tick()
    scorer(third, OTHER).score_rows(sample_events(3000))
    third.tick()
    assert report(first).totals.events == report(second).totals.events == 210
    assert report(third).totals.events == 3000
    [successor] = workers(path, 1)
    scorer(successor, MODEL).score_rows(sample_events(5))
    assert report(successor).totals.events == report(first).totals.events == 215
    totals = report(first).totals
    assert 50 < totals.sampled_events <= 215
    assert totals.bins.sum() == totals.sampled_events * 6  # five features and the score


def test_another_model_begins_at_0() -> None:
    """What requests of the old model still score counts for neither; the same file again goes on."""
    [monitor] = workers(create_rows(1), 0)
    old = scorer(monitor, MODEL)
    old.score_rows(sample_events(100))
    again = scorer(monitor, MODEL)
    again.score_rows(sample_events(20))
    assert report(monitor).totals.events == 120
    new = scorer(monitor, OTHER)
    for _ in range(COUNTED_EVENTS // 4096 + 1):
        old.score_rows(sample_events(4096))
    rows = sample_events(16)
    again.bind(rows).score(3)
    assert report(monitor).totals.events == 0
    new.score_rows(sample_events(7))
    assert report(monitor).totals.events == 7
    assert report(monitor).artefact is OTHER

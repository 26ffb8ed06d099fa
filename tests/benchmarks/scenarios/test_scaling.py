"""What is predicted comes from what was measured: capacity, service times, and the load that workers can have."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.load.scoring import ScoringRequest, checked
from benchmarks.queueing import Worker
from benchmarks.report.measurements import Check, Latency, Loaded
from benchmarks.report.scaling import check_row
from benchmarks.scenarios import scaling
from benchmarks.scenarios.cases import ROUTES
from benchmarks.scenarios.scaling import BALANCERS, capacity, highest_load, measure_load, measure_service, predict
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.live import LiveService

WORKER = Worker(np.full(100, 0.01), np.full(100, 0.012))


def test_the_slowest_worker_sets_the_capacity() -> None:
    """A worker of 10 ms answers 100 requests a second, and two answer as many if one of them takes 20 ms."""
    slow = Worker.steady(np.full(100, 0.02))
    assert capacity([WORKER]) == pytest.approx(100)
    assert capacity([WORKER, slow]) == pytest.approx(100)


def test_more_load_takes_longer_and_more_workers_bear_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """At low load latency is that of an idle worker; many workers can be busier."""
    monkeypatch.setattr(scaling, "CURVE_REQUESTS", 3000)
    low, high = predict([WORKER], 0.1), predict([WORKER], 0.9)
    assert low.p50_ms == pytest.approx(12)
    assert high.p99_ms > high.p50_ms > low.p50_ms
    in_turn, *_, fewest = BALANCERS
    assert highest_load(WORKER, 1, in_turn) == highest_load(WORKER, 1, fewest) < highest_load(WORKER, 8, in_turn)
    assert highest_load(WORKER, 8, in_turn) <= highest_load(WORKER, 8, fewest)


@pytest.mark.process
def test_a_service_is_measured(service: LiveService, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Service times are found, and a load is both measured and predicted."""
    monkeypatch.setattr(scaling, "SERVICE_S", 0.2)
    monkeypatch.setattr(scaling, "FULL_LOAD_S", 0.02)
    artefact = load_artefact(model)
    events = np.random.default_rng(1).normal(size=(1000, artefact.n_features)).astype(np.float32)
    fmt, path = ROUTES["raw"]
    [request] = checked(
        service.base_url, [ScoringRequest.of(fmt, events, path=path)], {artefact.identity: Scorer(artefact).score}
    )
    [worker] = measure_service([service.base_url], request)
    assert (worker.busy_s >= 0).all()
    assert (worker.idle_s > 0).all()
    found = measure_load([service.base_url], request, [worker], 0.3, 1)
    assert found.measured.requests >= 1
    assert 0 < found.predicted_p50_ms <= found.predicted_p99_ms


def test_a_prediction_that_is_off_says_so() -> None:
    """The ratio is the median of those of the runs, and a factor of 1.25 is missed either way."""
    latency = Latency(100.0, 100.0, 1000, 1.0, 10.0, 11.0, 12.0, 0.1)
    for p99_ms, missed in ((10.0, False), (12.0, False), (13.0, True), (7.0, True)):
        loaded = Loaded(1, 0.3, [Check(latency, 1.0, one) for one in (1.0, p99_ms, 50.0)])
        assert loaded.ratio == pytest.approx(p99_ms / 10)
        assert ("missed" in check_row(loaded)[7]) == missed

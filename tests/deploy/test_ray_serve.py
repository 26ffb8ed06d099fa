"""The application under Ray Serve, with the shipped model."""

import socket
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.load.formats import JSON
from benchmarks.load.scoring import read_sample
from benchmarks.targets.launcher import starting
from service import SHIPPED_MODEL
from service.client import Client
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.live import TIMEOUT_S, wait_until
from tests.training.jobs.engines.clusters import PYTHON, require_engines

pytestmark = [pytest.mark.process, pytest.mark.serial, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "foreign" / "ray_serve.py"
START_S = 300
PROXY_S = "60"
"""Within which Ray Serve's HTTP proxy has to start, or is ended and started again: 5 s by default."""


def test_scores_are_those_of_the_model() -> None:
    """Batches and single events get the right scores, a wrong request its error."""
    require_engines()
    scorer = Scorer(load_artefact(SHIPPED_MODEL))
    events = read_sample(scorer.artefact.n_features)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": PROXY_S,
        "ANOMALY_MODEL": str(SHIPPED_MODEL),
    }
    with starting([str(PYTHON), str(SCRIPT), port], env=environment) as server:
        wait_until(lambda: bool(server.events("ready")) or server.process.poll() is not None, START_S)
        url = server.wait_for("ready")["url"]
        with Client(url) as client:
            result = client.score(events)
        np.testing.assert_array_equal(result.scores, scorer.score(events))
        assert result.model == scorer.artefact.identity
        headers = {"Content-Type": JSON.media_type}
        for event in events[:10]:
            body = JSON.write("features", event)
            response = httpx.post(f"{url}/score", content=body, headers=headers, timeout=TIMEOUT_S)
            np.testing.assert_allclose(response.json()["anomaly_score"], scorer.score(event[np.newaxis])[0], 1e-4)
        response = httpx.post(f"{url}/score", content=b'{"features": [1]}', headers=headers, timeout=TIMEOUT_S)
        assert (response.status_code, response.json()["detail"]) == (400, "the event has 1 features, expected 14")

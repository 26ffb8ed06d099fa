"""The whole path: events -> a trained and exported detector -> scores over HTTP, equal to torch's."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.load.formats import JSON, RAW
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.live import LiveService, live_service
from training.__main__ import main
from training.detectors.presets import PRESETS
from training.evaluation.metrics import auc
from training.events.events import read_events, write_events
from training.fitting.export import PARITY_ATOL, PARITY_RTOL, torch_scores
from training.fitting.run import load_run

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "exported" / "sample.h5"
REAL_PARTICLES = ROOT.parent / "shared" / "lhco" / "events_anomalydetection_tiny.h5"

needs_real_events = pytest.mark.skipif(
    not REAL_PARTICLES.exists(), reason=f"the 1000 real events are not there: {REAL_PARTICLES.name}"
)


FAST = "classic"  # the others take the same way, with `make test-slow`

pytestmark = pytest.mark.process


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[] if name == FAST else [pytest.mark.slow]) for name in PRESETS]
)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train each preset briefly on the shipped sample and export it, as a user would: (run, model)."""
    folder = tmp_path_factory.mktemp(request.param)
    run, model = folder / "run", folder / "model.onnx"
    exposure = []
    if PRESETS[request.param].exposed:
        write_events(folder / "cocktail.h5", read_events(SAMPLE).signal)
        exposure = ["--exposure", str(folder / "cocktail.h5")]
    assert main(["train", str(SAMPLE), "--out", str(run), "--preset", request.param, "--epochs", "2", *exposure]) == 0
    assert main(["export", str(run), "--out", str(model)]) == 0
    return run, model


@pytest.fixture(scope="module")
def live(trained: tuple[Path, Path]) -> Iterator[LiveService]:
    """Serve the exported model in a process of its own."""
    with live_service(trained[1]) as service:
        yield service


@pytest.fixture(scope="module")
def real_features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the features of the 1000 real events."""
    out = tmp_path_factory.mktemp("real") / "features.h5"
    assert main(["features", str(REAL_PARTICLES), str(out)]) == 0
    return out


def _assert_same_everywhere(trained: tuple[Path, Path], live: LiveService, features: NDArray[np.float32]) -> None:
    """Check that torch, the offline scorer and the service, in two formats, agree on features (n, 14)."""
    run, model = trained
    reference = torch_scores(load_run(run).best_scorer(), features)
    found = {"offline": Scorer(load_artefact(model)).score(features)}
    for fmt in (JSON, RAW):
        response = live.post("/score/batch", fmt.write("events", features), fmt.media_type)
        assert response.status_code == 200
        found[fmt.media_type] = fmt.read("anomaly_scores", response.content)
    for name, scores in found.items():
        np.testing.assert_allclose(scores, reference, rtol=PARITY_RTOL, atol=PARITY_ATOL, err_msg=name)
    np.testing.assert_array_equal(found[JSON.media_type].astype(np.float32), found[RAW.media_type])


def test_simulated_events_score_the_same_everywhere(trained: tuple[Path, Path], live: LiveService) -> None:
    """torch, the offline scorer and the service give an event the same score, within the parity gate's tolerance."""
    _assert_same_everywhere(trained, live, read_events(SAMPLE).features)


@pytest.mark.slow
@needs_real_events
def test_real_events_score_the_same_everywhere(
    trained: tuple[Path, Path], live: LiveService, real_features: Path
) -> None:
    """From real particles to scores over HTTP, the chain agrees with torch."""
    _assert_same_everywhere(trained, live, read_events(real_features).features)


@pytest.mark.slow
@needs_real_events
def test_the_shipped_model_finds_the_real_signal(real_features: Path) -> None:
    """On the 1000 real events the shipped model's AUC is well above the 0.78 to 0.82 of a plain autoencoder."""
    events = read_events(real_features)
    scorer = Scorer(load_artefact(ROOT / "exported" / "autoencoder.onnx"))
    scores = [scorer.score(part.features).astype(np.float64) for part in (events.background, events.signal)]
    assert auc(*scores).value > 0.82

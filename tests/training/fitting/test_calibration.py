"""A calibrated model is the same model with other thresholds, and another version."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from tests.artefacts import write_artefact
from tests.training import samples
from training.__main__ import main
from training.events.events import digest, read_events
from training.fitting.calibration import calibrate
from training.fitting.working_points import derive_working_points

EXPORTED = Path(__file__).parents[3] / "exported"
MODEL, SAMPLE = EXPORTED / "autoencoder.onnx", EXPORTED / "sample.h5"


@pytest.fixture(scope="module")
def background() -> NDArray[np.float32]:
    """Read the simulated background that is shipped."""
    return read_events(SAMPLE).background.features


def calibrated(background: NDArray[np.float32]) -> Artefact:
    """Calibrate the shipped model, as version 2, with background features (n, 14)."""
    artefact = load_artefact(MODEL)
    return calibrate(artefact, Scorer(artefact).score(background), digest(background), "2")


def command(model: Path, events: Path, out: Path, version: str = "2") -> list[str]:
    """Return the arguments that calibrate a model."""
    return ["calibrate", str(model), str(events), "--out", str(out), "--model-version", version]


def test_thresholds_and_version_change_and_nothing_else(tmp_path: Path, background: NDArray[np.float32]) -> None:
    """The new file has the thresholds of the sample, another version and identity, and the very same scores."""
    out = tmp_path / "new.onnx"
    assert main(command(MODEL, SAMPLE, out)) == 0
    old, new = load_artefact(MODEL), load_artefact(out)
    scores = Scorer(new).score(background)
    np.testing.assert_array_equal(scores, Scorer(old).score(background))
    assert new.metadata.working_points == derive_working_points(scores, digest(background))
    assert new.metadata.model_version == "2"
    assert new.identity != old.identity
    changed = {"working_points": old.metadata.working_points, "model_version": old.metadata.model_version}
    assert msgspec.structs.replace(new.metadata, **changed) == old.metadata


def test_calibrated_again_the_file_is_the_same(background: NDArray[np.float32]) -> None:
    """The same model, sample and version give the same bytes; another sample gives another identity."""
    assert calibrated(background) == calibrated(background)
    assert calibrated(background).identity != calibrated(background[:2000]).identity


def test_the_nominal_efficiency_holds_on_an_independent_sample(background: NDArray[np.float32]) -> None:
    """On background that took no part, the measured efficiency is the nominal one within both samples' errors."""
    half = len(background) // 2
    made = calibrated(background[:half])
    scores = Scorer(made).score(background[half:])
    for point in made.metadata.working_points:
        nominal = point.background_efficiency
        error = np.sqrt(nominal * (1 - nominal) * (1 / half + 1 / len(scores)))
        assert abs(point.accepts(scores).mean() - nominal) < 4 * error, point.name


def test_what_the_old_thresholds_keep_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the measured efficiency of each old working point before the new ones."""
    assert main(command(MODEL, SAMPLE, tmp_path / "new.onnx")) == 0
    printed = capsys.readouterr().out
    for point in load_artefact(MODEL).metadata.working_points:
        assert f"{point.name:<10} nominal {point.background_efficiency:g}" in printed
    assert load_artefact(tmp_path / "new.onnx").identity in printed


def test_a_version_never_has_two_sets_of_thresholds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The version that the model has already is refused, and nothing is written."""
    version = load_artefact(MODEL).metadata.model_version
    assert main(command(MODEL, SAMPLE, tmp_path / "new.onnx", version)) == 1
    assert f"is version {version!r} already" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_not_calibrated_over_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output that is the model is refused, and the model stays."""
    model = tmp_path / "model.onnx"
    model.write_bytes(MODEL.read_bytes())
    assert main(command(model, SAMPLE, model)) == 1
    assert "This is the input" in capsys.readouterr().err
    assert model.read_bytes() == MODEL.read_bytes()


def test_too_few_events_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sample that supports no working point is an error that says so."""
    few = samples.written(tmp_path / "few.h5", samples.background(100))
    assert main(command(MODEL, few, tmp_path / "new.onnx")) == 1
    assert "100 background events support no working point" in capsys.readouterr().err


def test_a_model_of_other_features_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that does not take the features of an events file cannot be calibrated with one."""
    other = write_artefact(tmp_path / "other.onnx")
    assert main(command(other, SAMPLE, tmp_path / "new.onnx")) == 1
    assert "use a model that was trained on them" in capsys.readouterr().err

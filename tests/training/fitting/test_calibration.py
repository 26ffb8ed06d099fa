"""A calibrated model is the same model with other thresholds, and another version."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.artefact import Artefact, WorkingPoint, load_artefact
from service.model.scorer import Scorer
from tests.artefacts import write_artefact
from tests.training import samples
from tests.training.commands import refused
from training.__main__ import main
from training.events.events import digest, read_events
from training.fitting.calibration import calibrate, check_table
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


def test_thresholds_and_version_change_and_nothing_else(
    tmp_path: Path, background: NDArray[np.float32], capsys: pytest.CaptureFixture[str]
) -> None:
    """The new file has the thresholds of the sample, another version and identity, and the very same scores.

    The measured efficiency of each old working point is printed before the new ones.
    """
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
    before, _, after = capsys.readouterr().out.partition(new.identity)
    for point in old.metadata.working_points:
        assert f"{point.name:<10} nominal {point.background_efficiency:g}" in before
    assert "loose      background efficiency 0.1: score > " in after
    assert "tight      background efficiency 0.001: none, its calibration needs 25,000 background events" in after
    assert "very_tight background efficiency 0.0001: none, its calibration needs 250,000 background events" in after


def test_the_error_of_a_nominal_efficiency_is_that_of_its_calibration() -> None:
    """It is binomial, of the sample that the threshold comes from; that of the measured one is of these scores."""
    artefact = load_artefact(MODEL)
    tenth = WorkingPoint("tenth", 0.1, 89.5, 0.1, 900, "c" * 64)
    changed = msgspec.structs.replace(
        artefact, metadata=msgspec.structs.replace(artefact.metadata, working_points=[tenth])
    )
    _, line = check_table(changed, np.arange(100, dtype=np.float32)).splitlines()
    said = " ".join(line.split())
    assert said == "tenth nominal 0.100 ± 0.010, measured 0.100 ± 0.030"  # of 900 and of 100 events


def test_calibrated_again_the_file_is_the_same(background: NDArray[np.float32]) -> None:
    """The same model, sample and version give the same bytes; another sample gives another identity."""
    assert calibrated(background) == calibrated(background)
    assert calibrated(background).identity != calibrated(background[:2000]).identity


def test_what_cannot_be_calibrated_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """A version has one set of thresholds, a model is not calibrated over itself, with few events or other features."""
    model, out, version = tmp_path / "model.onnx", tmp_path / "new.onnx", load_artefact(MODEL).metadata.model_version
    model.write_bytes(MODEL.read_bytes())
    labels = tmp_path / "labels.txt"
    labels.write_text("0")
    few = samples.written(tmp_path / "few.h5", samples.background(100))
    other = write_artefact(tmp_path / "other.onnx")
    for arguments, reason in (
        (command(model, SAMPLE, out, version), f"is version {version!r} already"),
        (command(model, SAMPLE, model), "This is the input"),
        ([*command(model, SAMPLE, labels), "--labels", str(labels)], "This is the input"),
        (command(model, few, out), "100 background events support no working point"),
        (command(other, SAMPLE, out), "use a model that was trained on them"),
    ):
        with subtests.test(reason):
            assert reason in refused(capsys, *arguments)
            assert model.read_bytes() == MODEL.read_bytes()
            assert not out.exists()

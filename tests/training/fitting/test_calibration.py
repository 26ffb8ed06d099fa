"""A calibrated model is the same model with other thresholds, and another version."""

import re
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
from training.errors import ExportError
from training.events.events import digest, read_events
from training.fitting.calibration import calibrate, check_table
from training.fitting.rates import RateTarget, parse_rate
from training.fitting.reference import make_reference
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
    return calibrate(artefact, background, Scorer(artefact).score(background), "2")


def command(model: Path, events: Path, out: Path, version: str = "2") -> list[str]:
    """Return the arguments that calibrate a model."""
    return ["calibrate", str(model), str(events), "--out", str(out), "--model-version", version]


def test_thresholds_and_version_change_and_nothing_else(
    tmp_path: Path, background: NDArray[np.float32], capsys: pytest.CaptureFixture[str]
) -> None:
    """The new file has thresholds and reference of the sample, another version and identity, and the same scores.

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
    assert old.metadata.reference is not None
    assert new.metadata.reference == make_reference(background, scores, old.metadata.reference.floor)
    changed = {name: getattr(old.metadata, name) for name in ("working_points", "model_version", "reference")}
    assert msgspec.structs.replace(new.metadata, **changed) == old.metadata
    before, _, after = capsys.readouterr().out.partition(new.identity)
    for point in old.metadata.working_points:
        assert f"{point.name:<10} nominal {point.background_efficiency:g}" in before
    assert "loose      background efficiency 0.1: score > " in after
    assert "tight      background efficiency 0.001: none, its calibration needs 25,000 background events" in after
    assert "very_tight background efficiency 0.0001: none, its calibration needs 250,000 background events" in after


def test_a_working_point_can_be_asked_for_as_a_rate(
    tmp_path: Path, background: NDArray[np.float32], capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate at an input rate is a background efficiency, times the prescale; calibrated again, the rates stay."""
    out, again = tmp_path / "rates.onnx", tmp_path / "again.onnx"
    flags = ["--rate", "1kHz", "1.5kHz", "--input-rate", "0.2MHz", "--prescale", "4"]
    assert main([*command(MODEL, SAMPLE, out), *flags]) == 0
    printed = capsys.readouterr().out
    assert "1kHz       background efficiency 0.02, 1 kHz of 200 kHz with prescale 4: score > " in printed
    new = load_artefact(out)
    points = {point.name: point for point in new.metadata.working_points}
    assert list(points) == ["loose", "1.5kHz", "1kHz", "medium"]
    scores = Scorer(new).score(background)
    for name, rate_hz in (("1kHz", 1000.0), ("1.5kHz", 1500.0)):
        point = points[name]
        assert (point.rate_hz, point.input_rate_hz, point.prescale) == (rate_hz, 200e3, 4)
        assert point.accepts(scores).sum() == int(len(scores) * rate_hz * 4 / 200e3)
    assert points["loose"].rate_hz is None
    assert main(command(out, SAMPLE, again, "3")) == 0
    assert load_artefact(again).metadata.working_points == new.metadata.working_points
    assert "measured 0.0200 ± 0.0026, 1 kHz of 200 kHz\n" in capsys.readouterr().out


def test_a_rate_has_a_number_and_a_unit(subtests: pytest.Subtests) -> None:
    """Anything but a positive number with one of the units, as they are written, is refused with what is expected."""
    assert [parse_rate(text) for text in ("750Hz", "1.5kHz", "40MHz")] == [750.0, 1500.0, 4e7]
    wrong = ("1khz", "1", "1 kHz", "-1kHz", "0Hz", "0.0kHz", "1e3Hz", "kHz", ".5Hz", "1GHz", "\u0661kHz", "1kHz\n", "")
    for text in wrong:
        expected = re.escape(f"{text!r} is no rate, expected a positive number with Hz, kHz or MHz")
        with subtests.test(text), pytest.raises(ValueError, match=expected):
            parse_rate(text)


def test_rates_that_cannot_be_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """A rate has an input rate and is below it, and the sample has events enough for its threshold."""
    for flags, reason in (
        (["--rate", "1kHz"], "--rate and --input-rate belong together"),
        (["--prescale", "2"], "--prescale is 2, expected a whole number from 1, with a --rate"),
        (["--rate", "1kHz", "--input-rate", "1MHz", "--prescale", "0"], "--prescale is 0, expected a whole number"),
        (["--rate", "1kHz", "--input-rate", "1"], "'1' is no rate"),
    ):
        with subtests.test(reason):
            with pytest.raises(SystemExit, match="2"):
                main([*command(MODEL, SAMPLE, tmp_path / "new.onnx"), *flags])
            assert reason in capsys.readouterr().err
    scores = np.arange(3000, dtype=np.float32)
    for rate, reason in (
        (RateTarget("1kHz", 1e3, 1e3), "the rate 1kHz is expected to be less than 1 kHz, the input rate of 1 kHz"),
        (RateTarget("1kHz", 1e3, 5e3, 5), "to be less than 1 kHz, the input rate of 5 kHz over the prescale of 5"),
        (RateTarget("10Hz", 10, 4e7), "a background efficiency of 2.5e-07, and its threshold needs 100,000,000 backg"),
    ):
        with subtests.test(reason), pytest.raises(ExportError, match=re.escape(reason)):
            derive_working_points(scores, "", [rate])


def test_thresholds_stay_below_the_score_outside_the_range(background: NDArray[np.float32]) -> None:
    """A model of which that score is known is not calibrated with background that mostly lies outside."""
    artefact = load_artefact(MODEL)
    scores = Scorer(artefact).score(background)
    for floor, fine in ((float(scores.max()), True), (float(np.median(scores)), False)):
        changes = {"reference": make_reference(background, scores, floor)}
        known = msgspec.structs.replace(artefact, metadata=msgspec.structs.replace(artefact.metadata, **changes))
        if fine:
            reference = calibrate(known, background[:2000], scores[:2000], "2").metadata.reference
            assert reference is not None
            assert (reference.floor, reference.events) == (floor, 2000)
        else:
            with pytest.raises(ExportError, match=r"threshold of 'loose' is .* the calibration is unlike the training"):
                calibrate(known, background, scores, "2")


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
        (command(other, SAMPLE, out), "name the right ones with --columns"),
    ):
        with subtests.test(reason):
            assert reason in refused(capsys, *arguments)
            assert model.read_bytes() == MODEL.read_bytes()
            assert not out.exists()

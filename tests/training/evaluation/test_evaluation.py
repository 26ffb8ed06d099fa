"""What `evaluate` says of the shipped model on the shipped sample."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.artefacts import write_artefact
from training.__main__ import main
from training.evaluation.evaluation import load_labelled
from training.evaluation.report import load_samples
from training.events.events import FEATURE_NAMES, Events, read_events, write_events
from training.events.hdf5_writer import write_frame

EXPORTED = Path(__file__).parents[3] / "exported"
MODEL, SAMPLE = EXPORTED / "autoencoder.onnx", EXPORTED / "sample.h5"


def test_figures_are_those_of_the_scores(tmp_path: Path) -> None:
    """metrics.json holds what counting the model's scores gives, and the figures and the card are written."""
    assert main(["evaluate", str(MODEL), str(SAMPLE), "--out", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    artefact = load_artefact(MODEL)
    assert metrics["model"] == artefact.identity
    (sample,) = metrics["samples"]
    events = read_events(SAMPLE)
    scores = Scorer(artefact).score(events.features)
    assert events.labels is not None
    for name, label in (("background", 0), ("signal", 1)):
        kept = scores[events.labels == label]
        assert sample[f"{name}_events"] == len(kept)
        for point in artefact.metadata.working_points:
            assert sample[f"{name}_efficiency"][point.name]["value"] == pytest.approx((kept > point.threshold).mean())
    for figure in ("roc.png", "scores.png"):
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
    assert artefact.identity in (tmp_path / "model_card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("keep", [0, 1], ids=["background alone", "signal alone"])
def test_one_class_alone_cannot_be_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: int) -> None:
    """A file with one of the two classes is an error that names the other, and nothing is written."""
    events = read_events(SAMPLE)
    assert events.labels is not None
    write_events(tmp_path / "one.h5", events[events.labels == keep])
    assert main(["evaluate", str(MODEL), str(tmp_path / "one.h5"), "--out", str(tmp_path / "out")]) == 1
    assert f"has 0 {('signal', 'background')[keep]}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_too_little_background_and_equal_scores_are_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What cannot be measured is null and said; a figure that cannot be drawn is a warning; the rest is there."""
    equal = Events(np.repeat(read_events(SAMPLE).features[:1], 100, axis=0), np.repeat([0, 1], 50).astype(np.int8))
    write_events(tmp_path / "equal.h5", equal)
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: 1 // 0)
    out = tmp_path / "out"
    assert main(["evaluate", str(MODEL), str(tmp_path / "equal.h5"), "--out", str(out)]) == 0
    (sample,) = json.loads((out / "metrics.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)["samples"]
    assert sample["max_significance_improvement"] is None
    assert (sample["auc"]["value"], sample["rejection"]["0.5"]["value"]) == (0.5, 1.0)
    for text in (capsys.readouterr().out, (out / "model_card.md").read_text(encoding="utf-8")):
        assert "not measured: fewer than 100 background events" in text
        assert "all scores are equal" in text
    assert len(caplog.records) == 2
    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "model_card.md"]


def test_events_without_labels_cannot_be_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without labels is an error that says so and names the command that takes it."""
    write_events(tmp_path / "unlabelled.h5", Events(read_events(SAMPLE).features[:100]))
    assert main(["evaluate", str(MODEL), str(tmp_path / "unlabelled.h5"), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "label" in error
    assert "score" in error


def test_the_label_may_have_another_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """The column of the labels can be named, to `evaluate`, `report` and `validate`; one that is not there is said."""
    events, named = read_events(SAMPLE), tmp_path / "named.h5"
    assert events.labels is not None
    columns = {**dict(zip(FEATURE_NAMES, events.features.T, strict=True)), "is_signal": events.labels.astype(np.int64)}
    write_frame(named, iter([columns]))
    assert len(load_labelled(named, label="is_signal").signal) == 300
    (sample,) = load_samples(Scorer(load_artefact(MODEL)), [named], label="is_signal")
    assert len(sample.signal or ()) == 300
    for command, model in (("evaluate", [str(MODEL)]), ("report", [str(MODEL)]), ("validate", [])):
        with subtests.test(msg=command):
            out = str(tmp_path / "out")
            assert main([command, *model, str(named), "--label", "no_such", "--out", out]) == 1
            assert "no_such" in capsys.readouterr().err


def test_a_model_of_other_features_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that does not take the features of an events file is an error of one line, and nothing is written."""
    other = write_artefact(tmp_path / "other.onnx")
    assert main(["evaluate", str(other), str(SAMPLE), "--out", str(tmp_path / "out")]) == 1
    assert "use a model that was trained on them" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_samples_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files of the same name could not be told apart in the results, so they are refused."""
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(MODEL), str(SAMPLE), str(tmp_path / "sample.h5"), "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert "same name" in capsys.readouterr().err


def test_the_card_is_that_of_the_shipped_model() -> None:
    """The card and the metrics beside the shipped model are its own."""
    artefact = load_artefact(MODEL)
    assert artefact.sha256 in (EXPORTED / "model_card.md").read_text(encoding="utf-8")
    assert json.loads((EXPORTED / "metrics.json").read_text(encoding="utf-8"))["model"] == artefact.identity


def test_the_shipped_thresholds_hold_on_the_sample() -> None:
    """On simulated background outside the training, each working point has its nominal efficiency."""
    artefact = load_artefact(MODEL)
    scores = Scorer(artefact).score(read_events(SAMPLE).background.features)
    for point in artefact.metadata.working_points:
        expected = point.background_efficiency
        error = np.sqrt(expected * (1 - expected) * (1 / len(scores) + 1 / point.calibration_events))
        assert abs((scores > point.threshold).mean() - expected) < 4 * error, point.name


def test_the_shipped_model_saw_enough_background() -> None:
    """The shipped model was trained on at least 300 000 background events."""
    training = load_artefact(MODEL).metadata.training
    assert training["training_events"] >= 300_000

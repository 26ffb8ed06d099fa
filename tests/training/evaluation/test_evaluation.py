"""What `evaluate` says of the shipped model on the shipped sample."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure

from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.artefacts import metadata, model, write_artefact
from tests.training import samples
from training.__main__ import main
from training.evaluation.card import model_card
from training.evaluation.evaluation import TRAINED_ON, counted, evaluate
from training.evaluation.metrics import Measured, auc
from training.evaluation.samples import load_samples
from training.events.events import FEATURE_NAMES, Events, digest, read_events, write_events
from training.events.hdf5_writer import write_frame
from training.events.kinematics import SIMPLE, ln_simple
from training.events.layout import Layout

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
    for name, label in (("background", 0), ("signal", 1)):
        kept = scores[events.labels == label]
        assert sample[f"{name}_events"] == len(kept)
        for point in artefact.metadata.working_points:
            assert sample[f"{name}_efficiency"][point.name]["value"] == pytest.approx((kept > point.threshold).mean())
    for figure in ("roc.png", "scores.png"):
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
    assert artefact.identity in (tmp_path / "model_card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"configuration": {"simplicity": "2"}, "training_events": 5, "exposure": {"signal_events": 4000}},
        {"configuration": [1], "exposure": True},
    ],
)
def test_any_model_has_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str], training: dict[str, Any]) -> None:
    """Whatever its metadata say of the training: the card claims nothing of simulations or of the shipped models.

    Where the events are those that the model was trained on, card, numbers and the command say so.
    """
    events, out = tmp_path / "mine.h5", tmp_path / "out"
    write_events(events, samples.mixed(150, 50))
    for trained_on in (False, True):
        sha256 = digest(read_events(events).background.features) if trained_on else "d" * 64
        described = msgspec.structs.replace(metadata(14, FEATURE_NAMES), training=training, data_sha256=sha256)
        model_file = write_artefact(tmp_path / "model.onnx", model(described))
        assert main(["evaluate", str(model_file), str(events), "--out", str(out)]) == 0
        card = (out / "model_card.md").read_text(encoding="utf-8")
        assert not re.search(r"shipped|simulat|Pythia|W'|seed", card, re.IGNORECASE)
        assert ("exposed to signals" in card) == ("exposure" in training)
        (sample,) = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["samples"]
        said = [TRAINED_ON in text for text in (capsys.readouterr().out, card)]
        assert [*said, sample["trained_on"]] == [trained_on] * 3


def test_a_stated_prior_has_its_own_figures_beside_the_model() -> None:
    """Card and numbers of the shipped default have what its tilt alone reaches; a model without a prior has none."""
    events = read_events(SAMPLE)
    simple = ln_simple(events.features)
    for model_file, has in ((MODEL, True), (EXPORTED / "exposed" / "autoencoder.onnx", False)):
        scorer = Scorer(load_artefact(model_file))
        (sample,) = load_samples(scorer, [SAMPLE])
        assert sample.background is not None
        assert sample.signal is not None
        evaluation = evaluate(scorer.artefact, sample, sample.background, sample.signal)
        card = model_card(scorer.artefact, [evaluation])
        assert (evaluation.prior_alone is not None) == has == ("| the prior alone, nothing learned |" in card)
        if evaluation.prior_alone:
            scaler = scorer.artefact.metadata.scaler
            columns = [scaler.names.index(name) for name in simple]
            mean, scale = np.array(scaler.mean)[columns], np.array(scaler.scale)[columns]
            signs = np.array([SIMPLE[name[:-2]] for name in simple])
            tilt = ((np.stack(list(simple.values()), axis=1) - mean) / scale) @ signs
            expected = auc(tilt[events.labels == 0], tilt[events.labels == 1])
            assert evaluation.prior_alone.auc.value == pytest.approx(expected.value)
            assert f"| AUC | {evaluation.auc} | {expected} |" in card


def test_an_efficiency_without_an_error_is_a_count() -> None:
    """That none or all of the events passed is said as such: the binomial error of that is 0."""
    assert counted(Measured(0.0, 0.0), 907) == "none of 907"
    assert counted(Measured(1.0, 0.0), 20_000) == "all of 20,000"
    assert counted(Measured(0.5, 0.05), 100) == "0.500 ± 0.050"


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


def test_what_cannot_be_evaluated_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Events of one class or without labels, and a model of other features, are errors, and nothing is written."""
    events, other = read_events(SAMPLE), write_artefact(tmp_path / "other.onnx")
    for name, some in (
        ("background", events.background),
        ("signal", events.signal),
        ("unlabelled", Events(events.features[:100])),
    ):
        write_events(tmp_path / f"{name}.h5", some)
    for model_file, name, reason in (
        (
            MODEL,
            "background",
            "holds background alone, expected background (label 0) and signal (label 1) in each file",
        ),
        (MODEL, "signal", "holds signal alone, expected background (label 0) and signal (label 1) in each file"),
        (MODEL, "unlabelled", "say with --label or --labels where the labels are"),
        (other, "signal", "name the right ones with --columns"),
    ):
        with subtests.test(model=model_file.name, events=name):
            assert (
                main(["evaluate", str(model_file), str(tmp_path / f"{name}.h5"), "--out", str(tmp_path / "out")]) == 1
            )
            assert reason in capsys.readouterr().err.splitlines()[-1]
            assert not (tmp_path / "out").exists()


def test_labels_may_be_in_another_column_or_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Every command that uses labels takes the name of their column, or a text file of them for each file of events."""
    events, named, key = read_events(SAMPLE), tmp_path / "named.h5", tmp_path / "key.txt"
    assert events.labels is not None
    columns = {**dict(zip(FEATURE_NAMES, events.features.T, strict=True)), "is_signal": events.labels.astype(np.int64)}
    write_frame(named, iter([columns]))
    key.write_text("\n".join(map(str, 1 - events.labels)))
    scorer = Scorer(load_artefact(MODEL))
    for options, size in ({"layout": Layout(label="is_signal")}, 300), ({"labels": [key]}, 3000):
        (sample,) = load_samples(scorer, [named], **options)
        assert len(sample.signal or ()) == size
    (tmp_path / "short.txt").write_text("0 1")
    for command in (["evaluate", str(MODEL)], ["report", str(MODEL)], ["validate"]):
        with subtests.test(command[0]):
            arguments = [*command, str(named), "--out", str(tmp_path / "out.png")]
            assert main([*arguments, "--label", "no_such"]) == 1
            assert "no_such" in capsys.readouterr().err
            assert main([*arguments, "--labels", str(tmp_path / "short.txt")]) == 1
            assert "holds 2 labels, expected 3300" in capsys.readouterr().err
            with pytest.raises(SystemExit):
                main([*arguments, "--labels", str(key), str(key)])
            assert "--labels names 2 files, expected 1" in capsys.readouterr().err


def test_samples_of_one_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Two files of the same name could not be told apart in the results: both are named, before any work."""
    for command in ("evaluate", "report"):
        with subtests.test(command):
            out = tmp_path / "out"
            assert main([command, str(MODEL), "a/one.h5", "two.h5", "b/one.h5", "--out", str(out)]) == 1
            assert "a/one.h5 and b/one.h5 have the same name" in capsys.readouterr().err
            assert not out.exists()


def test_what_is_shipped_belongs_together() -> None:
    """The card and the metrics are of the shipped model, which was trained on at least 100 000 background events."""
    artefact = load_artefact(MODEL)
    assert artefact.sha256 in (EXPORTED / "model_card.md").read_text(encoding="utf-8")
    assert json.loads((EXPORTED / "metrics.json").read_text(encoding="utf-8"))["model"] == artefact.identity
    assert artefact.metadata.training["training_events"] >= 100_000


def test_the_shipped_thresholds_hold_on_the_sample() -> None:
    """On simulated background outside the training, each working point has its nominal efficiency."""
    artefact = load_artefact(MODEL)
    scores = Scorer(artefact).score(read_events(SAMPLE).background.features)
    for point in artefact.metadata.working_points:
        expected = point.background_efficiency
        error = np.sqrt(expected * (1 - expected) * (1 / len(scores) + 1 / point.calibration_events))
        assert abs((scores > point.threshold).mean() - expected) < 4 * error, point.name

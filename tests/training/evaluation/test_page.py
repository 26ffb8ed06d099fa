"""The page of a report: every text escaped, nothing left out in silence; and what `report` cannot use."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import msgspec
import pytest

from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from tests.artefacts import metadata, model, with_metadata, write_artefact
from tests.training import samples
from tests.training.evaluation.pages import Page
from training.__main__ import main
from training.architectures import used_options
from training.detectors.presets import PRESETS
from training.detectors.weak_config import WeakConfig
from training.evaluation.facts import ABOUT_CLASS, facts, in_words
from training.evaluation.page import render
from training.evaluation.report import compile_report
from training.evaluation.samples import load_samples
from training.events.events import BACKGROUND, FEATURE_NAMES, SIGNAL, write_events
from training.model_class import ModelClass


def test_names_are_text_and_a_model_without_points_has_a_report(tmp_path: Path) -> None:
    """Whatever a file or a model is called is shown as text; tables and figures that need a threshold are left out."""
    hostile, formula, hidden = "<img src=x onerror=alert(1)>", "$\\frac{a_{$\udce9", "_" * 80
    files = [
        samples.labelled(tmp_path / f"{formula}.h5", samples.signal(30), SIGNAL),
        samples.labelled(tmp_path / f"{hidden}.h5", samples.signal(2), SIGNAL),
    ]
    write_events(tmp_path / f"{hostile}.h5", samples.mixed(40, 30))
    described = msgspec.structs.replace(
        metadata(14, FEATURE_NAMES),
        model_name="<script>alert(1)</script>",
        training={"configuration": {"seed": "<b>&amp;"}, "exposure": {"signals": ["<i>"]}},
        working_points=[],
    )
    scorer = Scorer(load_artefact(write_artefact(tmp_path / "model.onnx", model(described))))
    scored = load_samples(scorer, [tmp_path / f"{hostile}.h5", *files])
    page = Page(render(scorer.artefact, compile_report(scorer, scored), {}))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "b>", "i"})
    assert page.text.count("could not be drawn") == 7
    shown = (hostile, "$\\frac{a_{$\ufffd", hidden, "<script>alert(1)</script>@", "<b>&amp;", "<i>", "no working point")
    assert [text for text in shown if text not in page.text] == []


def test_what_a_model_saw_is_said(tmp_path: Path) -> None:
    """A model is of the class that it states, or else of the one that exposure and configuration tell.

    One that says nothing is of no class.
    """
    artefact = load_artefact(write_artefact(tmp_path / "model.onnx", with_metadata(training={})))
    for training, shown in (
        ({}, "not stated"),
        ({"class": ["odd"]}, "not stated"),
        ({"configuration": {"simplicity": 0.0}}, "background only: trained without signal or labels"),
        ({"configuration": {"simplicity": 2.0}}, f"background + stated prior: {ABOUT_CLASS[ModelClass.STATED_PRIOR]}"),
        ({"exposure": {"signal_events": 4000}}, "exposed to signals: signal events 4000"),
        ({"class": "trained on these data", "configuration": {"simplicity": 2.0}}, "trained on these data: the events"),
    ):
        described = msgspec.structs.replace(artefact.metadata, training=training)
        stated = facts(Artefact(artefact.graph, described, artefact.sha256))
        assert stated["Class"].startswith(shown)
        assert (stated["Configuration"] == "not stated") == ("configuration" not in training)
    assert in_words({"hidden": [64, 32], "learning_rate": 1e-3}) == "hidden [64, 32], learning rate 0.001"


def test_only_the_options_of_its_architecture_are_shown(tmp_path: Path) -> None:
    """What a model does not use is no fact about it; a configuration of another kind is shown as it is."""
    artefact = load_artefact(write_artefact(tmp_path / "model.onnx", with_metadata(training={})))
    of_quantum, of_density = {"simplicity", "solver", "circuit_layers", "trash_qubits"}, {"components", "simplicity"}
    everywhere = {"name", "feature_map", "architecture", "epochs", "patience", "batch_size", "learning_rate"}
    everywhere |= {"schedule", "validation_fraction", "seed"}
    for preset, used in (
        ("classic", {"hidden", "latent"}),
        ("variational", {"hidden", "latent", "kl_weight"}),
        ("density", {"hidden", "latent", "members", "distillation_steps"} | of_density),
        ("quantum", of_quantum),
        ("exposed", {"hidden"}),
    ):
        assert used_options(asdict(PRESETS[preset])).keys() == everywhere | used
    for stated, shown in (
        (asdict(PRESETS["classic"]) | {"new": 1}, "latent 16, epochs 50"),
        (asdict(WeakConfig()), "folds 5, members 8, trees 30"),
        ({"architecture": ["odd"], "members": 2}, "architecture ['odd'], members 2"),
        ("odd", "odd"),
    ):
        described = msgspec.structs.replace(artefact.metadata, training={"configuration": stated})
        assert shown in facts(Artefact(artefact.graph, described, artefact.sha256))["Configuration"]


def test_unusable_files_and_models_are_errors_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Each is named with its remedy, before anything is written."""
    good, foreign = (
        write_artefact(tmp_path / "good", model(metadata(14, FEATURE_NAMES))),
        write_artefact(tmp_path / "x"),
    )
    both, one, absent = (tmp_path / f"{name}.h5" for name in ("both", "one", "absent"))
    write_events(both, samples.mixed(50, 50))
    write_events(one, samples.mixed(50, 1))
    alone = [
        samples.labelled(tmp_path / f"{label}.h5", samples.background(50), label) for label in (BACKGROUND, SIGNAL)
    ]
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for model_file, events, folder, reason in (
        (good, [alone[0]], "out", f"{alone[0]} holds background alone, expected background (label 0) and signal"),
        (good, [alone[1]], "out", "holds signal alone"),
        (good, [alone[1]], "out", "name a file with both first"),
        (good, [one], "out", f"{one} has 1 signal event, expected none or at least 2"),
        (good, [both, absent], "out", "no such file"),
        (foreign, [both], "out", "has no column 'feature0'"),
        (absent, [absent], "file", "A file, expected a folder"),
    ):
        with subtests.test(msg=reason):
            assert main(["report", str(model_file), *map(str, events), "--out", str(tmp_path / folder)]) == 1
            line = capsys.readouterr().err.splitlines()[-1]
            assert line.startswith("error: ")
            assert reason in line
            assert not (tmp_path / "out").exists()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.process
def test_a_warning_has_a_line_beside_the_progress_bar(tmp_path: Path) -> None:
    """What is said of a file while a bar is shown stands on a line of its own."""
    artefact = write_artefact(tmp_path / "model.onnx", model(metadata(14, FEATURE_NAMES)))
    events = samples.written(tmp_path / "unlabelled.h5", samples.background(20))
    command = [sys.executable, "-m", "training", "report", str(artefact), str(events), "--out", str(tmp_path / "out")]
    lines = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False).stderr.splitlines()
    assert f"{events}: 20 events, no column 'label': all taken as background" in lines

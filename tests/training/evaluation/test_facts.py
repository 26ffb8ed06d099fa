"""`show` says what the file of a model says: as text, as JSON, and its configuration as the TOML of `train`."""

import json
import tomllib
from pathlib import Path

import pytest

from service.model.artefact import load_artefact
from tests.artefacts import with_metadata, write_artefact
from tests.training.commands import refused
from training.__main__ import main
from training.evaluation.facts import facts

SHIPPED = Path("exported/autoencoder.onnx")


def test_the_shipped_model_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Every fact, feature and working point of the default model is there, and what to know of its class."""
    artefact = load_artefact(SHIPPED)
    assert main(["show"]) == 0
    identity, *_ = lines = capsys.readouterr().out.splitlines()
    assert identity == artefact.identity
    assert max(map(len, lines)) <= 120
    text = " ".join(" ".join(lines).split())
    for name, fact in facts(artefact).items():
        assert f"{name} {fact}" in text
    for point in artefact.metadata.working_points:
        efficiency, threshold = f"{point.background_efficiency:g}", f"{point.threshold:.6g}"
        assert f"{point.name} {efficiency} {threshold} ± " in text
    assert "pxj1 [GeV], " in text
    assert "The prior alone, with nothing learned, is the first thing to compare with" in text


def test_a_script_reads_the_metadata(capsys: pytest.CaptureFixture[str]) -> None:
    """--json has identity, digest and metadata."""
    artefact = load_artefact(SHIPPED)
    assert main(["show", str(SHIPPED), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["identity"], shown["sha256"]) == (artefact.identity, artefact.sha256)
    assert shown["feature_names"] == artefact.metadata.feature_names
    assert [point["threshold"] for point in shown["working_points"]] == [
        point.threshold for point in artefact.metadata.working_points
    ]
    assert "golden" not in shown


def test_the_configuration_is_what_train_reads(capsys: pytest.CaptureFixture[str]) -> None:
    """--config prints the configuration that the metadata have, as TOML."""
    assert main(["show", str(SHIPPED), "--config"]) == 0
    configuration = load_artefact(SHIPPED).metadata.training["configuration"]
    assert tomllib.loads(capsys.readouterr().out) == configuration


def test_a_model_without_working_points_or_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file of another program is shown as well; it has no configuration to print."""
    path = write_artefact(tmp_path / "model.onnx", with_metadata(training={}, working_points=[]))
    assert main(["show", str(path)]) == 0
    assert "Working point" not in capsys.readouterr().out
    assert refused(capsys, "show", str(path), "--config").endswith("states no configuration: another program made it")

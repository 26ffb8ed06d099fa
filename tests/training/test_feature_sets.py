"""Features from a file train, export, serve and report as those of two jets do; what needs jets refuses them.

They are the five quantities in which events of the LHC Olympics' signal window are published: arrays without names, in
TeV, the label last.
"""

import logging
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.live import live_service
from tests.training.commands import refused
from training.__main__ import main

WINDOW = """
[features]
mjj = "TeV"
m_lighter = "TeV"
m_difference = "TeV"
tau21_lighter = ""
tau21_heavier = ""

[columns]
mjj = 0
m_lighter = 1
m_difference = 2
tau21_lighter = 3
tau21_heavier = 4
label = 5
"""
NAMES = ["mjj", "m_lighter", "m_difference", "tau21_lighter", "tau21_heavier"]


def window(events: int, seed: int, fraction: float = 0.2) -> NDArray[np.float64]:
    """Draw events in the published layout, (events, 6): a fraction of signal of narrower jets, masses that can be 0."""
    rng = np.random.default_rng(seed)
    signal = rng.random(events) < fraction
    light = np.maximum(np.where(signal, rng.normal(0.1, 0.01, events), rng.gamma(2, 0.05, events) - 0.02), 0)
    difference = np.where(signal, rng.normal(0.4, 0.03, events), rng.exponential(0.15, events))
    tau21 = np.clip(rng.normal(np.where(signal, 0.3, 0.7)[:, None], 0.12, (events, 2)), 0, 1)
    mjj = np.where(signal, rng.normal(3.5, 0.05, events), rng.uniform(3.3, 3.7, events))
    return np.column_stack([mjj, light, difference, tau21, signal])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with events in the published layout, their description, and a model of them."""
    folder = tmp_path_factory.mktemp("window")
    (folder / "window.toml").write_text(WINDOW)
    for name, events in (("train", 3000), ("test", 2000)):
        np.save(folder / f"{name}.npy", window(events, seed=events))
    layout = ["--columns", str(folder / "window.toml")]
    flags = ["--features", str(folder / "window.toml"), "--preset", "variational", "--latent", "2", "--epochs", "3"]
    assert main(["train", str(folder / "train.npy"), "--out", str(folder / "run"), *layout, *flags]) == 0
    calibration = ["--calibration", str(folder / "test.npy"), *layout]
    assert main(["export", str(folder / "run"), "--out", str(folder / "window.onnx"), *calibration]) == 0
    return folder


def test_a_model_names_its_features_and_scores_their_files(folder: Path) -> None:
    """Names and units are those of the file, in its order; scores of a file are those of its columns."""
    artefact = load_artefact(folder / "window.onnx")
    assert artefact.metadata.feature_names == NAMES
    assert artefact.metadata.feature_units == ["TeV", "TeV", "TeV", "", ""]
    rows, out = np.load(folder / "test.npy"), folder / "scores.parquet"
    flags = ["--model", str(folder / "window.onnx"), "--columns", str(folder / "window.toml")]
    assert main(["score", str(folder / "test.npy"), "--out", str(out), *flags, "--working-point", "loose"]) == 0
    found = parquet.read_table(out).to_pandas()
    assert list(found) == [*NAMES, "label", "anomaly_score", "accepted"]
    np.testing.assert_array_equal(found["anomaly_score"], Scorer(artefact).score(rows[:, :5].astype(np.float32)))


@pytest.mark.process
def test_a_service_takes_such_events(folder: Path) -> None:
    """The service learns number and names from the model, and says them."""
    events = np.load(folder / "test.npy")[:20, :5].astype(np.float32)
    with live_service(folder / "window.onnx") as service, httpx.Client(base_url=service.base_url) as client:
        scores = client.post("/score/batch", json={"events": events.tolist()}).json()["anomaly_scores"]
        wrong = client.post("/score", json={"features": [1.0] * 14})
    np.testing.assert_array_equal(np.float32(scores), Scorer(load_artefact(folder / "window.onnx")).score(events))
    assert wrong.json()["detail"] == "the event has 14 features, expected 5"


def test_evaluation_report_and_calibration_take_them(folder: Path) -> None:
    """Card and report have units and histograms of these features, and nothing about jets."""
    model, events = str(folder / "window.onnx"), str(folder / "test.npy")
    columns = ["--columns", str(folder / "window.toml")]
    assert main(["evaluate", model, events, "--out", str(folder / "card"), *columns]) == 0
    card = (folder / "card" / "model_card.md").read_text()
    assert (
        "- Input: 5 raw features per event, mjj in TeV, m_lighter in TeV, m_difference in TeV, tau21_lighter, " in card
    )
    assert main(["report", model, events, "--out", str(folder / "report"), *columns]) == 0
    page = (folder / "report" / "report.html").read_text()
    assert {path.name for path in (folder / "report").glob("*.png")} == {
        *("rejection.png", "improvement.png", "scores.png", "contributions.png", "features_event.png")
    }
    assert "second jet" not in page
    assert "could not be drawn" not in page
    new = folder / "new.onnx"
    assert main(["calibrate", model, events, "--out", str(new), "--model-version", "2", *columns]) == 0
    reference = load_artefact(new).metadata.reference
    assert reference is not None
    assert len(reference.features) == 5


def test_events_outside_the_range_are_the_most_anomalous(folder: Path) -> None:
    """A value beyond the training's least or largest, in any feature, scores above all events of the training."""
    scorer, rows = Scorer(load_artefact(folder / "window.onnx")), np.load(folder / "train.npy")
    background = rows[rows[:, 5] == 0, :5].astype(np.float32)
    reference = scorer.artefact.metadata.reference
    assert reference is not None
    assert reference.floor is not None
    ordinary, spread = np.median(background, axis=0), np.ptp(background, axis=0)
    beyond = np.concatenate([ordinary + np.diag(3 * spread), ordinary - np.diag(3 * spread)]).astype(np.float32)
    assert (scorer.score(beyond) >= reference.floor).all()
    assert np.mean(scorer.score(background) >= reference.floor) < 0.005


def test_another_unit_is_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A feature whose spread is a thousand times that of the reference is said to be in another unit."""
    mapping = (folder / "window.toml").read_text().replace("m_lighter = 1", 'm_lighter = "1000 * m1"')
    rows = np.load(folder / "test.npy")
    np.save(folder / "GeV.npy", np.rec.fromarrays(list(rows.T), dtype=[(name, float) for name in ("0", "m1", *"2345")]))
    (folder / "GeV.toml").write_text(mapping)
    caplog.set_level(logging.WARNING)
    flags = ["--model", str(folder / "window.onnx"), "--columns", str(folder / "GeV.toml")]
    assert main(["score", str(folder / "GeV.npy"), "--out", str(folder / "GeV.csv"), *flags]) == 0
    (line,) = [message for message in caplog.messages if "unit" in message]
    assert "m_lighter is about" in line
    assert line.endswith("times larger than expected: is it in another unit? Expected is TeV")


def test_a_density_of_raw_features_needs_no_jets(folder: Path) -> None:
    """The density of latent vector and reconstruction error is fitted to any features, without the prior of jets."""
    layout = ["--features", str(folder / "window.toml"), "--columns", str(folder / "window.toml")]
    plain = ["--preset", "density", "--feature-map", "raw", "--simplicity", "0", "--epochs", "1", "--components", "2"]
    run, out = folder / "density", folder / "density.onnx"
    assert main(["train", str(folder / "train.npy"), "--out", str(run), *layout, *plain]) == 0
    assert main(["export", str(run), "--out", str(out)]) == 0
    assert load_artefact(out).metadata.training["class"] == "background only"


@pytest.mark.parametrize(
    ("toml", "flags", "reason"),
    [
        (
            WINDOW,
            ["--preset", "substructure"],
            "feature_map is 'substructure', expected 'raw' for features from a file",
        ),
        (WINDOW, ["--preset", "quantum"], "feature_map is 'ratios', expected 'raw' for features from a file"),
        (
            WINDOW,
            ["--preset", "density", "--feature-map", "raw"],
            "simplicity is 1.5, expected 0 for features from a file",
        ),
        ("mjj = 'TeV'", [], "has no table [features], expected one with a line for each feature"),
        ("[features]\nmjj = 1", [], "the unit of mjj is 1, expected a text"),
        ("[features]\nlabel = ''", [], "label cannot be a feature"),
        ("[features\n", [], "cannot be read as TOML"),
    ],
)
def test_what_needs_jets_refuses_other_features(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], toml: str, flags: list[str], reason: str
) -> None:
    """A preset that looks at jets, and a description that names no features, are refused before any work."""
    (tmp_path / "features.toml").write_text(toml)
    arguments = ["train", str(folder / "train.npy"), "--features", str(tmp_path / "features.toml"), *flags]
    line = refused(capsys, *arguments, "--out", str(tmp_path / "run"), status=2)
    assert reason in line


def test_a_search_needs_the_dijet_mass_of_two_jets(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model of other features is no model to search with; and a file without its features is refused by name."""
    model = ["--model", str(folder / "window.onnx")]
    search = ["search", str(folder / "test.npy"), "--working-point", "loose", "--out", str(tmp_path / "search"), *model]
    assert "expected those of two jets in GeV" in refused(capsys, *search)
    sample = ["score", "exported/sample.h5", "--out", str(tmp_path / "out.csv"), *model]
    assert "has no column 'mjj', 'm_lighter'" in refused(capsys, *sample)

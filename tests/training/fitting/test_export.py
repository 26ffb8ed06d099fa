"""What is exported scores as torch does, says all about itself, and holds nothing of the machine that made it."""

import copy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from service.model.artefact import SCHEMA_VERSION, Artefact, load_artefact
from service.model.explanation import reference_events
from service.model.scorer import Scorer
from tests.training import samples
from tests.training.commands import refused
from tests.training.fitting.runs import CONFIGS as QUICK
from tests.training.fitting.runs import interrupted
from training.__main__ import main
from training.detectors.presets import PRESETS
from training.detectors.scorer import AnomalyScorer
from training.errors import ExportError
from training.events.events import FEATURE_NAMES, FEATURE_UNITS, digest, write_events
from training.fitting import export as exporter
from training.fitting.export import (
    PARITY_ATOL,
    PARITY_BATCHES,
    PARITY_RTOL,
    check_parity,
    code_version,
    export,
    extreme_events,
    to_onnx,
    torch_scores,
)
from training.fitting.fit import train
from training.fitting.reference import make_reference
from training.fitting.run import Exposure, Run, Source, load_run, save_run, split

EVENTS = 3000
HELD_OUT = 300
EXPOSURE = 500
CONFIGS = {
    "density": replace(PRESETS["density"], epochs=2, members=3, distillation_steps=200),
    "exposed": replace(PRESETS["exposed"], epochs=2),
}
pytestmark = pytest.mark.slow  # tests/test_end_to_end.py trains and exports once with `make test`, all presets else


@pytest.fixture(scope="module", params=["density", "exposed"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train what is shipped for two epochs."""
    features = samples.background(EVENTS)
    source = Source(("events.h5",), EVENTS, digest(features))
    config, signals = CONFIGS[request.param], samples.signal(EXPOSURE)
    exposure = (Exposure("cocktail.h5", EXPOSURE, digest(signals)), signals) if config.exposed else None
    return train(source, features, config, tmp_path_factory.mktemp("run"), "cpu", exposure)


@pytest.fixture(scope="module")
def calibration() -> NDArray[np.float32]:
    """Draw background that no run has seen."""
    return samples.background(4000, seed=8)


@pytest.fixture(scope="module")
def artefact(run: Run, calibration: NDArray[np.float32]) -> Artefact:
    """Export the run, calibrated on other events."""
    return export(run, calibration, "1.2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train and export from the command line: a folder of `events.h5` with labels, `run` and `model.onnx`."""
    folder = tmp_path_factory.mktemp("command")
    write_events(folder / "events.h5", samples.mixed(EVENTS, 100))
    assert main(["train", str(folder / "events.h5"), "--out", str(folder / "run"), "--epochs", "2"]) == 0
    assert main(["export", str(folder / "run"), "--out", str(folder / "model.onnx")]) == 0
    return folder


# Parity


def test_the_graph_scores_as_torch_does(run: Run, artefact: Artefact, calibration: NDArray[np.float32]) -> None:
    """In batches of any size, and for extreme events, the graph gives torch's finite scores, of the best weights."""
    extreme = np.concatenate([extreme_events(), samples.degenerate(), samples.signal(50)])
    for events in (*(np.resize(calibration, (size, 14)) for size in PARITY_BATCHES), extreme):
        found = Scorer(artefact).score(events)
        assert np.all(np.isfinite(found))
        expected = torch_scores(run.best_scorer(), events)
        np.testing.assert_allclose(found, expected, rtol=PARITY_RTOL, atol=PARITY_ATOL)


def test_the_score_of_the_network_is_a_value_of_the_graph(
    run: Run, artefact: Artefact, calibration: NDArray[np.float32]
) -> None:
    """Without the range, the score is the network's, as torch computes it, outside the range as well."""
    scorer = run.best_scorer()
    events = np.concatenate([calibration[:100], extreme_events(), samples.signal(50)])
    with torch.no_grad():
        expected = scorer.network.score(scorer.standardise(torch.from_numpy(events))).numpy()
    assert (torch_scores(scorer, events) > expected).any()
    found = Scorer(artefact).of_network().score(events)
    np.testing.assert_allclose(found, expected, rtol=PARITY_RTOL, atol=PARITY_ATOL)


class Wrong(Scorer):
    """A runtime that scores batches of one size otherwise."""

    def __init__(self, artefact: Artefact, size: int) -> None:
        self.size = 0
        super().__init__(artefact)
        self.size = size

    def score_rows(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores (n,) of rows (n, 14)."""
        return super().score_rows(rows) * np.float32(1.001 if len(rows) == self.size else 1.0)


def test_a_graph_that_scores_otherwise_is_refused(run: Run, artefact: Artefact, subtests: pytest.Subtests) -> None:
    """Scores that differ in a batch of any size, for extreme events, or by the smallest constant, are refused."""
    scorer, events = run.best_scorer(), samples.background(100)
    check_parity(Scorer(artefact), scorer, events)
    for size in (1, 2, 7, 4096, len(extreme_events())):
        expected = rf"the graph scores event \d+ of a batch of {size} as .* and torch as .*: nothing was written"
        with subtests.test(size=size), pytest.raises(ExportError, match=expected):
            check_parity(Wrong(artefact, size), scorer, events)
    with torch.no_grad():
        scorer.scaler.scale[-1] *= 1.001
    with pytest.raises(ExportError, match="the graph scores event"):
        check_parity(Scorer(artefact), scorer, events)


def test_a_score_that_is_no_number_is_refused(folder: Path, calibration: NDArray[np.float32]) -> None:
    """A detector whose scores overflow far out is never exported, although the graph agrees with it."""
    broken = load_run(folder / "run")
    last = max(name for name in broken.best if name.startswith("network.decoder.") and name.endswith(".weight"))
    broken.best[last] *= 1e18
    with pytest.raises(ExportError, match="as inf and torch as inf, expected agreement"):
        export(broken, calibration, "1")


def test_a_wrong_graph_is_never_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When graph and torch disagree the command ends with one line and exit code 1, and the old file stays."""

    def other_graph(scorer: AnomalyScorer) -> onnx.ModelProto:
        perturbed = copy.deepcopy(scorer)
        with torch.no_grad():
            perturbed.scaler.mean += 1.0
            perturbed.scaler.scale *= 1.01
        return to_onnx(perturbed)

    out = tmp_path / "model.onnx"
    out.write_bytes(b"old")
    monkeypatch.setattr(exporter, "to_onnx", other_graph)
    assert refused(capsys, "export", str(folder / "run"), "--out", str(out)).startswith("error: ")
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


# The file


def test_the_graph_has_few_operators(run: Run, artefact: Artefact) -> None:
    """The graph takes float32 (batch, 14) and gives float32 (batch,); seen by jets, columns are picked by products."""
    graph = onnx.load_model_from_string(artefact.graph).graph
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    ]
    assert shapes == [["batch", 14], ["batch"]]
    assert [value.name for value in (*graph.input, *graph.output)] == ["features", "anomaly_score"]
    operators = [node.op_type for node in graph.node]
    if run.config.feature_map == "jets":  # others are not shipped
        assert not {"Slice", "Split", "Gather", "Reshape", "Pow", "Div", "Greater", "Where"} & set(operators)
        assert operators.count("Softplus") == 1


def test_the_metadata_is_complete(run: Run, artefact: Artefact, calibration: NDArray[np.float32]) -> None:
    """The file says what it is, what it takes, how it was trained and on what, without any other file."""
    metadata, scorer = artefact.metadata, run.best_scorer()
    assert metadata.schema_version == SCHEMA_VERSION
    assert (metadata.model_name, metadata.model_version) == (run.config.name, "1.2")
    assert tuple(metadata.feature_names) == FEATURE_NAMES
    assert tuple(metadata.feature_units) == FEATURE_UNITS
    assert tuple(metadata.scaler.names) == scorer.feature_map.names
    np.testing.assert_array_equal(metadata.scaler.mean, scorer.scaler.mean)
    np.testing.assert_array_equal(metadata.scaler.scale, scorer.scaler.scale)
    assert metadata.data_sha256 == run.source.sha256
    assert metadata.code_version == code_version()
    losses = [epoch.validation_loss for epoch in run.curve]
    assert metadata.training == {
        "class": run.config.model_class,
        "configuration": {**asdict(run.config), "hidden": list(run.config.hidden)},
        "exposure": ({"events": EXPOSURE, "sha256": digest(samples.signal(EXPOSURE))} if run.config.exposed else None),
        "training_events": EVENTS - HELD_OUT,
        "held_out_events": HELD_OUT,
        "epochs": 2,
        "best_epoch": losses.index(min(losses)) + 1,
        "held_out_loss": min(losses),
        "torch": str(torch.__version__),
    }
    assert [point.name for point in metadata.working_points] == ["loose", "medium"]
    for point in metadata.working_points:
        assert point.calibration_events == len(calibration)
        assert point.calibration_sha256 == digest(calibration)
        kept = point.accepts(Scorer(artefact).score(calibration)).sum()
        assert kept == int(len(calibration) * point.background_efficiency)


def test_scores_are_explained_beside_ordinary_background(artefact: Artefact, calibration: NDArray[np.float32]) -> None:
    """The golden events of the sample up to the loosest threshold are references, and none that was made up."""
    references = reference_events(artefact.metadata)
    assert len(references) >= 6
    assert {event.tobytes() for event in references} <= {event.tobytes() for event in calibration}


def test_golden_pairs_are_events_and_their_scores(
    run: Run, artefact: Artefact, calibration: NDArray[np.float32]
) -> None:
    """Golden pairs go evenly from the least to the most anomalous event of the calibration, and far into the tail."""
    golden = artefact.metadata.golden
    events = np.array(golden.features, np.float32)
    np.testing.assert_allclose(golden.anomaly_scores, torch_scores(run.best_scorer(), events), rtol=PARITY_RTOL)
    ordered = np.sort(torch_scores(run.best_scorer(), calibration))
    evenly = np.linspace(0, len(ordered) - 1, 8).astype(int)
    np.testing.assert_allclose(golden.anomaly_scores[:8], ordered[evenly], rtol=PARITY_RTOL)
    assert len(events) >= 12
    assert min(golden.anomaly_scores[8:]) > 2 * ordered[-1]
    exact = copy.deepcopy(run.best_scorer()).double()(torch.from_numpy(events[8:]).double()).detach()
    np.testing.assert_allclose(golden.anomaly_scores[8:], exact, rtol=1e-5)


def test_the_reference_is_of_the_calibration(run: Run, artefact: Artefact, calibration: NDArray[np.float32]) -> None:
    """The file has histograms of the calibration, and knows what scores lie outside the range of the training."""
    scorer = run.best_scorer()
    training = samples.background(EVENTS)[split(EVENTS, run.config)[0]]
    floor = torch_scores(scorer, training).max()
    assert artefact.metadata.reference == make_reference(
        calibration, Scorer(artefact).score(calibration), float(scorer.range.floor)
    )
    assert float(scorer.range.floor) == pytest.approx(floor, rel=1e-6)


def test_nothing_of_this_machine_is_inside(artefact: Artefact) -> None:
    """The file holds no path: not of this folder, not of a home and not of installed packages."""
    paths = ("/home", "/root", "site-packages", "training/detectors", str(Path.cwd()), str(Path(torch.__file__).parent))
    assert [path for path in paths if path.encode() in artefact.graph] == []


def test_the_same_run_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Exported again, no byte differs."""
    assert main(["export", str(folder / "run"), "--out", str(tmp_path / "again.onnx")]) == 0
    assert (tmp_path / "again.onnx").read_bytes() == (folder / "model.onnx").read_bytes()


# The command


def test_working_points_come_from_the_held_out_part(folder: Path) -> None:
    """By default thresholds are those of the background that the run held out, and signal has no say."""
    made, run = load_artefact(folder / "model.onnx"), load_run(folder / "run")
    held_out = samples.background(EVENTS)[split(EVENTS, run.config)[1]]
    (loose,) = made.metadata.working_points
    assert loose.calibration_sha256 == digest(held_out)
    assert loose.calibration_events == HELD_OUT
    assert loose.accepts(Scorer(made).score(held_out)).sum() == HELD_OUT // 10


def test_calibration_changes_thresholds_and_identity(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Thresholds from other background and another name make another artefact of the same detector."""
    other_events, out = tmp_path / "other.h5", tmp_path / "other.onnx"
    write_events(other_events, samples.mixed(5000, 50, seed=6))
    capsys.readouterr()
    flags = ["--calibration", str(other_events), "--name", "other", "--model-version", "7-test"]
    assert main(["export", str(folder / "run"), "--out", str(out), *flags]) == 0
    own, other = load_artefact(folder / "model.onnx"), load_artefact(out)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{out}: {other.identity}\n")
    assert "loose      background efficiency 0.1: score > " in printed
    assert (other.metadata.model_name, other.metadata.model_version) == ("other", "7-test")
    assert other.identity == f"other@{other.sha256[:12]}"
    assert [point.name for point in other.metadata.working_points] == ["loose", "medium"]
    assert own.metadata.working_points[0].threshold != other.metadata.working_points[0].threshold
    assert other.metadata.working_points[0].calibration_events == 5000
    events = samples.background(20, seed=7)
    np.testing.assert_array_equal(Scorer(own).score(events), Scorer(other).score(events))


def test_what_cannot_be_exported_is_explained(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """A run that is not there, lacks its density or its events, or has a name of no artefact ends with one line."""
    run, out = load_run(folder / "run"), tmp_path / "model.onnx"
    gone, others = tmp_path / "gone.h5", tmp_path / "others.h5"
    write_events(others, samples.mixed(400, 10, seed=2))
    interrupted(tmp_path / "unfinished", QUICK["density"])
    for name, changed in {
        "moved": replace(run, source=replace(run.source, files=(str(gone),))),
        "replaced": replace(run, source=replace(run.source, files=(str(others),))),
        "unnamed": replace(run, config=replace(run.config, name="my model")),
    }.items():
        (tmp_path / name).mkdir()
        save_run(changed, tmp_path / name)
    calibration = ["--calibration", str(folder / "events.h5")]
    for name, flags, message in (
        (".", [], f"error: {tmp_path} holds no checkpoint.pt: train it first"),
        ("unfinished", calibration, "error: the run 'quick' is incomplete after 1 epochs"),
        (
            "unnamed",
            calibration,
            "error: name is 'my model', expected 1 to 100 visible ASCII characters without spaces; give",
        ),
        ("moved", [], f"error: the events that the run was trained on cannot be read: {gone}: there is no such file"),
        ("replaced", [], f"error: {others} no longer hold the events that the run was trained on; give background"),
    ):
        with subtests.test(msg=name):
            line = refused(capsys, "export", str(tmp_path / name), "--out", str(out), *flags)
            assert line.startswith(message)
            assert "--calibration" in line or name not in ("moved", "replaced")
            assert not out.exists()


def test_no_input_is_replaced(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """The artefact takes the place of nothing that it comes from: checkpoint, events, labels, calibration, exposure."""
    run = load_run(folder / "run")
    files = {
        name: tmp_path / name for name in ("events", "labels", "exposure", "calibration", "key", "run/checkpoint.pt")
    }
    source = replace(run.source, files=(str(files["events"]),), labels=(str(files["labels"]),))
    (tmp_path / "run").mkdir()
    save_run(replace(run, source=source, exposure=Exposure(str(files["exposure"]), 1, "")), tmp_path / "run")
    flags = ["--calibration", str(files["calibration"]), "--labels", str(files["key"])]
    for name, out in files.items():
        with subtests.test(name):
            if not out.exists():
                out.write_bytes(b"old")
            before = out.read_bytes()
            assert "This is the input" in refused(capsys, "export", str(tmp_path / "run"), "--out", str(out), *flags)
            assert out.read_bytes() == before


def test_the_code_version_names_package_and_commit() -> None:
    """The version of the package comes first; a checkout adds its commit, and whether it was changed since."""
    package, _, commit = code_version().partition("+")
    assert package.count(".") == 2
    assert len(commit.removesuffix("-dirty")) in (0, 12)

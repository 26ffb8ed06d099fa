"""Weak supervision: a window against a reference, each event scored by trees that did not see it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.load.formats import RAW
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.live import live_service
from tests.training import samples
from tests.training.commands import refused
from training.__main__ import main
from training.detectors.trees import BIN, FEATURE, LEAF, LEFT, RIGHT, VALUE
from training.detectors.weak import fold_of
from training.detectors.weak_config import WeakConfig
from training.errors import CheckpointError
from training.evaluation.metrics import auc
from training.events.events import FEATURE_NAMES, digest, write_events
from training.events.hdf5_writer import write_frame
from training.events.layout import DEFAULT_LAYOUT
from training.fitting.export import extreme_events, torch_scores
from training.fitting.weak_run import Origin, WeakRun, load_weak_run, load_weak_scorer, start_weak_run, train_weak

EVENTS = 3000
SIGNAL = 300
QUICK = WeakConfig(folds=3, members=2, trees=5, leaf_events=20)
FLAGS = ["--folds", "3", "--members", "2", "--trees", "5", "--leaf-events", "20"]
WINDOW = np.concatenate([samples.background(EVENTS, 1), samples.signal(SIGNAL, 1)])
REFERENCE = samples.background(EVENTS, 2)


def run_of(window: NDArray[np.float32], reference: NDArray[np.float32], config: WeakConfig = QUICK) -> WeakRun:
    """Return the run of features (n, 14) and (m, 14)."""
    one, other = (
        Origin(name, DEFAULT_LAYOUT, len(some), digest(some)) for name, some in (("w.h5", window), ("r.h5", reference))
    )
    return start_weak_run(one, other, config)


def trees_of(folder: Path) -> dict[str, bytes]:
    """Return the files of bins and trees by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*.npy")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train from the command line: a folder of `window.h5` with labels, `reference.h5` and `run`."""
    folder = tmp_path_factory.mktemp("weak")
    write_events(folder / "window.h5", samples.mixed(EVENTS, SIGNAL, seed=1))
    samples.written(folder / "reference.h5", REFERENCE)
    assert main(command(folder, folder / "run")) == 0
    return folder


def command(folder: Path, out: Path, *flags: str) -> list[str]:
    """Return the arguments that train on the files of a folder."""
    files = ["--weak", str(folder / "window.h5"), "--reference", str(folder / "reference.h5")]
    return ["train", *files, "--out", str(out), *FLAGS, *flags]


# Training


def test_events_are_scored_by_trees_that_did_not_see_them(tmp_path: Path) -> None:
    """Other events in a fold leave its own trees as they are, to the last bit, and change all others."""
    folds = fold_of(torch.from_numpy(WINDOW), 3).numpy()
    changed = WINDOW.copy()
    changed[folds == 1, 3:] *= 2  # all but the momentum of the first jet, by which events are in a fold
    for name, window in (("one", WINDOW), ("other", changed)):
        train_weak(run_of(window, REFERENCE), window, REFERENCE, tmp_path / name)
    one, other = trees_of(tmp_path / "one"), trees_of(tmp_path / "other")
    assert {name for name in one if one[name] == other[name]} == {
        "edges-1.npy",
        "fold-1-member-0.npy",
        "fold-1-member-1.npy",
    }
    members = [one[name] for name in one if name.startswith("fold")]
    assert len(set(members)) == len(members) == 6


def test_an_interrupted_training_ends_with_the_same_trees(folder: Path, tmp_path: Path) -> None:
    """Stopped at any member and resumed by the same command, no bit differs; a member is trained once."""
    whole = trees_of(folder / "run")
    run = tmp_path / "run"
    run.mkdir()
    stopped = [name for name in whole if name not in ("fold-0-member-1.npy", "fold-2-member-0.npy", "edges-2.npy")]
    for name in (*stopped, "manifest.json"):
        (run / name).write_bytes((folder / "run" / name).read_bytes())
    kept = {name: (run / name).stat().st_mtime_ns for name in stopped if name.startswith("fold-1")}
    with pytest.raises(CheckpointError, match="lacks 2 of 6 members: finish the run, with `train --resume`"):
        load_weak_scorer(load_weak_run(run), run)
    assert main(command(folder, run, "--resume")) == 0
    assert trees_of(run) == whole
    assert {name: (run / name).stat().st_mtime_ns for name in kept} == kept
    assert (run / "range.pt").read_bytes() == (folder / "run" / "range.pt").read_bytes()


def test_labels_play_no_part(folder: Path) -> None:
    """The run is that of all events of the window, whatever their labels say, and finds the signal among them."""
    run = load_weak_run(folder / "run")
    assert (run.config, run.window.events, run.reference.events) == (QUICK, EVENTS + SIGNAL, EVENTS)
    scores = torch_scores(load_weak_scorer(run, folder / "run"), WINDOW).astype(np.float64)
    assert auc(scores[:EVENTS], scores[EVENTS:]).value > 0.8


def test_what_cannot_be_learned_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Few events, the same events twice, missing columns and the trees of another run end with one line."""
    window, reference = str(folder / "window.h5"), str(folder / "reference.h5")
    few = samples.written(tmp_path / "few.h5", REFERENCE[:299])
    copy = samples.written(tmp_path / "copy.h5", REFERENCE)
    write_frame(tmp_path / "columns.h5", [dict(zip(FEATURE_NAMES[:-1], REFERENCE.T[:-1], strict=True))])
    for files, flags, message in (
        ((window, few), FLAGS, f"{few} has 299 events, expected at least 300: 100 for each of 3 folds"),
        ((reference, reference), FLAGS, "hold the same events, expected a signal window and other events"),
        ((copy, reference), FLAGS, "hold the same events, expected a signal window and other events"),
        ((window, tmp_path / "columns.h5"), FLAGS, "tau3j2"),
        ((window, reference), ["--trees", "1000", "--members", "100"], "use fewer folds, members or trees"),
        (
            (window, copy),
            [*FLAGS, "--seed", "2", "--resume", "--out", str(folder / "run")],
            "holds parts of other work",
        ),
    ):
        with subtests.test(message):
            out = [] if "--out" in flags else ["--out", str(tmp_path / "run")]
            given = ["train", "--weak", str(files[0]), "--reference", str(files[1]), *out, *flags]
            assert message in refused(capsys, *given)
            assert not (tmp_path / "run").exists()


def test_wrong_arguments_are_explained(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """What belongs to another kind of training is named, exit code 2 and no folder."""
    window, reference = str(folder / "window.h5"), str(folder / "reference.h5")
    both = ["--weak", window, "--reference", reference]
    for arguments, reason in (
        (["--weak", window], "--weak and --reference need each other"),
        (["--reference", window], "--weak and --reference need each other"),
        ([window, *both], "EVENTS.h5 is for a training without --weak"),
        ([*both, "--epochs", "3"], "--epochs is for a training without --weak"),
        ([*both, "--preset", "density"], "--preset is for a training without --weak"),
        ([*both, "--label", "label"], "--label is for a training without --weak"),
        ([*both, "--device", "cuda"], "--device is for a training without --weak"),
        ([window, "--folds", "3"], "--folds is for a training with --weak"),
        ([*both, "--folds", "1"], "folds is 1, expected 2 to 20"),
        ([*both, "--leaves", "32"], "leaves is 32, expected 2 to 31"),
        ([*both, "--feature-map", "jets"], "feature_map is 'jets', expected one of dijet, raw"),
        ([window, "--feature-map", "dijet"], "feature_map is 'dijet', expected one of raw, substructure"),
        ([], "the following arguments are required: EVENTS.h5, or --weak and --reference"),
    ):
        with subtests.test(reason):
            out = tmp_path / "run"
            assert reason in refused(capsys, "train", *arguments, "--out", str(out), status=2)
            assert not out.exists()
    already = refused(capsys, *command(folder, folder / "run"), status=2)
    assert "already holds a run; continue it with --resume" in already


# Export


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """Export the run."""
    assert main(["export", str(folder / "run"), "--out", str(folder / "model.onnx")]) == 0
    return folder / "model.onnx"


def walked(folder: Path, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return scores (n,) of features (n, 14) node by node, by float64 comparisons with the edges in the run's files."""
    run = load_weak_run(folder)
    scorer = load_weak_scorer(run, folder)
    quantities = scorer.feature_map(torch.from_numpy(features)).numpy().astype(np.float64)
    logits = np.zeros(len(features))
    for event, fold in enumerate(fold_of(torch.from_numpy(features), run.config.folds)):
        edges = np.load(folder / f"edges-{fold}.npy").astype(np.float64)
        for member in range(run.config.members):
            for nodes in np.load(folder / f"fold-{fold}-member-{member}.npy"):
                node = nodes[0]
                while node[FEATURE] != LEAF:
                    feature, last = int(node[FEATURE]), int(node[BIN])
                    left = quantities[event, feature] <= edges[feature, last]
                    node = nodes[int(node[LEFT] if left else node[RIGHT])]
                logits[event] += node[VALUE]
    return np.logaddexp(0, logits)


def at_thresholds(folder: Path) -> NDArray[np.float32]:
    """Return events of which a quantity is exactly an edge of the bins of their fold, or next to it: (n, 14)."""
    events = []
    for fold in range(QUICK.folds):
        lighter, heavier, _, *tau21 = np.load(folder / f"edges-{fold}.npy")
        for edges, columns in ((lighter, (3,)), (heavier, (10,)), (tau21[0], (5,)), (tau21[1], (12,))):
            for towards in (-np.inf, None, np.inf):
                some = samples.background(len(edges), 7)
                some[:, 0] = fold  # GeV of |px|
                some[:, [4, 11]] = 1.0
                some[:, 3], some[:, 10] = lighter[0], heavier[-1]
                value = edges if towards is None else np.nextafter(edges, np.float32(towards))
                some[:, columns] = value[:, None]
                events.append(some)
    return np.concatenate(events)


@pytest.mark.slow
def test_the_graph_scores_as_the_trees_do(folder: Path, model: Path) -> None:
    """Every event, at the thresholds too, has the score of the trees that did not see it, or of the range beyond."""
    scorer = Scorer(load_artefact(model))
    torch_scorer = load_weak_scorer(load_weak_run(folder / "run"), folder / "run")
    events = np.concatenate([WINDOW[::3], REFERENCE[::3], samples.signal(300, 9), at_thresholds(folder / "run")])
    with torch.inference_mode():
        beyond = torch_scorer.range(torch.from_numpy(events)).numpy()
    found = scorer.score(events)
    assert len(events) > 5000
    np.testing.assert_allclose(found, np.maximum(walked(folder / "run", events), beyond), rtol=1e-5)
    extreme = np.concatenate([extreme_events(), samples.degenerate()])
    np.testing.assert_allclose(scorer.score(extreme), torch_scores(torch_scorer, extreme), rtol=1e-5)
    batches = [scorer.score(events[:n]) for n in (1, 2, 7, 4096)]
    for batch in batches:
        np.testing.assert_array_equal(batch, found[: len(batch)])


@pytest.mark.slow
def test_the_artefact_says_what_it_was_trained_on(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Class, events and digests are among the metadata, and working points are those of the reference."""
    artefact = load_artefact(model)
    training, run = artefact.metadata.training, load_weak_run(folder / "run")
    assert (training["class"], training["window_events"]) == ("trained on these data", EVENTS + SIGNAL)
    assert (artefact.metadata.data_sha256, training["reference_sha256"]) == (run.window.sha256, run.reference.sha256)
    (loose, medium) = artefact.metadata.working_points
    assert (loose.calibration_events, medium.calibration_sha256) == (EVENTS, digest(REFERENCE))
    assert loose.accepts(Scorer(artefact).score(REFERENCE)).sum() == EVENTS // 10
    assert artefact.metadata.scaler.names == list(load_weak_scorer(run, folder / "run").feature_map.names)
    flags = ["--calibration", str(folder / "reference.h5"), "--name", "other"]
    assert main(["export", str(folder / "run"), "--out", str(tmp_path / "other.onnx"), *flags]) == 0
    assert load_artefact(tmp_path / "other.onnx").metadata.model_name == "other"
    for name in ("run/manifest.json", "run/edges-0.npy", "window.h5", "reference.h5"):
        line = refused(capsys, "export", str(folder / "run"), "--out", str(folder / name))
        assert "This is the input" in line


@pytest.mark.slow
@pytest.mark.process
def test_the_service_scores_it_as_any_other_model(folder: Path, model: Path) -> None:
    """Served by the unchanged service, every event has the score of the offline scorer."""
    events = np.concatenate([WINDOW, at_thresholds(folder / "run")])
    with live_service(model) as live:
        response = live.post("/score/batch", RAW.write("events", events), RAW.media_type)
    assert response.status_code == 200
    np.testing.assert_array_equal(
        RAW.read("anomaly_scores", response.content), Scorer(load_artefact(model)).score(events)
    )


def test_a_moved_reference_is_explained(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its reference, or with another one, a run needs a calibration."""
    run = load_weak_run(folder / "run")
    gone, others = tmp_path / "gone.h5", samples.written(tmp_path / "others.h5", REFERENCE[:500])
    for path, message in ((gone, "cannot be read"), (others, "no longer holds the reference")):
        moved = tmp_path / path.stem
        train_weak(replace(run, reference=replace(run.reference, path=str(path))), WINDOW, REFERENCE, moved)
        line = refused(capsys, "export", str(moved), "--out", str(tmp_path / "model.onnx"))
        assert message in line
        assert "--calibration" in line

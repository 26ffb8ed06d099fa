"""Training sees background alone, holds back what it promises to, and ends the same whatever interrupts it."""

import csv
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training import samples
from training.__main__ import main
from training.detectors.autoencoders import DensityAutoencoder
from training.detectors.presets import PRESETS, TrainingConfig
from training.errors import CheckpointError, TrainingError
from training.evaluation.metrics import auc
from training.events.events import Events, digest, read_background, read_events, write_events
from training.fitting.fit import CHECKPOINT, Exposure, Run, Source, learning_rate, load_run, split, train

EVENTS = 2000
QUICK = TrainingConfig(name="quick", epochs=2, batch_size=256)
DENSITY = replace(QUICK, feature_map="jets", architecture="density", latent=2, components=4, simplicity=2.0)
CLASSIFIER = replace(QUICK, feature_map="jets", architecture="classifier")
DEADLINE_S = 120.0
PNG = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"
EVERY_ARCHITECTURE = pytest.mark.parametrize(
    "config",
    [
        QUICK,
        replace(QUICK, architecture="variational"),
        replace(QUICK, feature_map="substructure", latent=3),
        DENSITY,
        CLASSIFIER,
    ],
    ids=["autoencoder", "variational", "substructure", "density", "classifier"],
)


def trained(folder: Path, features: NDArray[np.float32], config: TrainingConfig = QUICK) -> Run:
    """Train on features (n, 14) in `folder`, from its checkpoint if it has one; what is exposed sees some signal."""
    source = Source("events.h5", None, len(features), digest(features))
    return train(source, features, config, folder, "cpu", exposure() if config.exposed else None)


def exposure(events: int = 400, seed: int = 5) -> tuple[Exposure, NDArray[np.float32]]:
    """Return signal events to learn beside background, and where they came from."""
    signals = samples.signal(events, seed)
    return Exposure("cocktail.h5", events, digest(signals)), signals


def interrupted(folder: Path, features: NDArray[np.float32], config: TrainingConfig) -> None:
    """Train until the first checkpoint is written, and stop there: the curve cannot be, for a folder in its place."""
    curve = folder / "learning_curve.csv"
    curve.mkdir(parents=True)
    with pytest.raises(OSError, match="Not a regular file"):
        trained(folder, features, config)
    curve.rmdir()
    assert len(load_run(folder).curve) == 1


def assert_same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    """Require the same names and the same bits."""
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert torch.equal(values, other[name]), name


def assert_same_run(one: Run, other: Run) -> None:
    """Require the same weights, last and best, and the same curve."""
    assert_same(one.scorer.state_dict(), other.scorer.state_dict())
    assert_same(one.best, other.best)
    assert one.curve == other.curve


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    """Draw background (EVENTS, 14)."""
    return samples.background(EVENTS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, features: NDArray[np.float32]) -> tuple[Run, Path]:
    """Train once: the run and its folder."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return trained(folder, features, replace(QUICK, epochs=4)), folder


# What is seen


@pytest.mark.parametrize("preset", ["classic", "density", "exposed"])
def test_the_label_is_never_an_input(tmp_path: Path, preset: str) -> None:
    """Background with labels and signal among it, with other signal, and without labels trains the same weights.

    The signals that an exposed preset learns are those of its own file, never those of the training file.
    """
    write_events(tmp_path / "cocktail.h5", samples.mixed(50, 300, seed=5))
    knobs = ["--preset", preset, "--epochs", "1"]
    if PRESETS[preset].exposed:
        knobs += ["--exposure", str(tmp_path / "cocktail.h5")]
    labelled = samples.mixed(EVENTS, 300)
    assert labelled.labels is not None
    other = Events(labelled.features.copy(), labelled.labels)
    other.features[labelled.labels == 1] = samples.signal(300, seed=77)[::-1] * 1000
    files = {
        "labelled": labelled,
        "other-signal": other,
        "no-signal": labelled.background,
        "no-labels": Events(labelled.background.features),
    }
    runs = {}
    for name, events in files.items():
        write_events(tmp_path / f"{name}.h5", events)
        assert main(["train", str(tmp_path / f"{name}.h5"), "--out", str(tmp_path / name), *knobs]) == 0
        runs[name] = load_run(tmp_path / name)
    assert len(runs) == len(files)
    for run in runs.values():
        assert_same_run(run, runs["labelled"])
        assert run.source.sha256 == runs["labelled"].source.sha256
        assert run.source.events == EVENTS


@pytest.mark.parametrize("events", [2, 11, 1000, 12345])
def test_the_split_is_disjoint_complete_and_seeded(events: int) -> None:
    """Every row is in one part, a tenth of them held out; the seed decides which, and nothing else."""
    config = TrainingConfig(validation_fraction=0.5) if events == 2 else TrainingConfig()
    training, held_out = split(events, config)
    assert len(held_out) == round(events * config.validation_fraction)
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(events))
    again = split(events, replace(config, epochs=7, name="other"))
    np.testing.assert_array_equal(again[0], training)
    np.testing.assert_array_equal(again[1], held_out)
    if events > 2:
        assert not np.array_equal(split(events, replace(config, seed=2))[1], held_out)


@pytest.mark.parametrize(("events", "fraction"), [(1, 0.5), (4, 0.1), (10, 0.0), (10, 1.0), (10, 1.5), (10, -0.5)])
def test_an_impossible_split_is_refused(events: int, fraction: float) -> None:
    """A part without events is an error that states both numbers."""
    with pytest.raises(CheckpointError, match=f"^{events} events cannot be split .* {fraction}"):
        split(events, TrainingConfig(validation_fraction=fraction))


@EVERY_ARCHITECTURE
def test_the_scaler_is_that_of_the_training_part(
    tmp_path: Path, features: NDArray[np.float32], config: TrainingConfig
) -> None:
    """Constants are mean and standard deviation over the training part, and no held-out row moves them."""
    moved = features.copy()
    training, held_out = split(EVENTS, config)
    moved[held_out] *= -50.0
    parts = {"before": features, "after": moved}
    before, after = (trained(tmp_path / name, part, replace(config, epochs=1)) for name, part in parts.items())
    mapped = before.scorer.feature_map(torch.from_numpy(features[training])).double().numpy()
    np.testing.assert_allclose(before.scorer.scaler.mean, mapped.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(before.scorer.scaler.scale, mapped.std(axis=0), rtol=1e-5)
    assert_same(before.scorer.state_dict(), after.scorer.state_dict())
    assert before.curve[0].training_loss == after.curve[0].training_loss
    assert before.curve[0].validation_loss != after.curve[0].validation_loss


def test_the_digest_is_of_the_numbers(features: NDArray[np.float32]) -> None:
    """A sample is known by its numbers in their order, whatever their layout in memory or the file."""
    assert digest(np.asfortranarray(features)) == digest(features)
    assert digest(features.astype(">f4")) == digest(features)
    assert digest(features[::-1]) != digest(features)


# What comes out


@EVERY_ARCHITECTURE
def test_training_lowers_the_loss(tmp_path: Path, features: NDArray[np.float32], config: TrainingConfig) -> None:
    """Every architecture, whatever it sees of the features, learns from one epoch to the next."""
    run = trained(tmp_path / "run", features, config)
    assert len(run.curve) == 2
    assert run.curve[1].training_loss < run.curve[0].training_loss
    assert run.curve[1].validation_loss < run.curve[0].validation_loss


def test_the_seed_decides_the_weights(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """The same seed trains the same weights, bit for bit; another seed trains others."""
    one, again = (trained(tmp_path / name, features) for name in ("one", "again"))
    assert_same_run(one, again)
    other = trained(tmp_path / "other", features, replace(QUICK, seed=2))
    assert not torch.equal(other.best["network.encoder.0.weight"], one.best["network.encoder.0.weight"])


def test_the_best_weights_are_those_of_the_lowest_validation_loss(
    tmp_path: Path, features: NDArray[np.float32]
) -> None:
    """On the held-out part the detector that a run yields scores what the curve says at its lowest."""
    few = features[:500]
    restless = replace(QUICK, epochs=60, patience=2, learning_rate=0.1)
    run = trained(tmp_path / "run", few, restless)
    losses = [epoch.validation_loss for epoch in run.curve]
    assert losses.index(min(losses)) < len(losses) - 1, "the last epoch is not the best: the two can be told apart"
    held_out = torch.from_numpy(few[split(len(few), restless)[1]])
    with torch.no_grad():
        best, last = (scorer(held_out).double().mean().item() for scorer in (run.best_scorer(), run.scorer.eval()))
    assert best == pytest.approx(min(losses), rel=1e-6)
    assert last == pytest.approx(losses[-1], rel=1e-6)


def test_training_stops_early(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """After `patience` epochs without a lower validation loss it is over, however many epochs were asked for."""
    config = replace(QUICK, epochs=60, patience=2, learning_rate=0.1)
    run = trained(tmp_path / "run", features[:500], config)
    losses = [epoch.validation_loss for epoch in run.curve]
    assert len(losses) < 60
    assert len(losses) - 1 - losses.index(min(losses)) == 2
    assert [epoch.epoch for epoch in run.curve] == list(range(1, len(losses) + 1))


def test_the_curve_is_written_whole(run: tuple[Run, Path]) -> None:
    """The folder holds checkpoint, curve and figure, and nothing else; each line of the curve is an epoch."""
    result, folder = run
    assert sorted(path.name for path in folder.iterdir()) == [CHECKPOINT, "learning_curve.csv", "learning_curve.png"]
    with (folder / "learning_curve.csv").open(newline="") as file:
        lines = [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]
    assert lines == [
        {"epoch": epoch.epoch, "training_loss": epoch.training_loss, "validation_loss": epoch.validation_loss}
        for epoch in result.curve
    ]
    figure = (folder / "learning_curve.png").read_bytes()
    assert figure.startswith(PNG)
    assert figure.endswith(PNG_END)


def test_a_run_is_read_as_it_was_left(run: tuple[Run, Path]) -> None:
    """The checkpoint holds configuration, source, weights and curve."""
    result, folder = run
    read = load_run(folder)
    assert read.config == result.config
    assert read.source == result.source
    assert read.exposure is result.exposure is None
    assert_same_run(read, result)


def test_a_run_knows_what_it_was_exposed_to(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """The checkpoint holds where the signals came from, how many they were, and their digest."""
    result = trained(tmp_path / "run", features, CLASSIFIER)
    assert load_run(tmp_path / "run").exposure == result.exposure == exposure()[0]


def test_the_exposure_decides_the_weights(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """Other signals train other weights, and what is like the exposure scores above background."""
    config = replace(CLASSIFIER, epochs=6)
    run = trained(tmp_path / "run", features, config)
    source = Source("events.h5", None, len(features), digest(features))
    other = train(source, features, config, tmp_path / "other", "cpu", exposure(seed=6))
    assert not torch.equal(other.best["network.layers.0.weight"], run.best["network.layers.0.weight"])
    with torch.no_grad():
        ordinary, odd = (
            run.best_scorer()(torch.from_numpy(events)).numpy()
            for events in (samples.background(500, seed=8), samples.signal(500, seed=8))
        )
    assert auc(ordinary.astype(np.float64), odd.astype(np.float64)).value > 0.9


def test_the_density_belongs_to_the_best_weights(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """A finished run's density is that of its best autoencoder on the training part; the last weights have none."""
    run = trained(tmp_path / "run", features[:500], replace(DENSITY, epochs=60, patience=2, learning_rate=0.1))
    losses = [epoch.validation_loss for epoch in run.curve]
    assert losses.index(min(losses)) < len(losses) - 1, "the last epoch is not the best: the two can be told apart"
    assert isinstance(run.scorer.network, DensityAutoencoder)
    assert not run.scorer.network.fitted
    scorer, again = run.best_scorer(), run.best_scorer()
    assert isinstance(again.network, DensityAutoencoder)
    with torch.no_grad():
        values = again.standardise(torch.from_numpy(features[:500][split(500, run.config)[0]]))
    again.network.fit_density(values, run.config.seed)
    assert_same(again.state_dict(), scorer.state_dict())


def test_the_cosine_goes_down_from_the_learning_rate() -> None:
    """A cosine starts at the learning rate, is half of it half-way and nearly 0 at the end; constant stays."""
    constant = TrainingConfig(epochs=8, learning_rate=0.002)
    cosine = replace(constant, schedule="cosine")
    assert [learning_rate(constant, epoch) for epoch in range(8)] == [0.002] * 8
    steps = [learning_rate(cosine, epoch) for epoch in range(9)]
    assert (steps[0], steps[4], steps[8]) == pytest.approx((0.002, 0.001, 0.0))
    assert steps[2] == pytest.approx(0.001 * (1 + 0.5**0.5))
    assert steps == sorted(steps, reverse=True)


def test_the_schedule_reaches_the_optimiser(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """After its last epoch the optimiser holds that epoch's step size."""
    config = replace(QUICK, schedule="cosine", learning_rate=0.002)
    (group,) = trained(tmp_path / "run", features[:200], config).optimiser.param_groups
    assert group["lr"] == learning_rate(config, 1) == pytest.approx(0.001)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """A training that diverges is an error that names the learning rate, and never becomes the best of its run."""
    with pytest.raises(TrainingError, match=r"smaller learning_rate than 1e\+30"):
        trained(tmp_path / "run", features, replace(QUICK, epochs=5, learning_rate=1e30))
    if (tmp_path / "run" / CHECKPOINT).exists():
        read = load_run(tmp_path / "run")
        assert all(np.isfinite(epoch.validation_loss) for epoch in read.curve)
        assert all(bool(torch.isfinite(values).all()) for values in read.best.values())


# Interruptions


@EVERY_ARCHITECTURE
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    tmp_path: Path, features: NDArray[np.float32], config: TrainingConfig
) -> None:
    """Two epochs and then two more end with the very weights of four in one go."""
    whole = trained(tmp_path / "whole", features, replace(config, epochs=4))
    trained(tmp_path / "resumed", features, replace(config, epochs=2))
    torch.rand(1000)  # what else was drawn meanwhile makes no difference
    resumed = trained(tmp_path / "resumed", features, replace(config, epochs=4))
    assert_same_run(resumed, whole)
    assert_same_run(load_run(tmp_path / "resumed"), load_run(tmp_path / "whole"))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@EVERY_ARCHITECTURE
def test_a_run_that_was_cut_short_ends_as_an_uninterrupted_one(
    tmp_path: Path, features: NDArray[np.float32], config: TrainingConfig, schedule: Literal["constant", "cosine"]
) -> None:
    """Left after one epoch of three and resumed, a run has the very weights, density and curve of one left alone."""
    config = replace(config, epochs=3, schedule=schedule)
    interrupted(tmp_path / "resumed", features, config)
    torch.rand(1000)  # what else was drawn meanwhile makes no difference
    trained(tmp_path / "resumed", features, config)
    trained(tmp_path / "whole", features, config)
    assert_same_run(load_run(tmp_path / "resumed"), load_run(tmp_path / "whole"))


def test_an_unfinished_density_cannot_be_exported(
    tmp_path: Path, features: NDArray[np.float32], capsys: pytest.CaptureFixture[str]
) -> None:
    """Until its density is fitted a run gives no detector: one line says to finish it, and no file appears."""
    folder, out = tmp_path / "run", tmp_path / "model.onnx"
    interrupted(folder, features, DENSITY)
    with pytest.raises(CheckpointError, match="'quick' has no density yet after 1 epochs: finish it, with `train --re"):
        load_run(folder).best_scorer()
    calibration = ["--calibration", str(samples.written(tmp_path / "calibration.h5", features))]
    capsys.readouterr()
    assert main(["export", str(folder), "--out", str(out), *calibration]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the run 'quick' has no density yet after 1 epochs")
    assert not out.exists()
    trained(folder, features, DENSITY)
    assert main(["export", str(folder), "--out", str(out), *calibration]) == 0


def test_a_killed_command_goes_on(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """After SIGKILL in the middle, the same command with --resume ends with the weights of one left alone."""
    events = samples.written(tmp_path / "events.h5", features)
    arguments = ["train", str(events), "--epochs", "8", "--batch-size", "256"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *arguments, "--out", str(killed)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + DEADLINE_S
    curve = killed / "learning_curve.csv"
    while not (curve.exists() and len(curve.read_text().splitlines()) > 3) and time.monotonic() < deadline:
        assert process.poll() is None, "the command ended by itself"
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = len(load_run(killed).curve)
    assert 2 < done < 8
    assert main([*arguments, "--out", str(killed), "--resume"]) == 0
    assert main([*arguments, "--out", str(whole)]) == 0
    assert_same_run(load_run(killed), load_run(whole))


def test_every_knob_can_be_given_again_to_resume(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """The very command that began a run resumes it, whatever knobs it names, and may ask for more epochs."""
    events = samples.written(tmp_path / "events.h5", features[:200])
    knobs = ["--hidden", "8", "4", "--latent", "2", "--kl-weight", "0.5", "--name", "mine", "--seed", "3"]
    arguments = ["train", str(events), "--out", str(tmp_path / "run"), "--preset", "variational", *knobs]
    assert main([*arguments, "--epochs", "1"]) == 0
    assert main([*arguments, "--epochs", "2", "--resume"]) == 0
    run = load_run(tmp_path / "run")
    assert len(run.curve) == run.config.epochs == 2
    assert (run.config.name, run.config.hidden, run.config.latent, run.config.kl_weight) == ("mine", (8, 4), 2, 0.5)


def test_a_run_resumes_under_its_own_configuration(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """Without a preset or knobs --resume takes those of the run; a preset that differs is refused."""
    events = samples.written(tmp_path / "events.h5", features[:200])
    arguments = ["train", str(events), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--preset", "substructure", "--epochs", "1"]) == 0
    assert main([*arguments, "--resume", "--epochs", "2"]) == 0
    run = load_run(tmp_path / "run")
    assert (run.config.name, len(run.curve)) == ("substructure", 2)
    assert main([*arguments, "--resume", "--preset", "classic"]) == 1


def test_a_resumed_run_knows_where_its_events_are_now(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """Events that were moved between two sittings are found again by export, from any folder."""
    events = samples.written(tmp_path / "before.h5", features[:200])
    arguments = ["--out", str(tmp_path / "run"), "--epochs"]
    assert main(["train", str(events), *arguments, "1"]) == 0
    moved = events.rename(tmp_path / "after.h5")
    assert main(["train", str(moved), *arguments, "2", "--resume"]) == 0
    assert load_run(tmp_path / "run").source.path == str(moved.resolve())


def test_a_curve_that_was_not_drawn_is_drawn(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """A kill between the last checkpoint and its curve leaves nothing missing once the run is resumed."""
    trained(tmp_path / "run", features)
    for name in ("learning_curve.csv", "learning_curve.png"):
        (tmp_path / "run" / name).unlink()
    trained(tmp_path / "run", features)
    assert (tmp_path / "run" / "learning_curve.csv").read_text().count("\n") == 1 + QUICK.epochs
    assert (tmp_path / "run" / "learning_curve.png").exists()


@EVERY_ARCHITECTURE
def test_a_finished_run_is_left_as_it_is(tmp_path: Path, features: NDArray[np.float32], config: TrainingConfig) -> None:
    """Resuming a run that has all its epochs changes no byte."""
    trained(tmp_path / "run", features, config)
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    trained(tmp_path / "run", features, config)
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(QUICK, latent=4), "other latent:"),
        (replace(QUICK, seed=2, batch_size=128), "other batch_size, seed:"),
        (replace(QUICK, feature_map="substructure"), "other feature_map:"),
    ],
)
def test_another_configuration_does_not_resume(
    tmp_path: Path, features: NDArray[np.float32], other: TrainingConfig, named: str
) -> None:
    """A run goes on under its own configuration alone; the message names what differs, and the run stays."""
    trained(tmp_path / "run", features)
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    with pytest.raises(CheckpointError, match=named):
        trained(tmp_path / "run", features, other)
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before


def test_other_events_do_not_resume(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """A run goes on with its own events alone."""
    trained(tmp_path / "run", features)
    with pytest.raises(CheckpointError, match="holds a run with other events"):
        trained(tmp_path / "run", samples.background(EVENTS, seed=9))


def test_other_signals_do_not_resume(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """A run goes on with its own exposure alone, and stays as it was."""
    trained(tmp_path / "run", features, CLASSIFIER)
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    source = Source("events.h5", None, len(features), digest(features))
    with pytest.raises(CheckpointError, match="holds a run with other exposure: resume it with its own"):
        train(source, features, CLASSIFIER, tmp_path / "run", "cpu", exposure(seed=6))
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before


def test_a_cosine_does_not_change_its_length(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """The number of epochs is part of a cosine: a run that has one ends there, but may be more patient."""
    cosine = replace(QUICK, schedule="cosine")
    trained(tmp_path / "run", features, cosine)
    with pytest.raises(CheckpointError, match="holds a run with other epochs:"):
        trained(tmp_path / "run", features, replace(cosine, epochs=4))
    assert len(trained(tmp_path / "run", features, replace(cosine, patience=20)).curve) == 2


def test_a_run_is_not_overwritten(
    run: tuple[Run, Path], tmp_path: Path, features: NDArray[np.float32], capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that holds a run asks for --resume or another folder, with exit code 2."""
    _, folder = run
    before = (folder / CHECKPOINT).read_bytes()
    events = samples.written(tmp_path / "events.h5", features)
    with pytest.raises(SystemExit) as ended:
        main(["train", str(events), "--out", str(folder)])
    assert ended.value.code == 2
    assert f"{folder} already holds a run; go on with it by --resume" in capsys.readouterr().err
    assert (folder / CHECKPOINT).read_bytes() == before


# Refusals


class Foreign:
    """An object that a checkpoint has no business to hold."""


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "pickle", "other", "incomplete"])
def test_a_damaged_checkpoint_is_refused(run: tuple[Run, Path], tmp_path: Path, damage: str) -> None:
    """What is no checkpoint of ours is an error of one line that names the file; nothing in it is executed."""
    _, folder = run
    whole, path = (folder / CHECKPOINT).read_bytes(), tmp_path / CHECKPOINT
    state = torch.load(folder / CHECKPOINT, weights_only=True)
    if damage == "pickle":
        torch.save(Foreign(), path)
    elif damage == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    elif damage == "incomplete":
        del state["best"]
        torch.save(state, path)
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"weights"}[damage])
    with pytest.raises(CheckpointError) as caught:
        load_run(tmp_path)
    assert str(caught.value).startswith(f"{path} is not a checkpoint of this version: ")
    assert "\n" not in str(caught.value)


def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    """A checkpoint is never unpickled freely."""
    (tmp_path / CHECKPOINT).write_bytes(pickle.dumps(Foreign()))
    with pytest.raises(CheckpointError, match="is not a checkpoint of this version"):
        load_run(tmp_path)


def test_a_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    """Where there is no run, the message says how to make one."""
    with pytest.raises(CheckpointError, match=f"holds no checkpoint.pt: train it first, .*--out {tmp_path}"):
        load_run(tmp_path)


def test_a_file_without_background_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Signal alone trains nothing: one line, exit code 1 and no folder."""
    events = tmp_path / "events.h5"
    write_events(events, samples.mixed(5, 20).signal)
    assert main(["train", str(events), "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: {events} holds no background event (label 0), expected some. Give a file that does."
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("labelled", [True, False])
def test_an_exposure_without_signal_is_refused(
    tmp_path: Path, features: NDArray[np.float32], capsys: pytest.CaptureFixture[str], labelled: bool
) -> None:
    """Background alone, or events without labels, are nothing to be exposed to: one line, exit code 1, no folder."""
    cocktail = tmp_path / "cocktail.h5"
    write_events(cocktail, Events(features, np.zeros(EVENTS, np.int8) if labelled else None))
    events = samples.written(tmp_path / "events.h5", features)
    arguments = ["train", str(events), "--out", str(tmp_path / "run"), "--preset", "exposed"]
    assert main([*arguments, "--exposure", str(cocktail)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: {cocktail} has no event with label 1, expected signals; `simulate --cocktail` makes some"
    ]
    assert not (tmp_path / "run").exists()


def test_too_few_events_for_a_density_are_refused(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """A mixture needs an event for each component: said before the training, and not after it."""
    with pytest.raises(CheckpointError, match=r"^9 events to train on cannot make a density of 15 components"):
        trained(tmp_path / "run", features[:10], replace(DENSITY, components=15))
    assert not (tmp_path / "run").exists()


def test_background_is_all_of_an_unlabelled_file(tmp_path: Path, features: NDArray[np.float32]) -> None:
    """Without labels every event is background; with labels, those with label 0, in their order."""
    np.testing.assert_array_equal(read_background(samples.written(tmp_path / "a.h5", features)), features)
    write_events(tmp_path / "b.h5", samples.mixed(EVENTS, 100))
    np.testing.assert_array_equal(read_background(tmp_path / "b.h5"), features)
    assert len(read_events(tmp_path / "b.h5")) == EVENTS + 100


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--preset", "other"], "invalid choice: 'other'"),
        (["--architecture", "other"], "invalid choice: 'other'"),
        (["--feature-map", "other"], "invalid choice: 'other'"),
        (["--device", "other"], "invalid choice: 'other'"),
        (["--epochs", "0"], "--epochs is 0, expected 1 or more"),
        (["--epochs", "some"], "invalid int value: 'some'"),
        (["--patience", "0"], "--patience is 0, expected 1 or more"),
        (["--batch-size", "0"], "--batch-size is 0, expected 1 or more"),
        (["--latent", "0"], "--latent is 0, expected 1 or more"),
        (["--hidden", "64", "0"], "--hidden is 64 0, expected 1 or more"),
        (["--learning-rate", "-1"], "--learning-rate is -1.0, expected"),
        (["--learning-rate", "nan"], "--learning-rate is nan, expected"),
        (["--kl-weight", "-1"], "--kl-weight is -1.0, expected 0 or more"),
        (["--components", "0"], "--components is 0, expected 1 or more"),
        (["--schedule", "other"], "invalid choice: 'other'"),
        (["--preset", "exposed"], "--architecture classifier learns signals too; give some with --exposure"),
        (["--architecture", "classifier"], "--architecture classifier learns signals too; give some with --exposure"),
        (["--exposure", "C.h5"], "--exposure is C.h5, but --architecture autoencoder learns background alone"),
        (["--preset", "density", "--exposure", "C.h5"], "but --architecture density learns background alone"),
        (["--seed", "-1"], "--seed is -1, expected 0 or more"),
    ],
)
def test_wrong_arguments_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    """A knob that makes no sense ends with one clear line after the usage, exit code 2 and no folder."""
    with pytest.raises(SystemExit) as ended:
        main(["train", str(tmp_path / "events.h5"), "--out", str(tmp_path / "run"), *arguments])
    assert ended.value.code == 2
    *usage, line = capsys.readouterr().err.splitlines()
    assert usage[0].startswith("usage: python -m training train")
    assert reason in line
    assert list(tmp_path.iterdir()) == []

"""A run is split by its seed, checked before its first epoch, and resumed under its own configuration alone."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import samples
from tests.training.fitting.runs import (
    CONFIGS,
    EVENTS,
    FEATURES,
    QUICK,
    assert_same_run,
    copied,
    exposure,
    interrupted,
    source,
    trained,
)
from training.detectors.presets import TrainingConfig
from training.errors import CheckpointError, TrainingError
from training.fitting.fit import train
from training.fitting.run import CHECKPOINT, Run, load_run, split

Finished = Callable[[str], tuple[Run, Path]]


@pytest.mark.parametrize(("events", "fraction"), [(2, 0.5), (11, 0.1), (12345, 0.1)])
def test_the_split_is_disjoint_complete_and_seeded(events: int, fraction: float) -> None:
    """Every row is in one part, a tenth of them held out; the seed decides which, and nothing else."""
    config = TrainingConfig(validation_fraction=fraction)
    training, held_out = split(events, config)
    assert len(held_out) == round(events * fraction)
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


@pytest.mark.parametrize(
    ("config", "events", "message"),
    [
        (replace(CONFIGS["density"], seed=5_000_000_000), EVENTS, "seed is 5000000000, expected 0 to 4294967295"),
        (replace(QUICK, name="my model"), EVENTS, "name is 'my model', expected 1 to 100 visible ASCII characters"),
        (replace(CONFIGS["density"], components=15), 10, "9 events to train on cannot make a density of 15 components"),
        (replace(QUICK, hidden=(4096,) * 4), EVENTS, "the network has 403,772,532 bytes of weights, expected at most"),
    ],
    ids=["seed", "name", "components", "size"],
)
def test_what_export_would_refuse_is_refused_before_the_first_epoch(
    tmp_path: Path, config: TrainingConfig, events: int, message: str
) -> None:
    """A configuration that could never be fitted or exported is an error at the start, and makes no folder."""
    with pytest.raises(TrainingError) as caught:
        trained(tmp_path / "run", config, FEATURES[:events])
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_is_read_as_it_was_left(finished: Finished, tmp_path: Path, name: str) -> None:
    """The checkpoint holds configuration, origins, weights and curve; resumed, a finished run changes no byte."""
    result, folder = finished(name)
    read = load_run(folder)
    assert (read.config, read.source, read.exposure) == (result.config, result.source, result.exposure)
    assert read.exposure == (exposure()[0] if read.config.exposed else None)
    assert_same_run(read, result)
    copy = copied(folder, tmp_path / "run")
    trained(copy, CONFIGS[name])
    assert (copy / CHECKPOINT).read_bytes() == (folder / CHECKPOINT).read_bytes()


@pytest.mark.parametrize("name", CONFIGS)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(finished: Finished, tmp_path: Path, name: str) -> None:
    """Left after one epoch of three and resumed, a run has the very weights, density and curve of one left alone."""
    interrupted(tmp_path / "run", CONFIGS[name])
    with pytest.raises(CheckpointError, match="'quick' is incomplete after 1 epochs: finish it, with `train"):
        load_run(tmp_path / "run").best_scorer()
    torch.rand(1000)  # other draws in between make no difference
    trained(tmp_path / "run", CONFIGS[name])
    assert_same_run(load_run(tmp_path / "run"), load_run(finished(name)[1]))


def test_name_and_source_are_those_of_the_last_command(finished: Finished, tmp_path: Path) -> None:
    """A finished run can be renamed, and finds events that were moved; a curve that is missing is written again."""
    _, folder = finished("autoencoder")
    copy = copied(folder, tmp_path / "run")
    for curve in copy.glob("learning_curve.*"):
        curve.unlink()
    moved = replace(source(FEATURES), files=("moved.h5",))
    train(moved, FEATURES, replace(QUICK, name="renamed", patience=20), copy)
    read = load_run(copy)
    assert (read.config.name, read.config.patience, read.source.files) == ("renamed", 20, ("moved.h5",))
    for name in ("learning_curve.csv", "learning_curve.png"):
        assert (copy / name).read_bytes() == (folder / name).read_bytes()


def test_another_training_does_not_resume(finished: Finished, subtests: pytest.Subtests) -> None:
    """Other options, events or signals, and another length of a cosine, are named, and the run stays."""
    cosine, classifier = CONFIGS["density"], CONFIGS["classifier"]
    features = samples.background(EVENTS, seed=9)
    for name, other, events, signals, named in (
        ("autoencoder", replace(QUICK, latent=4), FEATURES, None, "other latent:"),
        ("autoencoder", replace(QUICK, seed=2, batch_size=128), FEATURES, None, "other batch_size, seed:"),
        ("autoencoder", QUICK, features, None, "other events:"),
        ("density", replace(cosine, epochs=4), FEATURES, None, "other epochs:"),
        ("classifier", classifier, FEATURES, exposure(seed=6), "other exposure: resume it with its own"),
    ):
        _, folder = finished(name)
        before = (folder / CHECKPOINT).read_bytes()
        with subtests.test(msg=named), pytest.raises(CheckpointError, match=f"holds a run with {named}"):
            train(source(events), events, other, folder, "cpu", signals)
        assert (folder / CHECKPOINT).read_bytes() == before


class Foreign:
    """An object that no checkpoint holds."""


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "object", "pickle", "other", "incomplete", "earlier"])
def test_a_damaged_checkpoint_is_refused(finished: Finished, tmp_path: Path, damage: str) -> None:
    """A file that is no checkpoint is an error of one line that names it; nothing in it is executed.

    Where there is none, the message says how to make one.
    """
    with pytest.raises(CheckpointError, match=f"holds no checkpoint.pt: train it first, .*--out {tmp_path}"):
        load_run(tmp_path)
    _, folder = finished("autoencoder")
    whole, path = (folder / CHECKPOINT).read_bytes(), tmp_path / CHECKPOINT
    state = torch.load(folder / CHECKPOINT, weights_only=True)
    if damage == "object":
        torch.save(Foreign(), path)
    elif damage == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    elif damage == "incomplete":
        del state["best"]
        torch.save(state, path)
    elif damage == "earlier":
        state["scorer"] = {name: value for name, value in state["scorer"].items() if not name.startswith("range.")}
        torch.save(state, path)
    else:
        contents = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"weights"}
        path.write_bytes((contents | {"pickle": pickle.dumps(Foreign())})[damage])
    with pytest.raises(CheckpointError) as caught:
        load_run(tmp_path)
    assert str(caught.value).startswith(f"{path} is not a checkpoint of this version: ")
    assert damage != "earlier" or "of an earlier version, whose models had no range" in str(caught.value)
    assert "\n" not in str(caught.value)

"""Small trainings of every architecture, and how two runs are compared."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training import samples
from training.detectors.presets import TrainingConfig
from training.events.events import digest
from training.fitting.fit import train
from training.fitting.run import Exposure, Run, Source, load_run

EVENTS = 2000
FEATURES = samples.background(EVENTS)
QUICK = TrainingConfig(name="quick", epochs=3, batch_size=256)
CONFIGS = {
    "autoencoder": QUICK,
    "variational": replace(QUICK, architecture="variational", schedule="cosine"),
    "substructure": replace(QUICK, feature_map="substructure", latent=3),
    "density": replace(
        QUICK, feature_map="jets", architecture="density", latent=2, components=4, simplicity=2.0, schedule="cosine"
    ),
    "distilled": replace(
        QUICK,
        feature_map="jets",
        architecture="distilled",
        hidden=(16, 8),
        latent=2,
        components=4,
        members=2,
        distillation_steps=20,
    ),
    "quantum": replace(
        QUICK,
        feature_map="ratios",
        architecture="quantum",
        solver="variational",
        circuit_layers=2,
        learning_rate=0.02,
        schedule="cosine",
    ),
    "classifier": replace(QUICK, feature_map="jets", architecture="classifier"),
}


def source(features: NDArray[np.float32]) -> Source:
    """Return the source of background features (n, 14)."""
    return Source(("events.h5",), len(features), digest(features))


def exposure(events: int = 400, seed: int = 5) -> tuple[Exposure, NDArray[np.float32]]:
    """Return signal events to learn beside background, and their origin."""
    signals = samples.signal(events, seed)
    return Exposure("cocktail.h5", events, digest(signals)), signals


def trained(folder: Path, config: TrainingConfig = QUICK, features: NDArray[np.float32] = FEATURES) -> Run:
    """Train on features (n, 14) in `folder`, from its checkpoint if it has one; a classifier sees some signal."""
    return train(source(features), features, config, folder, "cpu", exposure() if config.exposed else None)


def interrupted(folder: Path, config: TrainingConfig) -> None:
    """Train until the first checkpoint is written, and stop there: the curve cannot be, for a folder in its place."""
    curve = folder / "learning_curve.csv"
    curve.mkdir(parents=True)
    with pytest.raises(OSError, match="Not a regular file"):
        trained(folder, config)
    curve.rmdir()
    assert len(load_run(folder).curve) == 1


def copied(folder: Path, copy: Path) -> Path:
    """Copy the folder of a run, and return the copy."""
    shutil.copytree(folder, copy)
    return copy


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

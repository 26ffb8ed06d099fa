"""The configuration of weak supervision: boosted trees that tell a signal window from a reference."""

from dataclasses import dataclass
from typing import Literal

from training.detectors.presets import option
from training.model_class import ModelClass

MAX_LEAVES = 31  # a leaf is a bit of an int32, beside its sign


@dataclass(frozen=True)
class WeakConfig:
    """Every option of a weakly supervised training; the run's folder and the exported artefact record all of them."""

    name: str = option("weak", "name of the model")
    feature_map: Literal["dijet", "raw"] = option("dijet", "what the trees see of the 14 features; never mJJ itself")
    folds: int = option(5, "parts of the events; an event is scored by the trees that did not see its part", 2, 20)
    members: int = option(8, "trainings of each fold, whose scores are averaged", 1, 100)
    trees: int = option(30, "trees of a member", 1, 1000)
    leaves: int = option(31, "leaves of a tree, at most", 2, MAX_LEAVES)
    leaf_events: int = option(120, "events of a leaf, at least", 1, 1_000_000)
    split_fraction: float = option(0.2, "fraction of the quantities that a split is chosen from, at random", 1e-3, 1)
    learning_rate: float = option(0.1, "step size of boosting", 1e-6, 1)
    seed: int = option(1, "of the quantities that splits are chosen from", 0, 2**31 - 1)

    @property
    def model_class(self) -> ModelClass:
        """Class of a model of this configuration."""
        return ModelClass.TRAINED_ON_DATA

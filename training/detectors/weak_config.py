"""The configuration of weak supervision with boosted trees."""

from dataclasses import dataclass
from typing import Literal

from training.detectors.presets import option
from training.model_class import ModelClass

MAX_LEAVES = 31  # a leaf is a bit of an int32, without the sign bit


@dataclass(frozen=True)
class WeakConfig:
    """All options of a weakly supervised training; the run's folder and the exported artefact record them."""

    name: str = option("weak", "name of the model")
    feature_map: Literal["dijet", "raw"] = option(
        "dijet", "map of the 14 features to the input of the trees; neither has mJJ"
    )
    folds: int = option(5, "number of folds; an event is scored by trees that were not trained on its fold", 2, 20)
    members: int = option(8, "trainings per fold, whose scores are averaged", 1, 100)
    trees: int = option(30, "number of trees per member", 1, 1000)
    leaves: int = option(31, "maximum number of leaves per tree", 2, MAX_LEAVES)
    leaf_events: int = option(120, "minimum number of events per leaf", 1, 1_000_000)
    split_fraction: float = option(0.2, "fraction of the quantities, drawn at random, considered for a split", 1e-3, 1)
    learning_rate: float = option(0.1, "learning rate of boosting", 1e-6, 1)
    seed: int = option(1, "random seed of the quantities drawn for splits", 0, 2**31 - 1)

    @property
    def model_class(self) -> ModelClass:
        """The class of a model with this configuration."""
        return ModelClass.TRAINED_ON_DATA

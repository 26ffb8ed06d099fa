"""What can be chosen about a training, and the choices that have a name."""

from dataclasses import dataclass, field
from typing import Literal, TypeVar

T = TypeVar("T")


def knob(default: T, meaning: str, least: float | None = None) -> T:
    """Declare a field with its default, its meaning, which `train --help` prints, and the least that makes sense."""
    return field(default=default, metadata={"help": meaning, "least": least})


@dataclass(frozen=True)
class TrainingConfig:
    """Every knob of a training; a run's folder and the exported artefact record all of them."""

    name: str = knob("classic", "name of the model")
    feature_map: Literal["raw", "substructure"] = knob("raw", "what the model sees of the 14 features")
    architecture: Literal["autoencoder", "variational"] = knob("autoencoder", "kind of model")
    hidden: tuple[int, ...] = knob((64, 32), "widths of the encoder's layers, mirrored in the decoder", least=1)
    latent: int = knob(16, "width of the bottleneck", least=1)
    kl_weight: float = knob(0.01, "weight of the Kullback-Leibler term in loss and score (variational only)", least=0)
    epochs: int = knob(50, "passes over the training part, at most", least=1)
    patience: int = knob(8, "epochs without a better validation loss after which training stops", least=1)
    batch_size: int = knob(512, "events in a step", least=1)
    learning_rate: float = knob(1e-3, "step size of Adam", least=1e-12)
    validation_fraction: float = knob(0.1, "share of the background held out: early stopping and working points")
    seed: int = knob(1, "of the split, the initial weights and the order of events", least=0)


PRESETS = {
    preset.name: preset
    for preset in (
        # The reference configuration: 14-64-32-16-32-64-14 on standardised raw features, mean squared error.
        TrainingConfig(),
        # The same features, with a latent space that counts in the score.
        TrainingConfig(name="variational", architecture="variational", latent=8),
        # Seen through masses and subjettiness alone: the shipped model.
        TrainingConfig(
            name="substructure", feature_map="substructure", architecture="variational", latent=4, kl_weight=0.1
        ),
    )
}

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
    feature_map: Literal["raw", "substructure", "jets"] = knob("raw", "what the model sees of the 14 features")
    architecture: Literal["autoencoder", "variational", "density", "classifier"] = knob("autoencoder", "kind of model")
    hidden: tuple[int, ...] = knob((64, 32), "widths of the encoder's layers, mirrored in the decoder", least=1)
    latent: int = knob(16, "width of the bottleneck", least=1)
    kl_weight: float = knob(0.01, "weight of the Kullback-Leibler term in loss and score (variational only)", least=0)
    components: int = knob(
        15, "Gaussians in the density of latent vector and restoration error (density only)", least=1
    )
    simplicity: float = knob(0.0, "score for each standard deviation of tau21 and tau32 below the mean (density only)")
    epochs: int = knob(50, "passes over the training part, at most", least=1)
    patience: int = knob(8, "epochs without a better validation loss after which training stops", least=1)
    batch_size: int = knob(512, "events in a step", least=1)
    learning_rate: float = knob(1e-3, "step size of Adam", least=1e-12)
    schedule: Literal["constant", "cosine"] = knob("constant", "step size over the epochs: as it is, or down to 0")
    validation_fraction: float = knob(0.1, "share of the background held out: early stopping and working points")
    seed: int = knob(1, "of the split, the initial weights and the order of events", least=0)

    @property
    def exposed(self) -> bool:
        """Whether it learns simulated signals beside background."""
        return self.architecture == "classifier"


PRESETS = {
    preset.name: preset
    for preset in (
        # The reference configuration: 14-64-32-16-32-64-14 on standardised raw features, mean squared error.
        TrainingConfig(),
        # The same features, with a latent space that counts in the score.
        TrainingConfig(name="variational", architecture="variational", latent=8),
        # Seen through masses and subjettiness alone.
        TrainingConfig(
            name="substructure", feature_map="substructure", architecture="variational", latent=4, kl_weight=0.1
        ),
        # Background only, the shipped model: how improbable the latent vector and the restoration error are together.
        TrainingConfig(
            name="density",
            feature_map="jets",
            architecture="density",
            latent=2,
            simplicity=2.0,
            epochs=6,
            batch_size=1024,
            learning_rate=2e-3,
            schedule="cosine",
        ),
        # Exposed to a cocktail of simulated signals: background against anything with prongs.
        TrainingConfig(
            name="exposed",
            feature_map="jets",
            architecture="classifier",
            epochs=15,
            batch_size=1024,
            learning_rate=2e-3,
            schedule="cosine",
        ),
    )
}

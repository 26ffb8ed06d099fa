"""The training configuration, checks of its values, and the named presets."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin

from service.model.artefact import MAX_NAME_CHARACTERS, MODEL_NAME
from training.architectures import USED_BY
from training.errors import TrainingError
from training.events.features import FeatureSet
from training.model_class import ModelClass

T = TypeVar("T")

MAX_LAYERS = 16

# A quantum autoencoder has one qubit for each quantity of this map.
QUANTUM_FEATURE_MAP = "ratios"
QUBITS = 6


def option(
    default: T, meaning: str, least: float | None = None, most: float | None = None, only: tuple[str, ...] = ()
) -> T:
    """Declare a field with its default, its help for `train --help`, and its least and greatest value.

    `only` has the architectures that use the option, if not all do.
    """
    if only:
        meaning = f"{meaning} (only {', '.join(only)})"
    return field(default=default, metadata={"help": meaning, "least": least, "most": most})


@dataclass(frozen=True)
class TrainingConfig:
    """All options of a training; the run's folder and the exported artefact record them."""

    name: str = option("classic", "name of the model")
    feature_map: Literal["raw", "substructure", "jets", "ratios"] = option(
        "raw", "map of the features to the model's input; features other than those of two jets need raw"
    )
    architecture: Literal["autoencoder", "variational", "density", "distilled", "classifier", "quantum"] = option(
        "autoencoder", "kind of model"
    )
    hidden: tuple[int, ...] = option(
        (64, 32), "widths of the encoder layers, mirrored in the decoder", 1, 4096, USED_BY["hidden"]
    )
    latent: int = option(16, "width of the bottleneck", 1, 1024, USED_BY["latent"])
    kl_weight: float = option(
        0.01, "weight of the Kullback-Leibler term in the loss and the score", 0, 1_000_000, USED_BY["kl_weight"]
    )
    components: int = option(
        15,
        "number of Gaussians in the density of latent vector and reconstruction error",
        1,
        1000,
        USED_BY["components"],
    )
    simplicity: float = option(
        0.0,
        "score per standard deviation of tau1/m above, and of tau21 and tau32 below, the mean",
        -1_000_000,
        1_000_000,
        USED_BY["simplicity"],
    )
    members: int = option(
        20, "number of autoencoders whose mean score is distilled into one network", 1, 100, USED_BY["members"]
    )
    distillation_steps: int = option(
        10_000, "training steps of the distilled network", 1, 10_000_000, USED_BY["distillation_steps"]
    )
    solver: Literal["spectral", "variational"] = option(
        "spectral",
        "method to find the circuit: spectral (eigenvectors) or variational (trained angles)",
        only=USED_BY["solver"],
    )
    circuit_layers: int = option(
        12, "number of layers of RY and CZ gates in a variational circuit", 1, 100, USED_BY["circuit_layers"]
    )
    trash_qubits: int = option(
        3, "number of qubits that the compression maps to |0>", 1, QUBITS - 1, USED_BY["trash_qubits"]
    )
    epochs: int = option(50, "maximum number of epochs", 1, 1_000_000)
    patience: int = option(8, "epochs without a lower validation loss before training stops", 1, 1_000_000)
    batch_size: int = option(512, "events per step", 1, 2**31 - 1)
    learning_rate: float = option(1e-3, "learning rate of Adam", 1e-12, 1_000_000)
    schedule: Literal["constant", "cosine"] = option(
        "constant", "learning rate over the epochs: constant, or decreasing to 0"
    )
    validation_fraction: float = option(0.1, "fraction of events held out for early stopping and working points", 0, 1)
    # The largest seed is scikit-learn's.
    seed: int = option(1, "random seed of the split, the initial weights and the order of events", 0, 2**32 - 1)

    @property
    def exposed(self) -> bool:
        """Whether the training uses simulated signals besides background."""
        return self.architecture == "classifier"

    @property
    def model_class(self) -> ModelClass:
        """The class of a model with this configuration."""
        if self.exposed:
            return ModelClass.EXPOSED
        return ModelClass.STATED_PRIOR if self.simplicity else ModelClass.BACKGROUND_ONLY

    @property
    def passes(self) -> int:
        """Maximum number of passes over the training part; 1 if the solution is in closed form."""
        return 1 if self.architecture == "quantum" and self.solver == "spectral" else self.epochs


def check_config(config: TrainingConfig) -> None:
    """Raise TrainingError, naming option, value and expectation, for a value that training or export cannot use."""
    check_options(config)
    if len(config.hidden) > MAX_LAYERS:
        raise TrainingError(f"hidden has {len(config.hidden)} widths, expected at most {MAX_LAYERS}")
    if config.architecture == "quantum" and config.feature_map != QUANTUM_FEATURE_MAP:
        raise TrainingError(
            f"feature_map is {config.feature_map!r}, expected {QUANTUM_FEATURE_MAP!r} for architecture 'quantum': "
            f"each of its {QUBITS} quantities has a qubit"
        )


def check_features(config: TrainingConfig, features: FeatureSet) -> None:
    """Raise TrainingError if the configuration needs the features of two jets and the features are others."""
    if features.of_jets:
        return
    for name, expected, reason in (
        ("feature_map", "raw", "every other map is of the features of two jets in GeV"),
        ("simplicity", 0, "it prefers small tau21 and tau32 of two jets"),
    ):
        if (value := getattr(config, name)) != expected:
            raise TrainingError(f"{name} is {value!r}, expected {expected!r} for features from a file: {reason}")


def check_options(config: Any) -> None:
    """Raise TrainingError for an invalid model name, and for an option outside its declared range or choices."""
    if not MODEL_NAME.fullmatch(config.name):
        expected = f"1 to {MAX_NAME_CHARACTERS} visible ASCII characters without spaces"
        raise TrainingError(f"name is {config.name!r}, expected {expected}; give another with --name")
    for declared in fields(config):
        value, least, most = getattr(config, declared.name), declared.metadata["least"], declared.metadata["most"]
        if least is not None and not all(least <= each <= most for each in _each(value)):
            shown = " ".join(map(str, _each(value)))
            raise TrainingError(f"{declared.name} is {shown}, expected {least} to {most}")
        if get_origin(declared.type) is Literal and value not in get_args(declared.type):
            raise TrainingError(f"{declared.name} is {value!r}, expected one of {', '.join(get_args(declared.type))}")


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


# Twenty densities of latent vector and reconstruction error, distilled into one network: background only, no prior.
DISTILLED = TrainingConfig(
    name="distilled",
    feature_map="jets",
    architecture="distilled",
    latent=2,
    epochs=12,
    batch_size=1024,
    learning_rate=2e-3,
    schedule="cosine",
)
PRESETS = {
    preset.name: preset
    for preset in (
        # The reference configuration: 14-64-32-16-32-64-14 on standardised raw features, mean squared error.
        TrainingConfig(),
        # The same features, with a latent space that enters the score.
        TrainingConfig(name="variational", architecture="variational", latent=8),
        # Only masses and subjettiness.
        TrainingConfig(
            name="substructure", feature_map="substructure", architecture="variational", latent=4, kl_weight=0.1
        ),
        DISTILLED,
        # The shipped model: the same with a prior for simple jets.
        replace(DISTILLED, name="density", simplicity=1.5),
        # A quantum autoencoder of six qubits, simulated exactly: background only, no prior.
        TrainingConfig(
            name="quantum",
            feature_map="ratios",
            architecture="quantum",
            epochs=10,
            batch_size=1024,
            learning_rate=1e-2,
            schedule="cosine",
        ),
        # Exposed to a cocktail of simulated signals.
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

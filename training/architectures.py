"""The training options that each architecture uses."""

from collections.abc import Mapping
from typing import Any, Final

_WITH_BOTTLENECK: Final = ("autoencoder", "variational", "density", "distilled")
USED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "hidden": (*_WITH_BOTTLENECK, "classifier"),
    "latent": _WITH_BOTTLENECK,
    "kl_weight": ("variational",),
    "components": ("density", "distilled"),
    "simplicity": ("density", "distilled", "quantum"),
    "members": ("distilled",),
    "distillation_steps": ("distilled",),
    "solver": ("quantum",),
    "circuit_layers": ("quantum",),
    "trash_qubits": ("quantum",),
}
"""Option -> the architectures that use it, for options that not all architectures use."""


def used_options(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of a configuration (as in a model's metadata) that its architecture uses.

    Return all options if the architecture is unknown: another kind of training or another program made the model.
    """
    architecture = configuration.get("architecture")
    if not any(architecture in users for users in USED_BY.values()):
        return dict(configuration)
    return {name: value for name, value in configuration.items() if architecture in USED_BY.get(name, (architecture,))}

"""Which options of a training its architecture uses."""

from collections.abc import Mapping
from typing import Any, Final

_WITH_BOTTLENECK: Final = ("autoencoder", "variational", "density", "distilled")
ONLY: Final[Mapping[str, tuple[str, ...]]] = {
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
"""The architectures that use an option, where not all do."""


def used_options(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a configuration, as a model's metadata state it, that its architecture uses.

    Of a configuration without a known architecture, which another kind of training or program made, return all.
    """
    architecture = configuration.get("architecture")
    if not any(architecture in only for only in ONLY.values()):
        return dict(configuration)
    return {name: value for name, value in configuration.items() if architecture in ONLY.get(name, (architecture,))}

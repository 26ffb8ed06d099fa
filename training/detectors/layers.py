"""Parts that the networks share."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.events.kinematics import SIMPLE

# Beyond it softplus(x) is x in float32, and below it e^x is finite.
LARGEST_EXPONENT = 80.0


def perceptron(widths: tuple[int, ...]) -> nn.Sequential:
    """Return fully connected layers of these widths with ReLU between them, and none at the end."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def tilt(names: tuple[str, ...], simplicity: float) -> Tensor:
    """Return weights (k, 1) of standardised quantities that add `simplicity` for each deviation towards simple jets.

    They are of the quantities of SIMPLE, those that the names have, and 0 elsewhere.
    """
    return torch.tensor([[simplicity * SIMPLE.get(name[: -len("j1")], 0.0)] for name in names])


def softplus(values: Tensor) -> Tensor:
    """Return ln(1 + e^x) of each value x, finite for any x in a runtime that computes it by this very formula."""
    return torch.maximum(values, functional.softplus(values.clamp(max=LARGEST_EXPONENT)))

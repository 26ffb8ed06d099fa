"""Layers and functions that the networks share."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.events.kinematics import SIMPLE

# Above this value softplus(x) equals x in float32; below it e^x is finite.
LARGEST_EXPONENT = 80.0


def perceptron(widths: tuple[int, ...]) -> nn.Sequential:
    """Return fully connected layers of these widths, with ReLU between them and none after the last."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def tilt(names: tuple[str, ...], simplicity: float) -> Tensor:
    """Return weights (k, 1) that add `simplicity` per standard deviation of a quantity towards simple jets.

    Weights are nonzero for the names that are in SIMPLE, and 0 for all others.
    """
    return torch.tensor([[simplicity * SIMPLE.get(name[: -len("j1")], 0.0)] for name in names])


def softplus(values: Tensor) -> Tensor:
    """Return ln(1 + e^x) of each value x, finite for any x in a runtime that evaluates this formula literally."""
    return torch.maximum(values, functional.softplus(values.clamp(max=LARGEST_EXPONENT)))

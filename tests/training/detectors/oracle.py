"""Detectors with random weights, and their scores computed number by number with plain loops."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from tests.training import samples
from training.detectors.density import ERROR_FLOOR, DensityAutoencoder
from training.detectors.distilled import DistilledDensity
from training.detectors.feature_maps import MAX_MOMENTUM_GEV, PT_FLOOR_GEV
from training.detectors.presets import TrainingConfig
from training.detectors.quantum import PROBABILITY_FLOOR, QuantumAutoencoder
from training.detectors.scorer import MAX_DEVIATIONS, AnomalyScorer
from training.events.kinematics import MASS_FLOOR_GEV, TAU_FLOOR_GEV

RTOL = 1e-4
"""Agreement of float32 in torch with float64 below: sums of some hundred terms, and differences of logarithms."""

DENSITY = TrainingConfig(
    feature_map="jets", architecture="density", hidden=(8, 6), latent=2, components=4, simplicity=2.0
)
DISTILLED = replace(DENSITY, architecture="distilled", members=2, distillation_steps=5)
CLASSIFIER = TrainingConfig(feature_map="jets", architecture="classifier", hidden=(8, 4))
QUANTUM = TrainingConfig(
    feature_map="ratios", architecture="quantum", solver="variational", circuit_layers=3, trash_qubits=2, simplicity=0.5
)
CONFIGS = {
    "classic": TrainingConfig(),
    "variational": TrainingConfig(architecture="variational", latent=8, kl_weight=0.3),
    "substructure": TrainingConfig(feature_map="substructure", architecture="variational", latent=4, kl_weight=0.1),
    "linear": TrainingConfig(hidden=(), latent=3),
    "jets": TrainingConfig(feature_map="jets", hidden=(6,), latent=2),
    "density": DENSITY,
    "density-raw": TrainingConfig(architecture="density", hidden=(8,), latent=3, components=2),
    "distilled": DISTILLED,
    "classifier": CLASSIFIER,
    "quantum": QUANTUM,
    "spectral": TrainingConfig(feature_map="ratios", architecture="quantum"),
}

EVENTS = np.concatenate([samples.background(40, seed=3), samples.signal(20), samples.degenerate()])
"""Background, signal and degenerate events (66, 14)."""


@cache
def untrained(config: TrainingConfig, seed: int = 1) -> AnomalyScorer:
    """Return a detector with random weights, the scaler of the background and, where it has one, its density.

    The same one each time: tests leave it as it is.
    """
    torch.manual_seed(seed)
    scorer = AnomalyScorer(config)
    background = torch.from_numpy(samples.background(500))
    scorer.scaler.fit(scorer.feature_map(background))
    if isinstance(scorer.network, DensityAutoencoder | DistilledDensity | QuantumAutoencoder):
        scorer.network.fit_density(scorer.standardise(background), seed)
    return scorer.eval()


def scores(scorer: AnomalyScorer, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return torch's scores (n,) of features (n, 14)."""
    with torch.no_grad():
        found: NDArray[np.float32] = scorer(torch.from_numpy(features)).numpy()
    return found


Layers = Sequence[tuple[list[list[float]], list[float]]]


def layers(scorer: AnomalyScorer, half: str) -> Layers:
    """Return the weights (out, in) and biases (out,) of encoder, decoder or `layers` as plain lists."""
    state = {name: value.tolist() for name, value in scorer.state_dict().items()}
    numbers = sorted({int(name.split(".")[2]) for name in state if name.startswith(f"network.{half}.")})
    return [(state[f"network.{half}.{number}.weight"], state[f"network.{half}.{number}.bias"]) for number in numbers]


def slow_perceptron(values: Sequence[float], network: Layers) -> list[float]:
    """Return the output of fully connected layers, with ReLU between them and none at the end."""
    current = list(values)
    for place, (weights, biases) in enumerate(network):
        following = []
        for row, bias in zip(weights, biases, strict=True):
            total = bias
            for weight, value in zip(row, current, strict=True):
                total += weight * value
            following.append(max(total, 0.0) if place < len(network) - 1 else total)
        current = following
    return current


def slow_map(features: Sequence[float], name: str) -> list[float]:
    """Return the mapped features of one event."""
    if name == "raw":
        return list(features)
    mapped = []
    for jet in (features[:7], features[7:]):
        mass = max(jet[3], MASS_FLOOR_GEV)
        tau1, tau2, tau3 = (max(tau, TAU_FLOOR_GEV) for tau in jet[4:])
        px, py = (min(max(component, -MAX_MOMENTUM_GEV), MAX_MOMENTUM_GEV) for component in jet[:2])
        pt = max(math.sqrt(px**2 + py**2), PT_FLOOR_GEV)
        quantities = {
            "jets": (mass / pt, tau1 / mass, tau2 / tau1, tau3 / tau2, pt),
            "ratios": (mass / pt, tau2 / tau1, tau3 / tau2),
            "substructure": (mass, tau1, tau2 / tau1, tau3 / tau2),
        }
        mapped += [math.log(quantity) for quantity in quantities[name]]
    return mapped


def slow_softplus(value: float) -> float:
    """Return ln(1 + e^value)."""
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def slow_log_density(scorer: AnomalyScorer, point: Sequence[float]) -> float:
    """Return the logarithm of the sum of Gaussians at one point, from the detector's constants."""
    state = {name: value.tolist() for name, value in scorer.state_dict().items()}
    width = len(point)
    exponents: list[float] = []
    for gaussian, log_weight in enumerate(state["network.log_weights"]):
        squares = 0.0
        for column in range(gaussian * width, (gaussian + 1) * width):
            whitened = state["network.offsets"][column]
            for row, value in enumerate(point):
                whitened += value * state["network.projections"][row][column]
            squares += whitened**2
        exponents.append(log_weight - 0.5 * squares)
    largest = max(exponents)
    return largest + math.log(sum(math.exp(exponent - largest) for exponent in exponents))


def slow_log_odds(scorer: AnomalyScorer, config: TrainingConfig, values: Sequence[float]) -> float:
    """Return ln of infidelity / fidelity of one event, from products of cosines and the detector's rotation."""
    rotation = scorer.state_dict()["network.rotation"].tolist()
    halves = [(math.pi / 2 + math.atan(value)) / 2 for value in values]
    encoded = []
    for state in range(len(rotation)):
        amplitude = 1.0
        for qubit, half in enumerate(halves):
            set_ = state >> (len(halves) - 1 - qubit) & 1
            amplitude *= math.sin(half) if set_ else math.cos(half)
        encoded.append(amplitude)
    fidelity = infidelity = 0.0
    for state in range(len(rotation)):
        amplitude = 0.0
        for before, row in zip(encoded, rotation, strict=True):
            amplitude += before * row[state]
        if state % 2**config.trash_qubits == 0:
            fidelity += amplitude**2
        else:
            infidelity += amplitude**2
    return math.log(max(infidelity, PROBABILITY_FLOOR) / max(fidelity, PROBABILITY_FLOOR))


def slow_tilt(scorer: AnomalyScorer, config: TrainingConfig, values: Sequence[float]) -> float:
    """Return what simplicity adds to the score of standardised values."""
    tilt = 0.0
    for name, value in zip(scorer.feature_map.names, values, strict=True):
        if "tau21" in name or "tau32" in name:
            tilt -= config.simplicity * value
        elif "tau1_m" in name:
            tilt += config.simplicity * value
    return tilt


def slow_score(scorer: AnomalyScorer, config: TrainingConfig, features: Sequence[float]) -> float:
    """Return the anomaly score of one event by its definition."""
    values = []
    constants = zip(scorer.scaler.mean.tolist(), scorer.scaler.scale.tolist(), strict=True)
    for value, (mean, scale) in zip(slow_map(features, config.feature_map), constants, strict=True):
        values.append(min(max((value - mean) / scale, -MAX_DEVIATIONS), MAX_DEVIATIONS))
    if config.architecture == "classifier":
        (logit,) = slow_perceptron(values, layers(scorer, "layers"))
        return slow_softplus(logit)
    if config.architecture == "distilled":
        (learned,) = slow_perceptron(values, layers(scorer, "layers"))
        return slow_softplus(slow_tilt(scorer, config, values) + learned)
    if config.architecture == "quantum":
        return slow_softplus(slow_tilt(scorer, config, values) + slow_log_odds(scorer, config, values))
    latent = slow_perceptron(values, layers(scorer, "encoder"))
    divergence = 0.0
    if config.architecture == "variational":
        for mean, log_variance in zip(latent[: config.latent], latent[config.latent :], strict=True):
            bounded = min(max(log_variance, -10.0), 10.0)
            divergence += 0.5 * (mean**2 + math.exp(bounded) - 1.0 - bounded)
        latent = latent[: config.latent]
    reconstructed = slow_perceptron(latent, layers(scorer, "decoder"))
    error = sum((one - other) ** 2 for one, other in zip(reconstructed, values, strict=True)) / len(values)
    if config.architecture == "density":
        tilt = slow_tilt(scorer, config, values)
        return slow_softplus(tilt - slow_log_density(scorer, [*latent, math.log(max(error, ERROR_FLOOR))]))
    return float(error + config.kl_weight * divergence)

"""The complete detector as one torch module with all its constants; this module is exported.

    features (batch, n) -> FeatureMap -> Scaler -> network -+
                       -> Range ----------------------------+-> the larger: anomaly score (batch,)

The graph is optimised for ONNX Runtime: for a single event an operator costs 0.3 us, more than its arithmetic, so few
operators are used.
"""

import torch
from torch import Tensor, nn

from training.detectors.autoencoders import Autoencoder, VariationalAutoencoder
from training.detectors.classifier import Classifier
from training.detectors.density import DensityAutoencoder
from training.detectors.distilled import DistilledDensity
from training.detectors.feature_maps import FEATURE_MAPS, RawFeatures
from training.detectors.presets import TrainingConfig
from training.detectors.quantum import QuantumAutoencoder
from training.detectors.range import range_of
from training.events.features import DIJET, FeatureSet

# Larger deviations are clipped, because their squares could overflow.
MAX_DEVIATIONS = 1e4

EVENTS_AT_ONCE = 65536

Network = Autoencoder | VariationalAutoencoder | DensityAutoencoder | DistilledDensity | Classifier | QuantumAutoencoder

ARCHITECTURES: dict[str, type[Network]] = {
    "autoencoder": Autoencoder,
    "variational": VariationalAutoencoder,
    "density": DensityAutoencoder,
    "distilled": DistilledDensity,
    "classifier": Classifier,
    "quantum": QuantumAutoencoder,
}


class Scaler(nn.Module):
    """Standardisation of each quantity, fitted to the training part."""

    mean: Tensor  # (k,)
    scale: Tensor  # (k,)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def fit(self, values: Tensor) -> None:
        """Set mean and standard deviation to those of values (n, k), in float64; a constant column keeps scale 1."""
        wide = values.cpu().double()  # some devices have no float64
        deviation = wide.std(dim=0, correction=0)
        self.mean.copy_(wide.mean(dim=0).float())
        self.scale.copy_(torch.where(deviation > 0, deviation, 1.0).float())

    def forward(self, differences: Tensor) -> Tensor:
        """Return differences (batch, k) from the mean in standard deviations, within +-MAX_DEVIATIONS."""
        return (differences @ (1.0 / self.scale).diag()).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)


class AnomalyScorer(nn.Module):
    """The complete detector, from raw features to the anomaly score."""

    network: Network

    def __init__(self, config: TrainingConfig, features: FeatureSet = DIJET) -> None:
        super().__init__()
        self.features = features
        self.feature_map = FEATURE_MAPS[config.feature_map]() if features.of_jets else RawFeatures(features.names)
        self.scaler = Scaler(len(self.feature_map.names))
        self.range = range_of(features, self.feature_map)
        self.network = ARCHITECTURES[config.architecture](self.feature_map.names, config)

    def standardise(self, features: Tensor) -> Tensor:
        """Return the network's input for features (batch, n): (batch, k)."""
        standardised: Tensor = self.scaler(self.feature_map(features, self.scaler.mean))
        return standardised

    def fit_range(self, features: Tensor) -> None:
        """Set the range to that of the training part, features (n, features). Call it after training the network."""
        with torch.no_grad():
            scores = torch.cat(
                [self.network.score(self.standardise(part)) for part in torch.split(features, EVENTS_AT_ONCE)]
            )
            self.range.fit(features, scores)

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly score of features (batch, n): (batch,), higher is more anomalous."""
        return torch.maximum(self.network.score(self.standardise(features)), self.range(features))

"""The detector as torch modules, from raw features to anomaly score; knows no file and no training loop.

    features (batch, 14) -> FeatureMap -> Scaler -> autoencoder -> anomaly score (batch,)

AnomalyScorer is that chain, and the module that is exported: every constant travels inside it.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config import TrainingConfig
from training.events import FEATURE_NAMES

# Masses and subjettiness can be 0 or, by rounding, slightly negative: floors in GeV below any that carries physics.
MASS_FLOOR_GEV = 1.0
TAU_FLOOR_GEV = 0.1

# Beyond this an event is as far out as any; the square of a larger number could overflow and lose the score.
MAX_DEVIATIONS = 1e4


class FeatureMap(nn.Module):
    """The 14 raw features in GeV -> what the model sees; `names` says what, in order."""

    names: tuple[str, ...]


class RawFeatures(FeatureMap):
    """The features as they are."""

    names = FEATURE_NAMES

    def forward(self, features: Tensor) -> Tensor:
        """Return features (batch, 14) unchanged."""
        return features


class Substructure(FeatureMap):
    """Logarithms of mass, subjettiness and its ratios for both jets: nothing that depends on azimuth or on mJJ."""

    names = tuple(f"{quantity}j{jet}" for jet in (1, 2) for quantity in ("ln_m", "ln_tau1", "ln_tau21", "ln_tau32"))

    def forward(self, features: Tensor) -> Tensor:
        """Return the mapped features (batch, 8) of features (batch, 14)."""
        jets = features.reshape(-1, 2, 7)  # (batch, jet, (px, py, pz, m, tau1, tau2, tau3))
        ln_m = jets[..., 3].clamp(min=MASS_FLOOR_GEV).log()
        ln_tau1, ln_tau2, ln_tau3 = jets[..., 4:].clamp(min=TAU_FLOOR_GEV).log().unbind(-1)
        return torch.stack([ln_m, ln_tau1, ln_tau2 - ln_tau1, ln_tau3 - ln_tau2], dim=-1).flatten(1)


FEATURE_MAPS: dict[str, type[FeatureMap]] = {"raw": RawFeatures, "substructure": Substructure}


class Scaler(nn.Module):
    """Standardise each quantity with constants fitted once, on the training part."""

    mean: Tensor  # (k,)
    scale: Tensor  # (k,)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def fit(self, values: Tensor) -> None:
        """Take mean and standard deviation from values (n, k), summed in float64; a constant column keeps scale 1."""
        wide = values.double()
        deviation = wide.std(dim=0, correction=0)
        self.mean.copy_(wide.mean(dim=0))
        self.scale.copy_(torch.where(deviation > 0, deviation, 1.0))

    def forward(self, values: Tensor) -> Tensor:
        """Return values (batch, k) in standard deviations from the mean, at most MAX_DEVIATIONS either way."""
        return ((values - self.mean) / self.scale).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)


def perceptron(widths: tuple[int, ...]) -> nn.Sequential:
    """Return fully connected layers of these widths with ReLU between them, and none at the end."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Autoencoder(nn.Module):
    """Compress and restore standardised values; what is badly restored is unlike the training sample."""

    def __init__(self, width: int, config: TrainingConfig) -> None:
        super().__init__()
        self.encoder = perceptron((width, *config.hidden, config.latent))
        self.decoder = perceptron((config.latent, *reversed(config.hidden), width))

    def loss(self, values: Tensor) -> Tensor:
        """Return the training loss on values (batch, k): a scalar."""
        return self.score(values).mean()

    def score(self, values: Tensor) -> Tensor:
        """Return the mean squared error of each row of values (batch, k): (batch,)."""
        return _squared_error(self.decoder(self.encoder(values)), values)


class VariationalAutoencoder(nn.Module):
    """An autoencoder whose latent space is held to a unit Gaussian (Kingma and Welling, arXiv:1312.6114)."""

    def __init__(self, width: int, config: TrainingConfig) -> None:
        super().__init__()
        self.kl_weight = config.kl_weight
        self.encoder = perceptron((width, *config.hidden, 2 * config.latent))
        self.decoder = perceptron((config.latent, *reversed(config.hidden), width))

    def loss(self, values: Tensor) -> Tensor:
        """Return the training loss on values (batch, k), with one draw from each event's latent Gaussian: a scalar."""
        mean, log_variance = self._encode(values)
        drawn = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return (_squared_error(self.decoder(drawn), values) + self.kl_weight * _divergence(mean, log_variance)).mean()

    def score(self, values: Tensor) -> Tensor:
        """Return the loss of each row of values (batch, k) at the centre of its latent Gaussian: (batch,)."""
        mean, log_variance = self._encode(values)
        return _squared_error(self.decoder(mean), values) + self.kl_weight * _divergence(mean, log_variance)

    def _encode(self, values: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(values).chunk(2, dim=1)
        return mean, log_variance.clamp(-10.0, 10.0)  # exp of an untrained or extreme value must stay finite


ARCHITECTURES: dict[str, type[Autoencoder] | type[VariationalAutoencoder]] = {
    "autoencoder": Autoencoder,
    "variational": VariationalAutoencoder,
}


class AnomalyScorer(nn.Module):
    """Raw features in, anomaly score out: the whole detector, and what is exported."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self.feature_map = FEATURE_MAPS[config.feature_map]()
        width = len(self.feature_map.names)
        self.scaler = Scaler(width)
        self.autoencoder = ARCHITECTURES[config.architecture](width, config)

    def standardise(self, features: Tensor) -> Tensor:
        """Return what the autoencoder sees of features (batch, 14): (batch, k)."""
        standardised: Tensor = self.scaler(self.feature_map(features))
        return standardised

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly score of features (batch, 14), in GeV: (batch,), higher is more anomalous."""
        return self.autoencoder.score(self.standardise(features))


def _squared_error(restored: Tensor, values: Tensor) -> Tensor:
    """Return the mean over columns of the squared difference: (batch, k), (batch, k) -> (batch,)."""
    return functional.mse_loss(restored, values, reduction="none").mean(dim=1)


def _divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of N(mean, variance) from N(0, 1), summed over columns: (batch,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)

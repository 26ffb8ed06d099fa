"""Autoencoders: the anomaly score is the reconstruction error."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.detectors.layers import perceptron
from training.detectors.presets import TrainingConfig


class Autoencoder(nn.Module):
    """An encoder and a decoder of standardised values; events unlike the training events have a large error."""

    def __init__(self, names: tuple[str, ...], config: TrainingConfig) -> None:
        super().__init__()
        width = len(names)
        self.encoder = perceptron((width, *config.hidden, config.latent))
        self.decoder = perceptron((config.latent, *reversed(config.hidden), width))

    def loss(self, values: Tensor) -> Tensor:
        """Return the training loss on values (batch, k), the mean squared error: a scalar."""
        return _squared_error(self.decoder(self.encoder(values)), values).mean()

    def score(self, values: Tensor) -> Tensor:
        """Return the mean squared error of each row of values (batch, k): (batch,)."""
        return _squared_error(self.decoder(self.encoder(values)), values)


class VariationalAutoencoder(nn.Module):
    """An autoencoder whose latent space is regularised to a unit Gaussian (Kingma and Welling, arXiv:1312.6114)."""

    def __init__(self, names: tuple[str, ...], config: TrainingConfig) -> None:
        super().__init__()
        width = len(names)
        self.kl_weight = config.kl_weight
        self.encoder = perceptron((width, *config.hidden, 2 * config.latent))
        self.decoder = perceptron((config.latent, *reversed(config.hidden), width))

    def loss(self, values: Tensor) -> Tensor:
        """Return the training loss on values (batch, k), with one draw from each event's latent Gaussian: a scalar."""
        mean, log_variance = self._encode(values)
        noise = torch.randn(mean.shape).to(mean.device)  # drawn on the CPU, whose generator the checkpoint holds
        drawn = mean + noise * (0.5 * log_variance).exp()
        return (_squared_error(self.decoder(drawn), values) + self.kl_weight * _divergence(mean, log_variance)).mean()

    def score(self, values: Tensor) -> Tensor:
        """Return the loss of each row of values (batch, k) at the centre of its latent Gaussian: (batch,)."""
        mean, log_variance = self._encode(values)
        return _squared_error(self.decoder(mean), values) + self.kl_weight * _divergence(mean, log_variance)

    def _encode(self, values: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(values).chunk(2, dim=1)
        return mean, log_variance.clamp(-10.0, 10.0)  # keeps exp finite for untrained weights and extreme values


def _squared_error(reconstructed: Tensor, values: Tensor) -> Tensor:
    """Return the mean over columns of the squared difference: (batch, k), (batch, k) -> (batch,)."""
    return functional.mse_loss(reconstructed, values, reduction="none").mean(dim=1)


def _divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of N(mean, variance) from N(0, 1), summed over columns: (batch,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)

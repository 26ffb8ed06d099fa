"""An autoencoder scored by a density: the anomaly score is -ln density of latent vector and reconstruction error."""

import math

import torch
from torch import Tensor

from training.detectors.autoencoders import Autoencoder
from training.detectors.layers import softplus, tilt
from training.detectors.presets import TrainingConfig

# Lower limit on the mean squared error, which keeps its logarithm finite.
ERROR_FLOOR = 1e-6

# Enough for some hundred constants; more events slow the fit without a significant change.
MAX_DENSITY_EVENTS = 100_000


class DensityAutoencoder(Autoencoder):
    """An autoencoder with a density of background in (latent vector, ln reconstruction error).

    Signal jets can be simpler than QCD jets and have a small reconstruction error, which alone would miss them. The
    density is a Gaussian mixture, as in Zong et al., "Deep Autoencoding Gaussian Mixture Model" (ICLR 2018), but fitted
    after the autoencoder. `simplicity` makes the score a likelihood ratio of background to a reference that falls as a
    power of tau21 and tau32, and so prefers jets of few prongs.
    """

    projections: Tensor  # (latent + 1, components * (latent + 1)), whitens the differences from each Gaussian's mean
    offsets: Tensor  # (components * (latent + 1),)
    sums: Tensor  # (components * (latent + 1), components), sums -1/2 of the squares of each Gaussian
    log_weights: Tensor  # (components,)
    simplicity: Tensor  # (k, 1), score per standard deviation

    def __init__(self, names: tuple[str, ...], config: TrainingConfig) -> None:
        super().__init__(names, config)
        width = config.latent + 1
        self.register_buffer("projections", torch.zeros(width, config.components * width))
        self.register_buffer("offsets", torch.zeros(config.components * width))
        sums = torch.eye(config.components).repeat_interleave(width, dim=0)
        self.register_buffer("sums", -0.5 * sums)
        self.register_buffer("log_weights", torch.zeros(config.components))
        self.register_buffer("simplicity", tilt(names, config.simplicity))

    @property
    def fitted(self) -> bool:
        """Whether the density has been fitted."""
        return bool(self.projections.any())

    def fit_density(self, values: Tensor, seed: int) -> None:
        """Fit the Gaussian mixture by expectation maximisation to at most MAX_DENSITY_EVENTS of values (n, k)."""
        with torch.no_grad():
            seen = self._condense(values[:MAX_DENSITY_EVENTS]).cpu().double()
        mean, deviation = seen.mean(dim=0), seen.std(dim=0)
        components, width = len(self.log_weights), len(mean)
        from sklearn.mixture import GaussianMixture  # takes seconds to import

        mixture = GaussianMixture(components, random_state=seed, tol=1e-4, max_iter=500)
        mixture.fit(((seen - mean) / deviation).numpy())
        whitening = torch.from_numpy(mixture.precisions_cholesky_) / deviation[:, None]  # (components, width, width)
        centres = mean + torch.from_numpy(mixture.means_) * deviation
        normalisation = whitening.diagonal(dim1=1, dim2=2).log().sum(dim=1) - 0.5 * width * math.log(2 * math.pi)
        self.projections.copy_(whitening.permute(1, 0, 2).reshape(width, -1))
        self.offsets.copy_(-torch.einsum("ci,cij->cj", centres, whitening).flatten())
        self.log_weights.copy_(torch.from_numpy(mixture.weights_).log() + normalisation)

    def score(self, values: Tensor) -> Tensor:
        """Return softplus of -ln density + simplicity of each row of values (batch, k): (batch,)."""
        return softplus(values @ self.simplicity + self.negative_log_density(values)).squeeze(1)

    def negative_log_density(self, values: Tensor) -> Tensor:
        """Return -ln density of latent vector and ln error of values (batch, k): (batch, 1)."""
        whitened = torch.addmm(self.offsets, self._condense(values), self.projections)
        exponents = torch.addmm(self.log_weights, whitened * whitened, self.sums)
        largest = exponents.amax(dim=1, keepdim=True)
        below = torch.addmm(exponents, largest, exponents.new_full((1, len(self.log_weights)), -1.0))
        # A matrix product, because the order of terms in a sum would depend on the row's position in the batch.
        return -(largest + (below.exp() @ below.new_ones((len(self.log_weights), 1))).log())

    def _condense(self, values: Tensor) -> Tensor:
        """Return the latent vector and ln error of values (batch, k): (batch, latent + 1)."""
        latent = self.encoder(values)
        difference = self.decoder(latent) - values
        error = (difference * difference) @ values.new_full((values.shape[1], 1), 1 / values.shape[1])
        return torch.cat([latent, error.clamp(min=ERROR_FLOOR).log()], dim=1)

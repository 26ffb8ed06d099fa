"""The detector as torch modules, from raw features to anomaly score; knows no file and no training loop.

    features (batch, 14) -> FeatureMap -> Scaler -> network -> anomaly score (batch,)

AnomalyScorer is that chain, and the module that is exported: every constant travels inside it.

Scores are written for ONNX Runtime. An operator costs a lone event 0.3 us, more than its arithmetic, so there are few;
and columns are picked, added, scaled and shifted by matrix products, which are faster there than slices, means over a
few columns and a constant for each column or row.
"""

import math
from itertools import pairwise

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.nn import functional

from training.detectors.presets import TrainingConfig
from training.events.events import FEATURE_NAMES

# Masses and subjettiness can be 0 or, by rounding, slightly negative: floors in GeV below any that carries physics.
MASS_FLOOR_GEV = 1.0
TAU_FLOOR_GEV = 0.1
PT_FLOOR_GEV = 1.0
MAX_MOMENTUM_GEV = 1e15  # the square of a larger one could overflow

# Beyond this an event is as far out as any; the square of a larger number could overflow and lose the score.
MAX_DEVIATIONS = 1e4

# Below this mean squared error an event is restored as well as any, and the logarithm stays finite.
ERROR_FLOOR = 1e-6

# What makes a jet simple: two prongs rather than one cloud, three rather than two and a cloud.
SIMPLE = ("ln_tau21", "ln_tau32")

# Enough for some hundred constants; more make the fit slow and change no digit that counts.
MAX_DENSITY_EVENTS = 100_000


class FeatureMap(nn.Module):
    """The 14 raw features in GeV -> what the model sees, counted from an origin; `names` says what, in order."""

    names: tuple[str, ...]


class RawFeatures(FeatureMap):
    """The features as they are."""

    names = FEATURE_NAMES

    def forward(self, features: Tensor, origin: Tensor | float = 0.0) -> Tensor:
        """Return features (batch, 14) less origin (14,)."""
        return features - origin


class Substructure(FeatureMap):
    """Logarithms of mass, subjettiness and its ratios for both jets: nothing that depends on azimuth or on mJJ."""

    names = tuple(f"{quantity}j{jet}" for jet in (1, 2) for quantity in ("ln_m", "ln_tau1", "ln_tau21", "ln_tau32"))

    def forward(self, features: Tensor, origin: Tensor | float = 0.0) -> Tensor:
        """Return the mapped features (batch, 8) of features (batch, 14), less origin (8,)."""
        jets = features.reshape(-1, 2, 7)  # (batch, jet, (px, py, pz, m, tau1, tau2, tau3))
        ln_m = jets[..., 3].clamp(min=MASS_FLOOR_GEV).log()
        ln_tau1, ln_tau2, ln_tau3 = jets[..., 4:].clamp(min=TAU_FLOOR_GEV).log().unbind(-1)
        return torch.stack([ln_m, ln_tau1, ln_tau2 - ln_tau1, ln_tau3 - ln_tau2], dim=-1).flatten(1) - origin


class Jets(FeatureMap):
    """Shape and hardness of both jets, in logarithms: m/pT, tau1/m, tau21, tau32 and pT; no azimuth and no mJJ."""

    names = tuple(f"{quantity}j{jet}" for jet in (1, 2) for quantity in ("ln_m_pt", "ln_tau1_m", *SIMPLE, "ln_pt"))

    squared: Tensor  # (14, 10), adds px^2 and py^2 of each jet into the first of its five quantities
    taken: Tensor  # (14, 10), puts m, tau1, tau2 and tau3 in the others
    combined: Tensor  # (10, 10), from the logarithms of the quantities to the mapped features
    units: Tensor  # (10,), the mapped features of quantities of 1

    def __init__(self) -> None:
        super().__init__()
        floors = torch.tensor([PT_FLOOR_GEV**2, MASS_FLOOR_GEV, *[TAU_FLOOR_GEV] * 3])
        scales = TAU_FLOOR_GEV / floors  # at most 1, so that nothing overflows, and one floor serves all quantities
        squared, taken = torch.zeros(7, 5), torch.zeros(7, 5)
        squared[:2, 0] = scales[0]  # px, py
        taken[[3, 4, 5, 6], [1, 2, 3, 4]] = scales[1:]
        combined = torch.tensor(
            [  # ln_m_pt, ln_tau1_m, ln_tau21, ln_tau32, ln_pt
                [-0.5, 0.0, 0.0, 0.0, 0.5],  # pt^2
                [1.0, -1.0, 0.0, 0.0, 0.0],  # m
                [0.0, 1.0, -1.0, 0.0, 0.0],  # tau1
                [0.0, 0.0, 1.0, -1.0, 0.0],  # tau2
                [0.0, 0.0, 0.0, 1.0, 0.0],  # tau3
            ]
        )
        # They are no part of what is trained: a checkpoint does not hold them.
        both = torch.eye(2)
        self.register_buffer("squared", torch.kron(both, squared), persistent=False)
        self.register_buffer("taken", torch.kron(both, taken), persistent=False)
        self.register_buffer("combined", torch.kron(both, combined), persistent=False)
        self.register_buffer("units", (-scales.log() @ combined).repeat(2), persistent=False)

    def forward(self, features: Tensor, origin: Tensor | float = 0.0) -> Tensor:
        """Return the mapped features (batch, 10) of features (batch, 14), less origin (10,)."""
        bounded = features.clamp(-MAX_MOMENTUM_GEV, MAX_MOMENTUM_GEV)
        quantities = torch.addmm(features @ self.taken, bounded * bounded, self.squared)
        return torch.addmm(self.units - origin, quantities.clamp(min=TAU_FLOOR_GEV).log(), self.combined)


FEATURE_MAPS: dict[str, type[FeatureMap]] = {"raw": RawFeatures, "substructure": Substructure, "jets": Jets}


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

    def forward(self, differences: Tensor) -> Tensor:
        """Return differences (batch, k) from the mean in standard deviations, at most MAX_DEVIATIONS either way."""
        return (differences @ (1.0 / self.scale).diag()).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)


def perceptron(widths: tuple[int, ...]) -> nn.Sequential:
    """Return fully connected layers of these widths with ReLU between them, and none at the end."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Autoencoder(nn.Module):
    """Compress and restore standardised values; what is badly restored is unlike the training sample."""

    def __init__(self, names: tuple[str, ...], config: TrainingConfig) -> None:
        super().__init__()
        width = len(names)
        self.encoder = perceptron((width, *config.hidden, config.latent))
        self.decoder = perceptron((config.latent, *reversed(config.hidden), width))

    def loss(self, values: Tensor) -> Tensor:
        """Return the training loss on values (batch, k), their mean squared error: a scalar."""
        return _squared_error(self.decoder(self.encoder(values)), values).mean()

    def score(self, values: Tensor) -> Tensor:
        """Return the mean squared error of each row of values (batch, k): (batch,)."""
        return _squared_error(self.decoder(self.encoder(values)), values)


class VariationalAutoencoder(nn.Module):
    """An autoencoder whose latent space is held to a unit Gaussian (Kingma and Welling, arXiv:1312.6114)."""

    def __init__(self, names: tuple[str, ...], config: TrainingConfig) -> None:
        super().__init__()
        width = len(names)
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


class DensityAutoencoder(Autoencoder):
    """An autoencoder that asks how improbable latent vector and restoration error are together, among background.

    Signal jets can be simpler than QCD jets and be restored well, so an error alone looks in one direction only. A
    Gaussian mixture on (latent, ln error), as in Zong et al., "Deep Autoencoding Gaussian Mixture Model" (ICLR 2018),
    looks in all; but it is fitted once the autoencoder is trained. `simplicity` makes the score a likelihood ratio:
    background against a reference that falls as a power of tau21 and tau32, from simple jets to clouds.
    """

    projections: Tensor  # (latent + 1, components * (latent + 1)), whitens the differences from each Gaussian's mean
    offsets: Tensor  # (components * (latent + 1),)
    sums: Tensor  # (components * (latent + 1), components), adds up -1/2 of the squares of each Gaussian
    log_weights: Tensor  # (components,)
    simplicity: Tensor  # (k, 1), score for each standard deviation

    def __init__(self, names: tuple[str, ...], config: TrainingConfig) -> None:
        super().__init__(names, config)
        width = config.latent + 1
        self.register_buffer("projections", torch.zeros(width, config.components * width))
        self.register_buffer("offsets", torch.zeros(config.components * width))
        sums = torch.eye(config.components).repeat_interleave(width, dim=0)
        self.register_buffer("sums", -0.5 * sums)
        self.register_buffer("log_weights", torch.zeros(config.components))
        weights = [-config.simplicity if name.startswith(SIMPLE) else 0.0 for name in names]
        self.register_buffer("simplicity", torch.tensor(weights)[:, None])

    @property
    def fitted(self) -> bool:
        """Whether there is a density to score by."""
        return bool(self.projections.any())

    def fit_density(self, values: Tensor, seed: int) -> None:
        """Fit the Gaussian mixture to values (n, k) by expectation maximisation, to at most MAX_DENSITY_EVENTS."""
        with torch.no_grad():
            seen = self._condense(values[:MAX_DENSITY_EVENTS]).cpu().double()
        mean, deviation = seen.mean(dim=0), seen.std(dim=0)
        components, width = len(self.log_weights), len(mean)
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
        whitened = torch.addmm(self.offsets, self._condense(values), self.projections)
        exponents = torch.addmm(self.log_weights, whitened * whitened, self.sums)
        largest = exponents.amax(dim=1, keepdim=True)
        below = torch.addmm(exponents, largest, exponents.new_full((1, len(self.log_weights)), -1.0))
        # A product and no sum, which would add a row's terms in an order that depends on the row's place in the batch.
        log_density = largest + (below.exp() @ below.new_ones((len(self.log_weights), 1))).log()
        return functional.softplus(values @ self.simplicity - log_density).squeeze(1)

    def _condense(self, values: Tensor) -> Tensor:
        """Return latent vector and ln error of values (batch, k): (batch, latent + 1)."""
        latent = self.encoder(values)
        difference = self.decoder(latent) - values
        error = (difference * difference) @ values.new_full((values.shape[1], 1), 1 / values.shape[1])
        return torch.cat([latent, error.clamp(min=ERROR_FLOOR).log()], dim=1)


class Classifier(nn.Module):
    """Tell background from a cocktail of simulated signals, a prior for what is unlike background.

    After Hendrycks et al., "Deep Anomaly Detection with Outlier Exposure", arXiv:1812.04606.
    """

    def __init__(self, names: tuple[str, ...], config: TrainingConfig) -> None:
        super().__init__()
        self.layers = perceptron((len(names), *config.hidden, 1))

    def loss(self, values: Tensor, exposure: Tensor) -> Tensor:
        """Return the cross-entropy of background values (batch, k) and exposure (other, k), of equal weight."""
        return functional.softplus(self._logit(values)).mean() + functional.softplus(-self._logit(exposure)).mean()

    def score(self, values: Tensor) -> Tensor:
        """Return -ln of the probability to be background for each row of values (batch, k): (batch,)."""
        return functional.softplus(self._logit(values))

    def _logit(self, values: Tensor) -> Tensor:
        logit: Tensor = self.layers(values).squeeze(1)
        return logit


Network = Autoencoder | VariationalAutoencoder | DensityAutoencoder | Classifier

ARCHITECTURES: dict[str, type[Network]] = {
    "autoencoder": Autoencoder,
    "variational": VariationalAutoencoder,
    "density": DensityAutoencoder,
    "classifier": Classifier,
}


class AnomalyScorer(nn.Module):
    """Raw features in, anomaly score out: the whole detector, and what is exported."""

    network: Network

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self.feature_map = FEATURE_MAPS[config.feature_map]()
        self.scaler = Scaler(len(self.feature_map.names))
        self.network = ARCHITECTURES[config.architecture](self.feature_map.names, config)

    def standardise(self, features: Tensor) -> Tensor:
        """Return what the network sees of features (batch, 14): (batch, k)."""
        standardised: Tensor = self.scaler(self.feature_map(features, self.scaler.mean))
        return standardised

    def forward(self, features: Tensor) -> Tensor:
        """Return the anomaly score of features (batch, 14), in GeV: (batch,), higher is more anomalous."""
        return self.network.score(self.standardise(features))


def _squared_error(restored: Tensor, values: Tensor) -> Tensor:
    """Return the mean over columns of the squared difference: (batch, k), (batch, k) -> (batch,)."""
    return functional.mse_loss(restored, values, reduction="none").mean(dim=1)


def _divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of N(mean, variance) from N(0, 1), summed over columns: (batch,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)

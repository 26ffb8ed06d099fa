"""A small network trained to reproduce the mean score of several density autoencoders, which it replaces."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.detectors.density import DensityAutoencoder
from training.detectors.layers import perceptron, softplus, tilt
from training.detectors.presets import TrainingConfig
from training.progress import Progress

# Fewer than for a single density, because the mean over the ensemble reduces the error.
MAX_MEMBER_EVENTS = 20_000

# Half are background, half are made of background; more events make no significant change.
MAX_DISTILLATION_EVENTS = 1_000_000
EVENTS_AT_ONCE = 16_384

BATCH_EVENTS = 2048
LEARNING_RATE = 2e-3

# Largest factor by which made events are farther from the mean than background.
MAX_STRETCH = 2.0


class DistilledDensity(nn.Module):
    """An ensemble of density autoencoders, and a network distilled from the mean of their -ln density.

    Autoencoders with different initial weights agree on background and differ elsewhere. Their mean is a better score
    and varies less with the seed. One network is as good at a fraction of the arithmetic (Hinton et al.,
    arXiv:1503.02531). It is trained on background and on events made of background that extend beyond it; neither
    contains signal.
    """

    simplicity: Tensor  # (k, 1), score per standard deviation
    distilled: Tensor  # whether the layers have been trained on the mean

    def __init__(self, names: tuple[str, ...], config: TrainingConfig) -> None:
        super().__init__()
        self.steps = config.distillation_steps
        member = replace(config, simplicity=0.0)
        self.members = nn.ModuleList(DensityAutoencoder(names, member) for _ in range(config.members))
        self.layers = perceptron((len(names), *config.hidden, 1))
        self.register_buffer("simplicity", tilt(names, config.simplicity))
        self.register_buffer("distilled", torch.tensor(False))

    @property
    def ensemble(self) -> list[DensityAutoencoder]:
        """The autoencoders."""
        return [member for member in self.members if isinstance(member, DensityAutoencoder)]

    @property
    def fitted(self) -> bool:
        """Whether the network has been trained on the mean score."""
        return bool(self.distilled)

    def loss(self, values: Tensor) -> Tensor:
        """Return the training loss on values (batch, k), the mean over the autoencoders: a scalar."""
        return torch.stack([member.loss(values) for member in self.ensemble]).mean()

    def fit_density(self, values: Tensor, seed: int) -> None:
        """Fit the density of each autoencoder to values (n, k), then the network to their mean."""
        with torch.random.fork_rng(devices=[]):  # the same draws after any number of interruptions
            torch.manual_seed(seed)
            for member in Progress(iterable=self.ensemble, desc="densities", unit=" autoencoders"):
                drawn = torch.randperm(len(values))[:MAX_MEMBER_EVENTS]
                member.fit_density(values[drawn.to(values.device)], seed)
            self._distil(values)
        self.distilled.fill_(True)

    def target(self, values: Tensor) -> Tensor:
        """Return the mean of the autoencoders' -ln density of values (batch, k): (batch, 1)."""
        return torch.stack([member.negative_log_density(values) for member in self.ensemble]).mean(dim=0)

    def score(self, values: Tensor) -> Tensor:
        """Return softplus of the learned -ln density + simplicity of each row of values (batch, k): (batch,)."""
        return softplus(self.layers(values) + values @ self.simplicity).squeeze(1)

    def _distil(self, values: Tensor) -> None:
        events = min(MAX_DISTILLATION_EVENTS, self.steps * BATCH_EVENTS)
        drawn = values[torch.randint(len(values), (events // 2,)).to(values.device)]
        seen = torch.cat([drawn, made_of(drawn)])
        parts = Progress(iterable=torch.split(seen, EVENTS_AT_ONCE), desc="their mean", unit=" parts")
        with torch.no_grad():
            targets = torch.cat([self.target(part) for part in parts])
        mean, deviation = targets[: len(drawn)].mean(), targets[: len(drawn)].std()
        standardised = (targets - mean) / deviation
        optimiser = torch.optim.Adam(self.layers.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        for _ in Progress(iterable=range(self.steps), desc="distillation", unit=" steps"):
            rows = torch.randint(len(seen), (BATCH_EVENTS,)).to(seen.device)
            # Linear in large differences, which occur far out, where exact values do not matter.
            loss = functional.smooth_l1_loss(self.layers(seen[rows]), standardised[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(deviation)
            last.bias.mul_(deviation).add_(mean)


def made_of(values: Tensor) -> Tensor:
    """Return events made of background values (n, k): parts of two events each, farther from the mean: (n, k)."""
    events, width = values.shape
    other = values[torch.randperm(events).to(values.device)]
    exchanged = torch.rand(events, width) < torch.rand(events, 1)
    stretch = 1.0 + (MAX_STRETCH - 1.0) * torch.rand(events, 1)
    return torch.where(exchanged.to(values.device), other, values) * stretch.to(values.device)

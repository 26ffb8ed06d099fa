"""Autoencoders and the classifier minimise the losses of their definitions."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.training import samples
from tests.training.detectors.oracle import CLASSIFIER, DENSITY, untrained
from training.detectors.autoencoders import Autoencoder, VariationalAutoencoder
from training.detectors.classifier import Classifier
from training.detectors.density import DensityAutoencoder
from training.detectors.layers import softplus
from training.detectors.presets import TrainingConfig
from training.events.events import FEATURE_NAMES


def test_the_loss_of_an_autoencoder_is_the_mean_score() -> None:
    """The loss is the mean reconstruction error, that of a density too, which is fitted afterwards."""
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(50, 14)).astype(np.float32))
    model = Autoencoder(FEATURE_NAMES, TrainingConfig())
    assert model.loss(values).item() == pytest.approx(model.score(values).mean().item(), rel=1e-6)
    scorer = untrained(DENSITY)
    assert isinstance(scorer.network, DensityAutoencoder)
    plain = Autoencoder(scorer.feature_map.names, DENSITY)
    plain.load_state_dict(scorer.network.state_dict(), strict=False)
    with torch.no_grad():
        values = scorer.standardise(torch.from_numpy(samples.background(50)))
        assert scorer.network.loss(values).item() == pytest.approx(plain.loss(values).item(), rel=1e-6)


def test_the_variational_loss_draws_around_the_centre() -> None:
    """One draw from each latent Gaussian makes the loss: other draws, other losses, near the score of the centre."""
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(2000, 14)).astype(np.float32))
    torch.manual_seed(1)
    model = VariationalAutoencoder(FEATURE_NAMES, TrainingConfig(architecture="variational"))
    losses = [model.loss(values).item() for _ in range(3)]
    assert len(set(losses)) == 3
    assert losses == pytest.approx([model.score(values).mean().item()] * 3, rel=0.2)


def test_the_loss_of_a_classifier_is_the_cross_entropy() -> None:
    """Background is 0 and exposure is 1, and either kind counts the same however many events it has."""
    scorer = untrained(CLASSIFIER)
    assert isinstance(scorer.network, Classifier)
    with torch.no_grad():
        background, exposure = (
            scorer.standardise(torch.from_numpy(features)) for features in (samples.background(60), samples.signal(20))
        )
        expected = sum(
            functional.binary_cross_entropy_with_logits(logit := scorer.network.layers(values)[:, 0], logit * 0 + label)
            for values, label in ((background, 0.0), (exposure, 1.0))
        )
        assert scorer.network.loss(background, exposure).item() == pytest.approx(float(expected), rel=1e-6)


def test_softplus_has_the_value_and_slope_of_torch() -> None:
    """Bounded for other runtimes, it is torch's own softplus to the bit, and so is its derivative."""
    values = torch.tensor([-1e30, -100.0, -1.0, 0.0, 1.0, 19.0, 21.0, 79.0, 81.0, 1e4, 1e30])
    results = []
    for function in (softplus, functional.softplus):
        argument = values.clone().requires_grad_()
        result = function(argument)
        result.sum().backward()  # type: ignore[no-untyped-call]
        results.append((result.detach(), argument.grad))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)

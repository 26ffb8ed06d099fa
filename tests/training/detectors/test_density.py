"""The density is scikit-learn's mixture on latent vectors and errors, tilted towards simple jets."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from tests.training import samples
from tests.training.detectors.oracle import DENSITY, scores, untrained
from training.detectors.density import DensityAutoencoder
from training.detectors.feature_maps import Jets
from training.detectors.presets import TrainingConfig
from training.detectors.scorer import AnomalyScorer


def fitted(config: TrainingConfig) -> tuple[AnomalyScorer, DensityAutoencoder]:
    """Return a detector with a density, and its network."""
    scorer = untrained(config)
    assert isinstance(scorer.network, DensityAutoencoder)
    return scorer, scorer.network


def before_softplus(found: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the values whose softplus the scores are."""
    wide = found.astype(np.float64)
    return wide + np.log(-np.expm1(-wide))


def test_the_density_is_that_of_scikit_learn() -> None:
    """The score is minus the log-likelihood of scikit-learn's mixture, fitted to the same latent vectors and errors."""
    scorer, network = fitted(replace(DENSITY, simplicity=0.0))
    points = []
    tested = (samples.background(200, seed=3), samples.signal(200))
    for features in (samples.background(500), *tested):
        with torch.no_grad():
            values = scorer.standardise(torch.from_numpy(features))
            latent = network.encoder(values)
            error = (network.decoder(latent) - values).square().mean(dim=1, keepdim=True)
        points.append(torch.cat([latent, error.log()], dim=1).double().numpy())
    mean, deviation = points[0].mean(axis=0), points[0].std(axis=0, ddof=1)
    mixture = GaussianMixture(DENSITY.components, random_state=1, tol=1e-4, max_iter=500)
    mixture.fit((points[0] - mean) / deviation)
    for seen, features in zip(points[1:], tested, strict=True):
        expected = mixture.score_samples((seen - mean) / deviation) - np.log(deviation).sum()
        np.testing.assert_allclose(-before_softplus(scores(scorer, features)), expected, rtol=1e-3, atol=1e-3)


def test_without_a_fit_there_is_no_density() -> None:
    """A new network is not fitted; a fitted one is, and so is a copy of its weights; the fit is the same to the bit."""
    scorer, network = fitted(DENSITY)
    new = AnomalyScorer(DENSITY)
    assert isinstance(new.network, DensityAutoencoder)
    assert (network.fitted, new.network.fitted) == (True, False)
    new.load_state_dict(scorer.state_dict())
    assert new.network.fitted
    new.network.fit_density(scorer.standardise(torch.from_numpy(samples.background(500))), seed=1)
    for name, values in scorer.state_dict().items():
        assert torch.equal(values, new.state_dict()[name]), name


def test_simplicity_raises_the_score_of_simple_jets() -> None:
    """Each standard deviation of tau21 or tau32 below the mean or tau1/m above it adds `simplicity` to -ln density."""
    (tilted, _), (plain, _) = fitted(DENSITY), fitted(replace(DENSITY, simplicity=0.0))
    events = np.concatenate([samples.background(100, seed=4), samples.signal(100)])
    with torch.no_grad():
        values = tilted.standardise(torch.from_numpy(events)).double().numpy()
    signs = [{"ln_tau1_m": 1, "ln_tau21": -1, "ln_tau32": -1}.get(name[:-2], 0) for name in Jets.names]
    assert np.abs(signs).sum() == 6
    towards = values @ np.array(signs)
    with_it, without = scores(tilted, events), scores(plain, events)
    told_apart = (with_it > 0.1) & (without > 0.1)  # nearer to 0 the softplus cannot be undone in float32
    tilt = DENSITY.simplicity * towards[told_apart]
    assert (tilt > 0).any()
    assert (tilt < 0).any()
    found = (before_softplus(with_it) - before_softplus(without))[told_apart]
    np.testing.assert_allclose(found, tilt, rtol=1e-3, atol=1e-3)

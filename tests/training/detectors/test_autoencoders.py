"""The detector's arithmetic is the slow one that is written out below, number by number."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch.nn import functional

from tests.training import samples
from training.detectors.autoencoders import (
    ERROR_FLOOR,
    MASS_FLOOR_GEV,
    MAX_DEVIATIONS,
    MAX_MOMENTUM_GEV,
    PT_FLOOR_GEV,
    TAU_FLOOR_GEV,
    AnomalyScorer,
    Autoencoder,
    Classifier,
    DensityAutoencoder,
    FeatureMap,
    Jets,
    RawFeatures,
    Scaler,
    Substructure,
    VariationalAutoencoder,
)
from training.detectors.presets import PRESETS, TrainingConfig
from training.events.events import FEATURE_NAMES

RTOL = 1e-4
"""Agreement of float32 in torch with float64 below: sums of some hundred terms, and differences of logarithms."""
DENSITY = TrainingConfig(
    feature_map="jets", architecture="density", hidden=(8, 6), latent=2, components=4, simplicity=2.0
)
CLASSIFIER = TrainingConfig(feature_map="jets", architecture="classifier", hidden=(8, 4))
EVERY_CONFIG = pytest.mark.parametrize(
    "config",
    [
        TrainingConfig(),
        TrainingConfig(architecture="variational", latent=8, kl_weight=0.3),
        TrainingConfig(feature_map="substructure", hidden=(5,), latent=2),
        TrainingConfig(feature_map="substructure", architecture="variational", latent=4, kl_weight=0.1),
        TrainingConfig(hidden=(), latent=3),
        TrainingConfig(feature_map="jets", hidden=(6,), latent=2),
        DENSITY,
        TrainingConfig(architecture="density", hidden=(8,), latent=3, components=2),
        CLASSIFIER,
    ],
    ids=[
        "classic",
        "variational",
        "substructure",
        "substructure-variational",
        "linear",
        "jets",
        "density",
        "density-raw",
        "classifier",
    ],
)


def layers(scorer: AnomalyScorer, half: str) -> list[tuple[list[list[float]], list[float]]]:
    """Return the weights (out, in) and biases (out,) of encoder, decoder or classifier as plain lists."""
    state = {name: value.tolist() for name, value in scorer.state_dict().items()}
    numbers = sorted({int(name.split(".")[2]) for name in state if name.startswith(f"network.{half}.")})
    return [(state[f"network.{half}.{number}.weight"], state[f"network.{half}.{number}.bias"]) for number in numbers]


def slow_perceptron(values: Sequence[float], network: Sequence[tuple[list[list[float]], list[float]]]) -> list[float]:
    """Send values through fully connected layers, with ReLU between them and none at the end."""
    current = list(values)
    for place, (weights, biases) in enumerate(network):
        following = []
        for row, bias in zip(weights, biases, strict=True):
            total = bias
            for weight, value in zip(row, current, strict=True):
                total += weight * value
            if place < len(network) - 1:
                total = max(total, 0.0)
            following.append(total)
        current = following
    return current


def slow_map(features: Sequence[float], name: str) -> list[float]:
    """Return what the model sees of one event's features."""
    if name == "raw":
        return list(features)
    seen = []
    for jet in (features[:7], features[7:]):
        mass = max(jet[3], MASS_FLOOR_GEV)
        tau1, tau2, tau3 = (max(tau, TAU_FLOOR_GEV) for tau in jet[4:])
        if name == "jets":
            px, py = (min(max(component, -MAX_MOMENTUM_GEV), MAX_MOMENTUM_GEV) for component in jet[:2])
            pt = max(math.sqrt(px**2 + py**2), PT_FLOOR_GEV)
            ratios = (mass / pt, tau1 / mass, tau2 / tau1, tau3 / tau2, pt)
            seen += [math.log(ratio) for ratio in ratios]
            continue
        seen += [math.log(mass), math.log(tau1), math.log(tau2 / tau1), math.log(tau3 / tau2)]
    return seen


def slow_softplus(value: float) -> float:
    """Return ln(1 + e^value), the part below 1 added to the larger of value and 0."""
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def slow_log_density(scorer: AnomalyScorer, point: Sequence[float]) -> float:
    """Return the logarithm of a sum of Gaussians at one point, from the constants that travel with the detector."""
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


def slow_score(scorer: AnomalyScorer, config: TrainingConfig, features: Sequence[float]) -> float:
    """Return the anomaly score of one event by its definition."""
    values = []
    constants = zip(scorer.scaler.mean.tolist(), scorer.scaler.scale.tolist(), strict=True)
    for value, (mean, scale) in zip(slow_map(features, config.feature_map), constants, strict=True):
        values.append(min(max((value - mean) / scale, -MAX_DEVIATIONS), MAX_DEVIATIONS))
    if config.architecture == "classifier":
        (logit,) = slow_perceptron(values, layers(scorer, "layers"))
        return slow_softplus(logit)
    latent = slow_perceptron(values, layers(scorer, "encoder"))
    divergence = 0.0
    if config.architecture == "variational":
        for mean, log_variance in zip(latent[: config.latent], latent[config.latent :], strict=True):
            bounded = min(max(log_variance, -10.0), 10.0)
            divergence += 0.5 * (mean**2 + math.exp(bounded) - 1.0 - bounded)
        latent = latent[: config.latent]
    restored = slow_perceptron(latent, layers(scorer, "decoder"))
    squared = sum((one - other) ** 2 for one, other in zip(restored, values, strict=True))
    if config.architecture == "density":
        error = max(squared / len(values), ERROR_FLOOR)
        tilt = 0.0
        for name, value in zip(scorer.feature_map.names, values, strict=True):
            if "tau21" in name or "tau32" in name:
                tilt -= config.simplicity * value
        return slow_softplus(tilt - slow_log_density(scorer, [*latent, math.log(error)]))
    weight = config.kl_weight if config.architecture == "variational" else 0.0
    return float(squared / len(values) + weight * divergence)


def untrained(config: TrainingConfig, seed: int = 1) -> AnomalyScorer:
    """Return a detector with random weights, the scaler of the background and, where it has one, its density."""
    torch.manual_seed(seed)
    scorer = AnomalyScorer(config)
    background = torch.from_numpy(samples.background(500))
    scorer.scaler.fit(scorer.feature_map(background))
    if isinstance(scorer.network, DensityAutoencoder):
        scorer.network.fit_density(scorer.standardise(background), seed)
    return scorer.eval()


def scores(scorer: AnomalyScorer, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return torch's scores (n,) of features (n, 14)."""
    with torch.no_grad():
        found: NDArray[np.float32] = scorer(torch.from_numpy(features)).numpy()
    return found


def seen(feature_map: FeatureMap, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mapped features of features (n, 14)."""
    mapped: NDArray[np.float32] = feature_map(torch.from_numpy(features)).numpy()
    return mapped


def turned(events: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return events (n, 14) turned about the beam and seen in a mirror across it."""
    jets = events.copy().reshape(-1, 2, 7)
    cos, sin = math.cos(1.234), math.sin(1.234)
    px, py = jets[..., 0].copy(), jets[..., 1].copy()
    jets[..., 0], jets[..., 1], jets[..., 2] = cos * px - sin * py, sin * px + cos * py, -jets[..., 2]
    return jets.reshape(-1, 14)


EVERYTHING = np.concatenate([samples.background(40, seed=3), samples.signal(20), samples.degenerate()])


@EVERY_CONFIG
def test_the_score_is_the_slow_one(config: TrainingConfig) -> None:
    """Of background, signal and degenerate events, torch gives the score that plain loops give."""
    scorer = untrained(config)
    expected = [slow_score(scorer, config, event) for event in EVERYTHING.astype(np.float64).tolist()]
    np.testing.assert_allclose(scores(scorer, EVERYTHING), expected, rtol=RTOL)


@pytest.mark.parametrize(
    ("name", "feature_map"), [("raw", RawFeatures()), ("substructure", Substructure()), ("jets", Jets())]
)
def test_the_feature_map_is_the_slow_one(name: str, feature_map: FeatureMap) -> None:
    """Raw features pass unchanged; substructure is four logarithms for each jet, and jets are five."""
    expected = [slow_map(event, name) for event in EVERYTHING.astype(np.float64).tolist()]
    mapped = seen(feature_map, EVERYTHING)
    assert mapped.shape == (len(EVERYTHING), len(feature_map.names))
    np.testing.assert_allclose(mapped, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("feature_map", [RawFeatures(), Substructure(), Jets()], ids=["raw", "substructure", "jets"])
def test_mapped_features_are_counted_from_an_origin(feature_map: FeatureMap) -> None:
    """Counted from an origin, the mapped features are what they are without one, less the origin."""
    features = torch.from_numpy(EVERYTHING)
    origin = torch.linspace(-2.0, 3.0, len(feature_map.names))
    torch.testing.assert_close(feature_map(features, origin), feature_map(features) - origin, rtol=1e-6, atol=1e-5)


def test_a_checkpoint_holds_what_is_fitted() -> None:
    """The state is weights, the scaler's constants and the density's: the matrices of a feature map are code."""
    state = AnomalyScorer(DENSITY).state_dict()
    assert {name.partition(".")[0] for name in state} == {"network", "scaler"}


def test_features_are_named_in_order() -> None:
    """The map's names say which column is which: one jet after the other."""
    assert RawFeatures.names == FEATURE_NAMES
    assert Substructure.names == (
        *("ln_mj1", "ln_tau1j1", "ln_tau21j1", "ln_tau32j1"),
        *("ln_mj2", "ln_tau1j2", "ln_tau21j2", "ln_tau32j2"),
    )
    assert Jets.names == (
        *("ln_m_ptj1", "ln_tau1_mj1", "ln_tau21j1", "ln_tau32j1", "ln_ptj1"),
        *("ln_m_ptj2", "ln_tau1_mj2", "ln_tau21j2", "ln_tau32j2", "ln_ptj2"),
    )


def test_the_scaler_takes_mean_and_standard_deviation() -> None:
    """Constants are those of the values that it was fitted to, and standardise them."""
    values = samples.background(1000, seed=5)
    scaler = Scaler(14)
    scaler.fit(torch.from_numpy(values))
    wide = values.astype(np.float64)
    np.testing.assert_allclose(scaler.mean, wide.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scaler.scale, wide.std(axis=0), rtol=1e-6)
    standardised = scaler(torch.from_numpy(values) - scaler.mean).double().numpy()
    np.testing.assert_allclose(standardised.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(standardised.std(axis=0), 1.0, rtol=1e-5)


def test_a_constant_quantity_keeps_its_scale() -> None:
    """A quantity without variance is centred and divided by 1: never by 0."""
    values = samples.background(100)
    values[:, 5] = 7.0
    scaler = Scaler(14)
    scaler.fit(torch.from_numpy(values))
    assert scaler.scale[5] == 1.0
    assert torch.all(scaler(torch.from_numpy(values) - scaler.mean)[:, 5] == 0.0)


def test_an_event_far_out_is_bounded() -> None:
    """A quantity counts as at most MAX_DEVIATIONS standard deviations from the mean, either way."""
    scaler = Scaler(2)
    scaler.fit(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
    found = scaler(torch.tensor([[1e38, -1e38], [1.0 + 5e3, 20.0]]) - scaler.mean)
    np.testing.assert_array_equal(found, [[MAX_DEVIATIONS, -MAX_DEVIATIONS], [5e3, 0.0]])


@EVERY_CONFIG
def test_every_event_has_a_finite_score(config: TrainingConfig) -> None:
    """Masses and taus of 0 and below, empty events and absurdly large ones score finitely, and not below 0."""
    largest = np.finfo(np.float32).max
    extreme = np.concatenate([samples.degenerate(), np.full((1, 14), largest), np.full((1, 14), -largest)])
    found = scores(untrained(config), extreme.astype(np.float32))
    assert np.all(np.isfinite(found))
    assert np.all(found >= 0.0)


@EVERY_CONFIG
def test_azimuth_does_not_change_a_substructure_score(config: TrainingConfig) -> None:
    """Whatever the architecture, an event turned about the beam, or seen in a mirror, keeps its score."""
    config = replace(config, feature_map="substructure")
    scorer, events = untrained(config), samples.background(50)
    np.testing.assert_array_equal(scores(scorer, turned(events)), scores(scorer, events))


@EVERY_CONFIG
def test_azimuth_does_not_change_a_score_of_jets(config: TrainingConfig) -> None:
    """Seen by pT instead of its components, an event turned about the beam, or in a mirror, keeps its score."""
    scorer, events = untrained(replace(config, feature_map="jets")), samples.background(50)
    np.testing.assert_allclose(scores(scorer, turned(events)), scores(scorer, events), rtol=RTOL, atol=1e-5)


def test_classic_has_the_published_widths() -> None:
    """The reference model is 14-64-32-16-32-64-14 on raw features, and nothing else has weights."""
    scorer = AnomalyScorer(PRESETS["classic"])
    network = [*layers(scorer, "encoder"), *layers(scorer, "decoder")]
    assert [len(weights[0]) for weights, _ in network] + [len(network[-1][0])] == [14, 64, 32, 16, 32, 64, 14]
    assert all(len(weights) == len(biases) for weights, biases in network)
    assert sum(values.numel() for values in scorer.parameters()) == sum(
        out * (into + 1) for into, out in ((14, 64), (64, 32), (32, 16), (16, 32), (32, 64), (64, 14))
    )
    assert isinstance(scorer.feature_map, RawFeatures)
    assert isinstance(scorer.network, Autoencoder)


@EVERY_CONFIG
def test_an_event_does_not_depend_on_its_batch(config: TrainingConfig) -> None:
    """Alone, an event has the score that it has among others, but for the order in which sums are taken."""
    scorer, events = untrained(config), samples.background(30)
    alone = np.concatenate([scores(scorer, events[row : row + 1]) for row in range(30)])
    np.testing.assert_allclose(scores(scorer, events), alone, rtol=1e-5)


@EVERY_CONFIG
def test_a_score_is_not_a_draw(config: TrainingConfig) -> None:
    """The same event has the same score, bit for bit, however often it is asked for."""
    scorer, events = untrained(config), samples.background(30)
    np.testing.assert_array_equal(scores(scorer, events), scores(scorer, events))


def test_the_loss_of_an_autoencoder_is_the_mean_score() -> None:
    """What is minimised is the mean of what is scored."""
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(50, 14)).astype(np.float32))
    model = Autoencoder(FEATURE_NAMES, TrainingConfig())
    assert model.loss(values).item() == pytest.approx(model.score(values).mean().item(), rel=1e-6)


def test_the_variational_loss_draws_around_the_centre() -> None:
    """One draw from each latent Gaussian makes the loss: other draws, other losses, near the score of the centre."""
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(2000, 14)).astype(np.float32))
    torch.manual_seed(1)
    model = VariationalAutoencoder(FEATURE_NAMES, TrainingConfig(architecture="variational"))
    losses = [model.loss(values).item() for _ in range(3)]
    assert len(set(losses)) == 3
    assert losses == pytest.approx([model.score(values).mean().item()] * 3, rel=0.2)


# The density


def fitted(config: TrainingConfig) -> tuple[AnomalyScorer, DensityAutoencoder]:
    """Return a detector with a density, and its network."""
    scorer = untrained(config)
    assert isinstance(scorer.network, DensityAutoencoder)
    return scorer, scorer.network


def before_softplus(found: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what the scores are the softplus of."""
    wide = found.astype(np.float64)
    return wide + np.log(-np.expm1(-wide))


def test_the_density_is_that_of_scikit_learn() -> None:
    """The score is minus the log-likelihood of scikit-learn's mixture, fitted to the same latent vectors and errors."""
    scorer, network = fitted(replace(DENSITY, simplicity=0.0))
    points = []
    for features in (samples.background(500), samples.background(200, seed=3), samples.signal(200)):
        with torch.no_grad():
            values = scorer.standardise(torch.from_numpy(features))
            latent = network.encoder(values)
            error = (network.decoder(latent) - values).square().mean(dim=1, keepdim=True)
        points.append(torch.cat([latent, error.log()], dim=1).double().numpy())
    fitted_to, *tested = points
    mean, deviation = fitted_to.mean(axis=0), fitted_to.std(axis=0, ddof=1)
    mixture = GaussianMixture(DENSITY.components, random_state=1, tol=1e-4, max_iter=500)
    mixture.fit((fitted_to - mean) / deviation)
    for seen_by_density, features in zip(tested, (samples.background(200, seed=3), samples.signal(200)), strict=True):
        expected = mixture.score_samples((seen_by_density - mean) / deviation) - np.log(deviation).sum()
        np.testing.assert_allclose(-before_softplus(scores(scorer, features)), expected, rtol=1e-3, atol=1e-3)


def test_without_a_fit_there_is_no_density() -> None:
    """A new network says that it cannot score yet; after the fit, that it can, and so does a copy of its weights."""
    scorer, network = fitted(DENSITY)
    new = AnomalyScorer(DENSITY)
    assert isinstance(new.network, DensityAutoencoder)
    assert (network.fitted, new.network.fitted) == (True, False)
    new.load_state_dict(scorer.state_dict())
    assert new.network.fitted


def test_the_density_of_a_seed_is_the_same_bits() -> None:
    """Fitted twice to the same values, every constant is the same."""
    (one, _), (other, _) = fitted(DENSITY), fitted(DENSITY)
    for name, values in one.state_dict().items():
        assert torch.equal(values, other.state_dict()[name]), name


def test_simplicity_raises_the_score_of_simple_jets() -> None:
    """Each standard deviation of tau21 or tau32 below the mean adds `simplicity` to what is minus ln density."""
    (tilted, _), (plain, _) = fitted(DENSITY), fitted(replace(DENSITY, simplicity=0.0))
    events = np.concatenate([samples.background(100, seed=4), samples.signal(100)])
    with torch.no_grad():
        values = tilted.standardise(torch.from_numpy(events)).double().numpy()
    below = -values[:, [name.startswith(("ln_tau21", "ln_tau32")) for name in Jets.names]]
    assert below.shape == (200, 4)
    with_it, without = scores(tilted, events), scores(plain, events)
    simple, cloudy = (below > 0).all(axis=1), (below < 0).all(axis=1)
    assert simple.any()
    assert cloudy.any()
    assert np.all(with_it[simple] > without[simple])
    assert np.all(with_it[cloudy] < without[cloudy])
    told_apart = (with_it > 0.1) & (without > 0.1)  # nearer to 0 the softplus cannot be undone in float32
    assert told_apart.sum() > 20
    np.testing.assert_allclose(
        (before_softplus(with_it) - before_softplus(without))[told_apart],
        DENSITY.simplicity * below.sum(axis=1)[told_apart],
        rtol=1e-3,
        atol=1e-3,
    )


def test_the_loss_of_a_density_is_the_restoration_error() -> None:
    """Training minimises what a plain autoencoder of the same weights minimises; the density comes afterwards."""
    scorer, network = fitted(DENSITY)
    plain = Autoencoder(Jets.names, DENSITY)
    plain.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        values = scorer.standardise(torch.from_numpy(samples.background(50)))
        assert network.loss(values).item() == pytest.approx(plain.loss(values).item(), rel=1e-6)


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

"""Contributions are Shapley values: they add up, and agree with the sum over all sets of features."""

from itertools import permutations
from math import comb
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.artefact import GoldenPairs, Metadata, load_artefact, parse_artefact
from service.model.explanation import MAX_FEATURES, Explainer, ExplanationError, reference_events
from service.model.reference import Histogram, Reference
from service.model.scorer import Scorer
from tests.artefacts import N_FEATURES, RTOL, constants, metadata, model, sample_events

ROOT = Path(__file__).parents[3]
SHIPPED = pytest.mark.parametrize("path", ["exported/autoencoder.onnx", "exported/exposed/autoencoder.onnx"])

OF_LARGEST = 0.15
"""How far a sampled contribution is from the exact one, as a fraction of the event's largest."""


def shipped_events(scorer: Scorer, n_events: int) -> NDArray[np.float32]:
    """Draw events around the golden ones."""
    golden = np.array(scorer.artefact.metadata.golden.features, np.float32)
    spread = np.random.default_rng(3).uniform(0.8, 1.25, (n_events, golden.shape[1])).astype(np.float32)
    return np.resize(golden, spread.shape) * spread


def described(golden: GoldenPairs, histograms: Reference | None = None) -> Metadata:
    """Describe a model whose loosest threshold is 2."""
    return msgspec.structs.replace(metadata(), golden=golden, reference=histograms)


def shapley_values(scorer: Scorer, event: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum a feature's change of the score over all sets of the others, weighted as Shapley (1953) does: (n,)."""
    n = len(event)
    sets = np.arange(2**n)
    taken = (sets[:, None] >> np.arange(n)) & 1 == 1
    scores = scorer.score(np.where(taken, event, reference)).astype(np.float64)
    sizes = taken.sum(axis=1)
    values = []
    for feature in range(n):
        without = sets[~taken[:, feature]]
        weights = np.array([1 / (n * comb(n - 1, size)) for size in sizes[without]])
        values.append(weights @ (scores[without | 1 << feature] - scores[without]))
    return np.array(values)


def test_the_terms_of_a_sum_are_its_contributions() -> None:
    """Where a score is a sum over features, each contributes its own term less the mean of it over the references."""
    scorer = Scorer(parse_artefact(model().SerializeToString()))
    explainer, events = Explainer(scorer), sample_events(20)
    means, scales = constants(N_FEATURES)

    def terms(features: NDArray[np.float32]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = (features - means) / scales
        return scaled**2 / N_FEATURES

    expected = terms(events) - terms(explainer.reference).mean(axis=0)
    explanation = explainer.explain(events)
    np.testing.assert_allclose(explanation.contributions, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(explanation.reference_score, terms(explainer.reference).sum(axis=1).mean(), rtol=RTOL)


@SHIPPED
def test_contributions_of_a_shipped_model_agree_with_all_sets_of_features(path: str) -> None:
    """Sampled orders come close to the exact Shapley values, beside every reference event."""
    scorer = Scorer(load_artefact(ROOT / path))
    explainer, events = Explainer(scorer), shipped_events(scorer, 4)
    assert len(explainer.reference) == 7  # the eighth golden event is the most anomalous one
    for event, found in zip(events, explainer.explain(events).contributions, strict=True):
        of_mixtures = explainer.scorer_of(event)
        exact = np.mean([shapley_values(of_mixtures, event, reference) for reference in explainer.reference], axis=0)
        np.testing.assert_allclose(found, exact, rtol=0, atol=OF_LARGEST * np.abs(exact).max())


@SHIPPED
def test_contributions_add_up_and_do_not_depend_on_the_batch(path: str) -> None:
    """They are the score less its reference; score and explanation have the same bits alone and among others."""
    scorer = Scorer(load_artefact(ROOT / path))
    events = shipped_events(scorer, 30)
    explanation = Explainer(scorer).explain(events)
    scores, contributions = explanation.anomaly_scores, explanation.contributions
    np.testing.assert_array_equal(scores, scorer.score(events))
    sums, sizes = contributions.sum(axis=1, dtype=np.float64), np.abs(contributions).sum(axis=1)
    assert (np.abs(sums - (scores.astype(np.float64) - explanation.reference_score)) <= 1e-6 * (1 + sizes)).all()
    for place in (0, 17):
        alone = Explainer(scorer).explain(events[place : place + 1])
        np.testing.assert_array_equal(alone.contributions[0], contributions[place])


@SHIPPED
def test_the_range_is_no_part_of_ordinary_explanations(path: str) -> None:
    """An event inside the training's range is explained by the network alone, and one outside as it is scored."""
    scorer = Scorer(load_artefact(ROOT / path))
    reference, explainer = scorer.artefact.metadata.reference, Explainer(scorer)
    assert reference is not None
    assert reference.floor is not None
    inside = explainer.reference[0]
    outside = inside.copy()
    outside[6] = 1e5  # tau3 of the first jet, in GeV
    mixtures = np.concatenate(list(explainer.mixtures(explainer.reference[1])))
    assert (scorer.score(mixtures) >= reference.floor).mean() > 0.3
    of_network = explainer.scorer_of(inside)
    np.testing.assert_array_equal(of_network.score(inside[None]), scorer.score(inside[None]))
    assert (of_network.score(mixtures) < scorer.score(mixtures)).mean() > 0.3
    assert explainer.scorer_of(outside) is scorer
    (contributions,) = explainer.explain([outside]).contributions
    assert contributions.argmax() == 6


def test_each_feature_changes_the_score_in_every_place() -> None:
    """Every order has its reverse beside it, and those of few features are all possible ones."""
    scorer = Scorer(parse_artefact(model(metadata(n_features=3)).SerializeToString()))
    explainer = Explainer(scorer)
    event = np.array([100.0, 200.0, 300.0], np.float32)
    mixtures = np.concatenate(list(explainer.mixtures(event)))
    assert mixtures.shape == (explainer.n_mixtures, 3)
    np.testing.assert_array_equal(mixtures[0], event)
    firsts = (mixtures[1:] == event).reshape(-1, 2, 3)  # one feature of the event, then two
    assert (firsts.sum(axis=2) == [1, 2]).all()
    orders = {(int(one.argmax()), int((two & ~one).argmax()), int((~two).argmax())) for one, two in firsts}
    assert orders == set(permutations(range(3)))


@pytest.mark.parametrize("n_features", [1, 2])
def test_events_of_few_features_are_explained(n_features: int) -> None:
    """One feature has the whole difference."""
    scorer = Scorer(parse_artefact(model(metadata(n_features=n_features)).SerializeToString()))
    scores, reference, contributions = Explainer(scorer).explain(sample_events(5, n_features))
    np.testing.assert_allclose(contributions.sum(axis=1), scores - reference, rtol=RTOL, atol=RTOL)


def test_references_are_ordinary_golden_events() -> None:
    """Golden events that pass a working point, and those outside the histograms of background, are no references."""
    rows = sample_events(4)
    golden = GoldenPairs(rows.astype(float).tolist(), [1.0, 9.0, 1.5, 0.5])
    np.testing.assert_array_equal(reference_events(described(golden)), rows[[0, 2, 3]])
    wide = Histogram(-1e3, 1e3, [0, 1, 0])
    narrow = Histogram(float(rows[2, 1]) - 0.1, float(rows[2, 1]) + 0.1, [0, 1, 0])
    histograms = Reference(1, "a" * 64, [wide, narrow, wide, wide, wide], wide)
    np.testing.assert_array_equal(reference_events(described(golden, histograms)), rows[[2]])
    none = GoldenPairs(golden.features, [9.0] * 4)
    with pytest.raises(ExplanationError, match="no golden event of ordinary background"):
        reference_events(described(none))


def test_models_of_many_features_are_not_explained() -> None:
    """The error says how many there may be."""
    scorer = Scorer(parse_artefact(model(metadata(n_features=MAX_FEATURES + 1)).SerializeToString()))
    with pytest.raises(ExplanationError, match="has 101 features, expected at most 100"):
        Explainer(scorer)

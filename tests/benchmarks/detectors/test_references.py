"""Public detectors score each event alone, and references know no more than they state."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.detectors.references import (
    PUBLIC_DETECTORS,
    KernelPCA,
    TailProbability,
    boosted_trees,
    negative_ratio_sum,
    pyod,
    squared_mahalanobis,
)
from tests.training import samples
from training.evaluation.metrics import auc

pytestmark = pytest.mark.slow  # HBOS is compiled at its first use

Floats = NDArray[np.float64]
ONE_GAUSSIAN = "Gaussian mixture, 1 component (its default)"

EVERY_DETECTOR = pytest.mark.parametrize("name", PUBLIC_DETECTORS)


def normal(events: int, seed: int, shift: float = 0.0) -> Floats:
    """Draw correlated numbers (events, 4) of about unit size, skewed either way."""
    drawn = np.random.default_rng(seed).normal(shift, 1.0, (events, 4))
    drawn[:, 1] += 0.8 * drawn[:, 0]
    return np.exp(0.5 * drawn) * [1.0, -1.0, 1.0, -1.0]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute as a comparison does: on one core, whatever else is running."""
    with threadpool_limits(1):
        yield


@EVERY_DETECTOR
def test_what_is_far_out_scores_high(name: str) -> None:
    """Every detector gives finite scores and puts far-out events above nearly all of the background."""
    scores = PUBLIC_DETECTORS[name].score(
        normal(500, 1), np.concatenate([normal(200, 2), normal(200, 3, shift=4.0)]), seed=1
    )
    assert scores.shape == (400,)
    assert np.isfinite(scores).all()
    assert auc(scores[:200], scores[200:]).value > 0.95


@EVERY_DETECTOR
def test_a_score_depends_on_its_event_alone(name: str) -> None:
    """The same event gets the same score whatever else is scored, and a seed repeats itself."""
    background, events = normal(500, 1), normal(60, 2)
    whole = PUBLIC_DETECTORS[name].score(background, events, seed=3)
    halves = [PUBLIC_DETECTORS[name].score(background, half, seed=3) for half in (events[:30], events[30:])]
    np.testing.assert_allclose(np.concatenate(halves), whole, rtol=1e-6)


@EVERY_DETECTOR
def test_what_does_not_vary_is_the_same_with_every_seed(name: str) -> None:
    """A seed changes scores only where it is said to."""
    background, events = normal(500, 1), normal(60, 2)
    one, other = (PUBLIC_DETECTORS[name].score(background, events, seed) for seed in (1, 2))
    assert PUBLIC_DETECTORS[name].varies or np.array_equal(one, other)


@pytest.mark.parametrize(("method", "detector"), [("ecod", "ECOD"), ("copod", "COPOD")])
def test_tail_probabilities_are_those_of_pyod_event_by_event(method: str, detector: str) -> None:
    """ECOD and COPOD give what PyOD gives for batches of one, ties with the background included."""
    background = np.round(normal(300, 1), 1)
    events = np.concatenate([np.round(normal(40, 2), 1), normal(10, 3, shift=5.0), background[:10]])
    ours = TailProbability("ecod" if method == "ecod" else "copod")
    ours.fit(background)
    theirs = pyod(detector).fit(background)
    expected = [theirs.decision_function(event[None])[0] for event in events]
    np.testing.assert_allclose(ours.decision_function(events), expected, rtol=1e-12)


def test_one_gaussian_is_the_mahalanobis_distance() -> None:
    """A mixture of one component orders events by the squared distance from the mean in units of the covariance."""
    background, events = normal(500, 1), normal(60, 2)
    away = events - background.mean(axis=0)
    inverse = np.linalg.inv(np.cov(background.T, bias=True))
    expected = np.array([one @ inverse @ one for one in away])
    scores = PUBLIC_DETECTORS[ONE_GAUSSIAN].score(background, events, seed=1)
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(expected))
    unbiased = expected * (len(background) - 1) / len(background)
    np.testing.assert_allclose(squared_mahalanobis(background, events), unbiased, rtol=1e-9)


def test_kernel_pca_is_that_of_pyod() -> None:
    """The reconstruction error in the space of a Gaussian kernel is PyOD's, of many events at once."""
    background, events = normal(200, 1), normal(60, 2)
    ours = KernelPCA(8)
    ours.fit(background)
    expected = pyod("KPCA", n_components=8, random_state=1).fit(background).decision_function(events)
    np.testing.assert_allclose(ours.decision_function(events), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("prongs", [2, 3])
def test_sums_of_ratios_are_their_formula(prongs: int) -> None:
    """Pronged jets score high, by minus tau2/tau1 or tau3/tau2 of both; jets without substructure score finitely."""
    events = samples.background(20)
    above, below = 2 + prongs + 1, 2 + prongs  # columns of the first jet
    expected = [
        -(float(one[above]) / float(one[below]) + float(one[above + 7]) / float(one[below + 7])) for one in events
    ]
    np.testing.assert_allclose(negative_ratio_sum(events, prongs), expected, rtol=1e-5)
    assert np.isfinite(negative_ratio_sum(samples.degenerate(), prongs)).all()


def learned(shift: float) -> tuple[Floats, Floats]:
    """Return the trees' scores of background and of signal that is shifted by so much, (800,) each."""
    events = np.concatenate([normal(800, 2), normal(800, 3, shift)])
    rows = np.arange(1600)
    scores = boosted_trees(normal(500, 1), events, rows[:800], rows[800:], seed=1)
    return scores[:800], scores[800:]


def test_trees_score_no_event_that_they_saw() -> None:
    """Trees that learn a signal no different from background find nothing; by heart they would."""
    area = auc(*learned(shift=0.0))
    assert abs(area.value - 0.5) < 4 * area.error


def test_trees_find_what_they_learned() -> None:
    """Trees that learn a signal find it."""
    assert auc(*learned(shift=2.0)).value > 0.95

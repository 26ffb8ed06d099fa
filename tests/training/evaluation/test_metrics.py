"""Figures of merit against counting by hand, and their errors against repetition."""

import numpy as np
import pytest

from training.evaluation.metrics import Measured, auc, efficiency, max_significance_improvement, rejection, roc


def counted_auc(background: np.ndarray, signal: np.ndarray) -> float:
    """Count, pair by pair, how often signal outscores background; a tie is half a win."""
    wins = sum(float(s > b) + 0.5 * float(s == b) for s in signal for b in background)
    return wins / (len(signal) * len(background))


def test_auc_is_the_fraction_of_pairs_in_order() -> None:
    """The area is the fraction of (signal, background) pairs in which signal scores higher, ties counted half.

    It is exactly 1 without an error where the samples do not overlap; in the wrong order, 0.
    """
    rng = np.random.default_rng(1)
    for decimals in (8, 0):
        background, signal = rng.normal(size=70).round(decimals), rng.normal(0.8, size=50).round(decimals)
        assert auc(background, signal).value == pytest.approx(counted_auc(background, signal))
    low, high = np.arange(5.0), np.arange(10.0, 15.0)
    assert auc(low, high) == Measured(1.0, 0.0)
    assert auc(high, low).value == 0.0


def test_value_and_error_have_the_same_decimals() -> None:
    """Both are rounded to the error's second significant digit, or to whole numbers; a value without error is alone."""
    for value, error, text in (
        (0.917123, 0.00112, "0.9171 ± 0.0011"),
        (45.35, 10.04, "45 ± 10"),
        (302.33, 171.2, "302 ± 171"),
        (1234567.0, 20000.0, "1,234,567 ± 20,000"),
        (0.1, 0.03, "0.100 ± 0.030"),
        (0.5, 0.0, "0.5"),
    ):
        assert str(Measured(value, error)) == text


def test_auc_error_is_the_spread_of_repeated_samples() -> None:
    """DeLong's error is what the area scatters by from sample to sample."""
    rng = np.random.default_rng(2)
    repeated = [auc(rng.normal(size=400), rng.normal(1.0, size=100)) for _ in range(400)]
    spread = np.std([one.value for one in repeated])
    assert np.mean([one.error for one in repeated]) == pytest.approx(spread, rel=0.12)


def test_efficiency_counts_what_is_above() -> None:
    """An efficiency is the fraction above the threshold, the threshold itself excluded, with the binomial error."""
    assert efficiency(np.array([1.0, 2.0, 3.0, 4.0]), 2.0) == Measured(0.5, 0.25)


def test_rejection_is_one_over_the_background_kept() -> None:
    """At the threshold that keeps half of the signal, rejection is the inverse fraction of background above it.

    Where no background is left it is a lower bound: the size of the sample, with an error as large.
    """
    background, signal = np.arange(100.0), np.array([60.5, 70.5, 89.5, 95.5, 99.5, 101.5])
    assert rejection(background, signal, 0.5).value == pytest.approx(100 / (background > 92.5).sum())
    assert rejection(np.arange(10.0), np.array([20.0, 30.0]), 0.5) == Measured(10.0, 10.0)


def test_roc_runs_from_nothing_to_everything() -> None:
    """The curve rises from (0, 0) to (1, 1) and never falls."""
    rng = np.random.default_rng(3)
    signal, background = roc(rng.normal(size=300), rng.normal(1, size=200))
    assert (signal[0], background[0], signal[-1], background[-1]) == (0, 0, 1, 1)
    assert (np.diff(signal) >= 0).all()
    assert (np.diff(background) >= 0).all()


def test_significance_improvement_needs_background_to_stand_on() -> None:
    """The largest improvement is sought only where 100 background events are left, so noise cannot win."""
    rng = np.random.default_rng(4)
    background, signal = rng.normal(size=10_000), rng.normal(1, size=2_000)
    best = max_significance_improvement(background, signal)
    assert best is not None
    thresholds = np.sort(background)[::-1][100:]
    by_hand = max((signal > cut).mean() / np.sqrt((background > cut).mean()) for cut in thresholds[:3000])
    assert best.value == pytest.approx(by_hand, rel=0.02)
    assert max_significance_improvement(background[:50], signal) is None


def test_the_error_of_a_rejection() -> None:
    """Of n events k are kept, k +- sqrt(k): the rejection n / k has the error n / k^1.5, as repetition shows."""
    background = np.arange(10_000.0)
    found = rejection(background, np.full(3, 9_900.0), 0.5)
    assert (found.value, found.error) == pytest.approx((100.0, 10.0))  # k = 100
    rng = np.random.default_rng(1)
    repeated = [rejection(rng.random(10_000), np.array([0.96]), 0.5) for _ in range(500)]
    spread = np.std([one.value for one in repeated])
    assert np.mean([one.error for one in repeated]) == pytest.approx(spread, rel=0.15)


def test_the_error_of_a_significance_improvement() -> None:
    """With all signal and k background events kept, it is 1 / sqrt(eps_B), and its relative error 1 / (2 sqrt(k))."""
    found = max_significance_improvement(np.arange(10_000.0), np.full(50, 9_599.5))
    assert found is not None
    assert (found.value, found.error) == pytest.approx((5.0, 5.0 / 40.0))  # k = 400

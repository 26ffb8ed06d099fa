"""The errors of rejection and significance improvement are those of the background kept."""

import numpy as np
import pytest

from training.evaluation.metrics import max_significance_improvement, rejection


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

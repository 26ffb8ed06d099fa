"""A working point passes its nominal fraction of background, and states the uncertainty of its threshold."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.artefact import WorkingPoint
from training.errors import ExportError
from training.fitting.working_points import (
    BACKGROUND_EFFICIENCIES,
    MIN_EVENTS_ABOVE,
    check_floor,
    derive_working_points,
)

SHA256 = "c" * 64


def draw(events: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw scores (n,) with the long tail that anomaly scores have."""
    return np.random.default_rng(seed).lognormal(0.0, 1.0, events).astype(np.float32)


def by_name(scores: NDArray[np.float32]) -> dict[str, WorkingPoint]:
    """Return the working points of scores (n,) by their names."""
    return {point.name: point for point in derive_working_points(scores, SHA256)}


@pytest.mark.parametrize("events", [250, 251, 2999, 50_000, 300_007])
def test_thresholds_keep_exactly_the_nominal_events(events: int) -> None:
    """Of the calibration sample exactly floor(n * efficiency) events lie above each threshold, in any order.

    A threshold is a score that float32 holds: comparing in float32 or in float64 decides the same.
    """
    scores = draw(events)
    before, points = scores.copy(), derive_working_points(scores, SHA256)
    assert derive_working_points(scores[::-1], SHA256) == points
    np.testing.assert_array_equal(scores, before)
    assert [point.background_efficiency for point in points] == [1e-1, 1e-2, 1e-3, 1e-4][: len(points)]
    for point in points:
        assert point.accepts(scores).sum() == math.floor(events * point.background_efficiency)
        assert (point.calibration_events, point.calibration_sha256) == (events, SHA256)
        assert float(np.float32(point.threshold)) == point.threshold
        np.testing.assert_array_equal(scores > np.float32(point.threshold), point.accepts(scores))


def test_whole_numbers_of_events_are_kept_whole() -> None:
    """A sample of which the efficiency is a whole number of events keeps that number: rounding takes none away."""
    for thousands in (25, 57, 58, 113, 290, 575, 1009):
        scores = np.arange(1000 * thousands, dtype=np.float32)
        kept = [int(point.accepts(scores).sum()) for point in by_name(scores).values()]
        assert kept[:3] == [100 * thousands, 10 * thousands, thousands]


@pytest.mark.parametrize(
    ("events", "names"),
    [
        (249, []),
        (250, ["loose"]),
        (2_500, ["loose", "medium"]),
        (24_999, ["loose", "medium"]),
        (25_000, ["loose", "medium", "tight"]),
        (250_000, ["loose", "medium", "tight", "very_tight"]),
    ],
)
def test_what_the_sample_cannot_support_is_left_out(events: int, names: list[str]) -> None:
    """A working point needs MIN_EVENTS_ABOVE events above it, and is left out otherwise."""
    assert list(by_name(draw(events))) == names
    assert all(events * BACKGROUND_EFFICIENCIES[name] >= MIN_EVENTS_ABOVE for name in names)


def test_the_efficiency_holds_on_other_events() -> None:
    """On an independent sample each efficiency agrees within five standard deviations."""
    calibration, independent = draw(300_000, seed=1), draw(1_000_000, seed=2)
    for point in by_name(calibration).values():
        efficiency = point.background_efficiency
        found = point.accepts(independent).mean()
        variance = efficiency * (1 - efficiency) * (1 / len(calibration) + 1 / len(independent))
        assert found == pytest.approx(efficiency, abs=5 * math.sqrt(variance))


def test_the_uncertainty_is_what_repetition_shows() -> None:
    """Thresholds of 300 samples scatter as far as each says, within a factor of 1.5."""
    points = [by_name(draw(5_000, seed)) for seed in range(300)]
    for name in ("loose", "medium"):
        scatter = np.std([point[name].threshold for point in points])
        said = np.mean([point[name].threshold_uncertainty for point in points])
        assert 1 / 1.5 < said / scatter < 1.5


def test_ties_never_let_more_through() -> None:
    """Where many events share the score at the threshold, none of them passes: at most the nominal fraction does."""
    scores = np.round(draw(50_000), 1)
    for point in by_name(scores).values():
        kept = point.accepts(scores).sum()
        assert kept <= math.floor(50_000 * point.background_efficiency)
        assert np.sum(scores >= point.threshold) > math.floor(50_000 * point.background_efficiency)
    for point in by_name(np.full(50_000, 3.5, np.float32)).values():
        assert (point.threshold, point.threshold_uncertainty) == (3.5, 0.0)


def test_what_lies_outside_the_range_must_pass_every_working_point() -> None:
    """Thresholds below the least score outside the range are fine; one that reaches it is refused by its name."""
    points = derive_working_points(draw(3000), SHA256)
    tightest = points[-1]
    check_floor(points, tightest.threshold + 1e-6)
    with pytest.raises(ExportError, match=f"threshold of '{tightest.name}' is .* expected less than .* train on"):
        check_floor(points, tightest.threshold)

"""The cocktail covers its ranges, and keeps away from every signal that a detector is judged on."""

import re
from pathlib import Path

import numpy as np
import pytest

from training.simulation.cocktail import (
    CHOSEN_ON,
    DAUGHTER_RANGE_GEV,
    MASS_RANGE_GEV,
    MIN_MASS_RATIO,
    REPORTED_ON,
    Signal,
    draw,
    near,
)
from training.simulation.generator import SIGNAL, w_prime

SEED = 7
JUDGED_ON = (*CHOSEN_ON, *REPORTED_ON)
DRAWN = [draw(SEED, index) for index in range(1000)]


def test_a_draw_depends_on_seed_and_index_alone() -> None:
    """The same seed and index give the same signal in any order; other seeds and indices give others."""
    assert [draw(SEED, index) for index in reversed(range(20))] == DRAWN[19::-1]
    assert len(set(DRAWN)) == len(DRAWN)
    assert not {draw(SEED + 1, index) for index in range(100)} & set(DRAWN)


def test_draws_stay_within_their_ranges() -> None:
    """All masses lie within the ranges, in whole GeV, X is the heavier daughter, and every W' can decay to both."""
    for signal in DRAWN:
        assert MASS_RANGE_GEV[0] <= signal.mass_gev <= MASS_RANGE_GEV[1]
        assert DAUGHTER_RANGE_GEV[0] <= signal.y_mass_gev <= signal.x_mass_gev <= DAUGHTER_RANGE_GEV[1]
        assert all(isinstance(number, int) for number in signal)
    assert MASS_RANGE_GEV[0] > 2 * DAUGHTER_RANGE_GEV[1]


def test_draws_fill_their_ranges() -> None:
    """Masses are spread evenly in the logarithm: a quarter of the W' in each quarter, daughters from end to end.

    Decays to two and to three prongs are drawn about as often.
    """
    low, high = np.log(MASS_RANGE_GEV)
    place = (np.log([signal.mass_gev for signal in DRAWN]) - low) / (high - low)
    fractions = np.histogram(place, bins=4, range=(0, 1))[0] / len(DRAWN)
    np.testing.assert_allclose(fractions, 0.25, atol=0.05)
    daughters = [mass for signal in DRAWN for mass in (signal.x_mass_gev, signal.y_mass_gev)]
    assert min(daughters) < 1.05 * DAUGHTER_RANGE_GEV[0]
    assert max(daughters) > DAUGHTER_RANGE_GEV[1] / 1.05
    assert {signal.prongs for signal in DRAWN} == {2, 3}
    assert np.mean([signal.prongs == 3 for signal in DRAWN]) == pytest.approx(0.5, abs=0.06)


def ratio(one: float, other: float) -> float:
    """Return how far apart two masses are: the larger over the smaller."""
    return max(one / other, other / one)


def test_no_draw_resembles_what_a_detector_is_judged_on() -> None:
    """Of every draw, one daughter at least is a factor of MIN_MASS_RATIO off that of each signal judged on.

    There is no hole around a mass: one of them alone may be that of a signal that the cocktail is kept from.
    """
    for judged in JUDGED_ON:
        off = np.array([[ratio(*pair) for pair in zip(drawn[1:3], judged[1:3], strict=True)] for drawn in DRAWN])
        assert np.all(off.max(axis=1) >= MIN_MASS_RATIO), judged.name
        assert np.all(off.min(axis=0) < MIN_MASS_RATIO), judged.name


def test_near_means_both_daughters(subtests: pytest.Subtests) -> None:
    """Signals are near when both daughters are within a factor of 1.25, whatever the parent and the prongs."""
    one = Signal(3000, 400, 200)
    assert MIN_MASS_RATIO == 1.25
    for other, expected in (
        *((one, True), (Signal(6000, 400, 200, prongs=3), True), (Signal(3000, 499, 161), True)),
        *((Signal(3000, x, y), False) for x, y in ((500, 200), (320, 200), (400, 250), (400, 160), (800, 100))),
    ):
        with subtests.test(other.name):
            assert near(one, other) is near(other, one) is expected


def test_the_choice_is_made_on_other_signals_than_the_report() -> None:
    """No signal is both chosen and reported on, and each W' can decay to an X that is no lighter than its Y."""
    assert len(set(JUDGED_ON)) == len({signal.name for signal in JUDGED_ON}) == len(JUDGED_ON)
    for signal in JUDGED_ON:
        assert signal.mass_gev > signal.x_mass_gev + signal.y_mass_gev
        assert signal.x_mass_gev >= signal.y_mass_gev


def test_a_signal_is_named_after_its_masses_and_prongs() -> None:
    """The name says all that there is to a signal, and whole masses have no decimals."""
    assert Signal(3500, 500, 100).name == Signal(3500.0, 500.0, 100.0).name == "3500_500_100_2prong"
    assert Signal(3823.5, 732, 378, prongs=3).name == "3823.5_732_378_3prong"


def test_a_signal_is_the_process_of_its_masses() -> None:
    """Masses and prongs reach the process; that of the published events is reported on first."""
    assert Signal(4500, 600, 150, prongs=3).process() == w_prime(4500, 600, 150, 3)
    assert Signal(4500, 600, 150).process() == w_prime(4500, 600, 150, 2)
    assert REPORTED_ON[0].process() == SIGNAL


def test_the_report_covers_every_signal_that_is_promised() -> None:
    """The Makefile simulates just the signals of REPORTED_ON; the first of them is in the test sample."""
    makefile = (Path(__file__).parents[3] / "Makefile").read_text()
    (listed,) = re.findall(
        r"^SIGNALS := \$\(patsubst %,data/signals/%prong\.h5,((?:.|\\\n)*?)\)$", makefile, re.MULTILINE
    )
    assert {f"{name}prong" for name in listed.replace("\\", " ").split()} == {signal.name for signal in REPORTED_ON[1:]}

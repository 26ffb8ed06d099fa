"""Quantities are those that textbooks define, and an event that lacks one has none."""

import numpy as np
import pytest

from tests.training import samples
from training.events.kinematics import AXIS_LABELS, MASS_FLOOR_GEV, TAU_FLOOR_GEV, ln_simple, quantities


def event(*jets: tuple[float, ...]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return one event of two jets of seven features: (1, 14)."""
    return np.array([[*jets[0], *jets[1]]])


def test_dijet_mass_of_known_jets() -> None:
    """Jets of 1500 GeV back to back weigh 3000 GeV together, at rest as seen from any boost along the beam."""
    for rapidity in (0.0, 1.2):
        along = 1500.0 * np.sinh(rapidity)
        jets = [(sign * 1500.0, 0.0, along, 0.0, 1.0, 1.0, 1.0) for sign in (1, -1)]
        assert quantities(event(*jets))["mjj"] == pytest.approx(3000.0)
        assert quantities(event(*jets))["etaj1"] == pytest.approx(rapidity)


def test_dijet_mass_counts_the_jets_own_masses() -> None:
    """Two jets at rest weigh what they weigh."""
    found = quantities(event((1e-6, 0, 0, 80.0, 3.0, 2.0, 1.0), (-1e-6, 0, 0, 300.0, 4.0, 1.0, 0.5)))
    for name, expected in (("mjj", 380.0), ("m_heavier", 300.0), ("m_lighter", 80.0)):
        assert found[name] == pytest.approx(expected), name


def test_quantities_of_a_known_event() -> None:
    """Each jet's own numbers are what arithmetic by hand gives, and every quantity has a label, in that order."""
    found = quantities(event((300.0, 400.0, 0.0, 50.0, 40.0, 20.0, 5.0), (-600.0, -800.0, 1e3, 80.0, 30.0, 9.0, 3.6)))
    by_hand = {"pt": (500, 1000), "m": (50, 80), "tau1": (40, 30), "tau21": (0.5, 0.3), "tau32": (0.25, 0.4)}
    for name, expected in {**by_hand, "eta": (0, np.log(1 + np.sqrt(2)))}.items():
        assert [found[f"{name}j{jet}"][0] for jet in (1, 2)] == pytest.approx(expected), name
    assert list(found) == list(AXIS_LABELS)


def test_what_an_event_lacks_is_nan() -> None:
    """Without a second jet there is neither its mass nor a dijet mass; a ratio over 0 is none; nothing is infinite."""
    found = quantities(samples.degenerate())
    no_second, nothing = 4, 5
    for name in ("ptj2", "etaj2", "mj2", "tau1j2", "tau21j2", "mjj", "m_lighter"):
        assert np.isnan(found[name][[no_second, nothing]]).all(), name
    assert found["m_heavier"][no_second] == found["mj1"][no_second] > 0
    assert np.isnan(found["tau21j2"][2])
    assert np.isnan(found["tau32j1"][3])
    assert all(np.isfinite(values[~np.isnan(values)]).all() for values in found.values())
    assert np.isfinite(found["mjj"][:4]).all()


def test_logarithms_of_ratios_are_finite() -> None:
    """They are those of the ratios, with a floor on each subjettiness and mass."""
    found, ordinary = ln_simple(samples.background(20)), quantities(samples.background(20))
    for jet in (1, 2):
        np.testing.assert_allclose(found[f"ln_tau1_mj{jet}"], np.log(ordinary[f"tau1j{jet}"] / ordinary[f"mj{jet}"]))
    for name in ("tau21j1", "tau32j1", "tau21j2", "tau32j2"):
        np.testing.assert_allclose(found[f"ln_{name}"], np.log(ordinary[name]))
    floored = ln_simple(event((1, 0, 0, 1, 20.0, 5.0, 0.0), (0,) * 7))
    assert floored["ln_tau21j1"] == pytest.approx(np.log(5.0 / 20.0))
    assert floored["ln_tau32j1"] == pytest.approx(np.log(TAU_FLOOR_GEV / 5.0))
    assert floored["ln_tau1_mj1"] == pytest.approx(np.log(20.0))
    assert floored["ln_tau1_mj2"] == pytest.approx(np.log(TAU_FLOOR_GEV / MASS_FLOOR_GEV))
    assert floored["ln_tau21j2"] == floored["ln_tau32j2"] == 0.0

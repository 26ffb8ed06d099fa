"""The range and the bins of the dijet mass spectrum."""

import numpy as np
from numpy.typing import NDArray

from training.errors import EventsError

Floats = NDArray[np.float64]

COLLISION_ENERGY_GEV = 13_000.0  # of the LHC Olympics, and of our simulation

# The relative resolution of the dijet mass is some percent: bins of equal ratio, narrower than a narrow resonance.
BIN_RATIO = 0.025  # of ln mJJ
LEAST_BINS = 15


def edges(low_gev: float, high_gev: float) -> Floats:
    """Return edges (bins + 1,) in GeV of bins of BIN_RATIO from `low_gev` to the first edge at or above `high_gev`.

    Raises EventsError for a range that cannot be searched.
    """
    if not 0 < low_gev < high_gev < COLLISION_ENERGY_GEV:
        raise EventsError(
            f"the range of masses is {low_gev:g} to {high_gev:g} GeV, expected two masses in ascending order, above 0 "
            f"and below the collision energy of {COLLISION_ENERGY_GEV:g} GeV"
        )
    bins = int(np.ceil(np.log(high_gev / low_gev) / BIN_RATIO - 1e-9))
    if bins < LEAST_BINS:
        raise EventsError(
            f"the range {low_gev:g} to {high_gev:g} GeV has {bins} bins of {BIN_RATIO:.1%} of the mass, expected at "
            f"least {LEAST_BINS}: from {low_gev:g} GeV on, search up to {low_gev * np.exp(LEAST_BINS * BIN_RATIO):.0f} "
            "GeV or more"
        )
    made: Floats = low_gev * np.exp(BIN_RATIO * np.arange(bins + 1))
    return made


def histogram(masses: Floats, edges: Floats) -> Floats:
    """Return the number of masses (n,) in each bin (bins,); masses outside the range and NaN are not counted."""
    return np.histogram(masses, edges)[0].astype(float)

"""The tilt, a prior for simple jets: alone, and added to scores that were learned without it.

It is added as the shipped `density` has it: 1.5 for each standard deviation, to a score in the units of -ln density.
"""

from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.samples import ComparisonEvents, standardise
from training.detectors.feature_maps import FEATURE_MAPS
from training.detectors.layers import tilt as tilt_of
from training.detectors.presets import PRESETS

Floats = NDArray[np.float64]

WEIGHT = PRESETS["density"].simplicity
VIEW = PRESETS["density"].feature_map

GAUSSIAN_SPREAD = np.sqrt(len(FEATURE_MAPS[VIEW].names) / 2)
"""Standard deviation of -ln density over a Gaussian in as many quantities as the view has."""


class Unit(Enum):
    """What a score is, and so how it is brought to the units of -ln density."""

    LOG_DENSITY = auto()  # -ln density: as it is
    SQUARED_DISTANCE = auto()  # of a Gaussian, whose -ln density is half of it
    DISTANCE = auto()  # a distance or an error: its logarithm is given the spread of a Gaussian's -ln density
    OTHER = auto()  # anything else is given that spread as it is


def tilt(events: ComparisonEvents) -> Floats:
    """Return the sum of standardised ln tau1/m, less ln tau21 and ln tau32, of both jets of the scored events: (n,)."""
    _, scored = standardise(VIEW, events)
    total: Floats = scored @ tilt_of(FEATURE_MAPS[VIEW].names, 1.0).double().numpy()[:, 0]
    return total


def of_taus_alone(events: ComparisonEvents) -> Floats:
    """Return minus the sum of standardised ln tau21 and ln tau32 of both jets of the scored events: (n,)."""
    names = FEATURE_MAPS[VIEW].names
    _, scored = standardise(VIEW, events)
    total: Floats = -scored[:, [name.startswith(("ln_tau21", "ln_tau32")) for name in names]].sum(axis=1)
    return total


def with_tilt(scores: Floats, unit: Unit, tilts: Floats, background: NDArray[np.int64]) -> Floats:
    """Return scores (n,) with the tilt (n,) added; spreads are those of the events in the rows `background`."""
    if unit is Unit.LOG_DENSITY:
        return scores + WEIGHT * tilts
    if unit is Unit.SQUARED_DISTANCE:
        return scores / 2 + WEIGHT * tilts
    if unit is Unit.DISTANCE:
        scores = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
    spread = scores[background].std()
    return scores * (GAUSSIAN_SPREAD / spread if spread else 0.0) + WEIGHT * tilts

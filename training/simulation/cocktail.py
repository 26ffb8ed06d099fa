"""Signals W' -> XY: those for the evaluation of detectors, and random ones for the training of a classifier."""

from typing import NamedTuple

import numpy as np

from training.simulation.generator import Process, w_prime


class Signal(NamedTuple):
    """A signal W' -> X Y: masses in GeV and the number of prongs of either decay."""

    mass_gev: float
    x_mass_gev: float
    y_mass_gev: float
    prongs: int = 2

    @property
    def name(self) -> str:
        """Name of the signal in files and tables, such as 3500_500_100_2prong."""
        return f"{self.mass_gev:g}_{self.x_mass_gev:g}_{self.y_mass_gev:g}_{self.prongs}prong"

    def process(self) -> Process:
        """Return the process that generates the signal."""
        return w_prime(*self)


# A detector's configuration is chosen on these ...
CHOSEN_ON = (
    Signal(3000, 300, 300),
    Signal(4000, 250, 80),
    Signal(3200, 700, 180),
    Signal(4500, 160, 120),
    Signal(3500, 350, 140, prongs=3),
    Signal(5000, 600, 450, prongs=3),
)

# ... and reported on these.
REPORTED_ON = (
    Signal(3500, 500, 100),  # in the published R&D events, like the next
    Signal(3500, 500, 100, prongs=3),
    Signal(3823, 732, 378),  # in the published black box 1
    Signal(3500, 80, 80),  # as light and as narrow as W and Z
    Signal(5000, 200, 200),
    Signal(2800, 400, 60),
    Signal(3000, 250, 250, prongs=3),
    Signal(4500, 800, 173, prongs=3),
)

# The cocktail covers these ranges evenly in the logarithm: any W' whose jets can pass the selection, any daughter that
# fits into one jet and is heavier than most jets' cores.
MASS_RANGE_GEV = (2600.0, 6000.0)
DAUGHTER_RANGE_GEV = (50.0, 1000.0)

# No cocktail signal has both daughter masses within this ratio of those of a signal above.
MIN_MASS_RATIO = 1.25


def draw(seed: int, index: int) -> Signal:
    """Return a signal of the cocktail, with random masses and prongs that differ from those of the evaluation."""
    rng = np.random.default_rng([seed, index])
    while True:
        mass, x, y = (
            float(np.exp(rng.uniform(*np.log(range_)))) for range_ in (MASS_RANGE_GEV, *[DAUGHTER_RANGE_GEV] * 2)
        )
        signal = Signal(round(mass), round(max(x, y)), round(min(x, y)), int(rng.integers(2, 4)))
        if not any(near(signal, kept) for kept in (*CHOSEN_ON, *REPORTED_ON)):
            return signal


def near(one: Signal, other: Signal) -> bool:
    """Return whether both daughters have similar masses, independent of the parent and the decay."""
    return all(
        max(a, b) < MIN_MASS_RATIO * min(a, b)
        for a, b in ((one.x_mass_gev, other.x_mass_gev), (one.y_mass_gev, other.y_mass_gev))
    )

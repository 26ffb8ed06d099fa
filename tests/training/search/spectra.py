"""Spectra of dijet masses for tests, and events that have them."""

import numpy as np
from numpy.typing import NDArray

from tests.training import samples
from training.events.kinematics import quantities
from training.search.fit import basis
from training.search.spectrum import edges

Floats = NDArray[np.float64]

EDGES = edges(2800, 8000)
SCALE_GEV = 560.0


def falling(events: float, parameters: int = 4) -> Floats:
    """Return how many of so many background events each bin of EDGES is expected to hold: a dijet function."""
    terms, widths = basis(EDGES, parameters), np.diff(EDGES)
    centres = np.sqrt(EDGES[1:] * EDGES[:-1])
    expected = np.exp(terms @ (terms.T @ (-centres / SCALE_GEV))) * widths
    scaled: Floats = expected * events / expected.sum()
    return scaled


def with_masses(features: NDArray[np.float32], masses: Floats) -> NDArray[np.float32]:
    """Return events (n, 14) whose energies are all multiplied so that they have the dijet masses (n,) in GeV."""
    factors = masses / quantities(features)["mjj"]
    return (features * factors[:, None]).astype(np.float32)


def background(events: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw ordinary events, (events, 14), with a falling spectrum from 2.5 TeV on."""
    masses = 2500 + np.random.default_rng(seed).exponential(SCALE_GEV, events)
    return with_masses(samples.background(events, seed), masses)


def resonance(events: int, mass_gev: float = 3500.0, seed: int = 0) -> NDArray[np.float32]:
    """Draw signal, (events, 14), whose dijet mass is measured within 4 %."""
    masses = mass_gev * (1 + 0.04 * np.random.default_rng(seed).standard_normal(events))
    return with_masses(samples.signal(events, seed), masses)

"""Dijet mass spectra of more events than are simulated, drawn from the smoothed spectra of the simulated events."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.errors import EventsError
from training.search.fit import fit
from training.search.samples import Sample
from training.search.spectrum import histogram

Floats = NDArray[np.float64]

# The signal region of the literature, around the signal of 3500 GeV.
SIGNAL_REGION_GEV = (3300.0, 3700.0)

# Degrees of the polynomials of ln mJJ that smooth: the spectrum, and the fraction of it that passes. In 50 000 events a
# fourth power gains 0.2 in twice the log-likelihood; what is not needed would be noise, which 1 M events resolve.
SPECTRUM_DEGREE, EFFICIENCY_DEGREE = 3, 2


@dataclass(frozen=True)
class Parent:
    """The parent distribution of pseudo-experiments, for a number of background events before the selection."""

    events: int
    background: Floats  # accepted events expected in each bin (bins,)
    background_in_region: float  # events expected before the selection
    signal: Floats  # accepted events in each bin (bins,), per event in the region before the selection
    signal_efficiency: float  # in the region
    background_efficiency: float

    def injected(self, strength: float) -> Floats:
        """Return the accepted signal expected in each bin (bins,) at some S/sqrt(B) before the selection."""
        accepted: Floats = strength * np.sqrt(self.background_in_region) * self.signal
        return accepted


def smoothed(samples: Sequence[Sample], edges: Floats, events: int) -> Parent:
    """Return the parent of samples with labels, in bins between edges (bins + 1,) in GeV.

    The logarithm of the spectrum of all background is a cubic of ln mJJ, that of the fraction of it that passes a
    parabola, both fitted by Poisson likelihoods: statistical bumps of the events are not inherited.
    Raises EventsError without labels or signal.
    """
    mjj = np.concatenate([one.mjj for one in samples])
    passed = np.concatenate([one.passed for one in samples])
    labels = [one.is_signal for one in samples]
    if any(one is None for one in labels):
        raise EventsError("the events have no labels, expected background and signal: use simulated ones")
    is_signal = np.concatenate([one for one in labels if one is not None])
    inside = (SIGNAL_REGION_GEV[0] < mjj) & (mjj < SIGNAL_REGION_GEV[1])
    if not (inside & is_signal).any():
        raise EventsError(f"no signal lies between {SIGNAL_REGION_GEV[0]:g} and {SIGNAL_REGION_GEV[1]:g} GeV")
    log = np.log(np.sqrt(edges[1:] * edges[:-1]) / np.mean(SIGNAL_REGION_GEV))
    spectrum, efficiency = (
        np.linalg.qr(np.vander(log, degree + 1, increasing=True))[0] for degree in (SPECTRUM_DEGREE, EFFICIENCY_DEGREE)
    )
    every = np.ones(len(log), bool)
    all_events = fit(histogram(mjj[~is_signal], edges)[None], np.diff(edges), spectrum, every).expected[0]
    accepted = fit(histogram(mjj[~is_signal & passed], edges)[None], all_events, efficiency, every).expected[0]
    scale = events / (~is_signal).sum()
    return Parent(
        events=events,
        background=accepted * scale,
        background_in_region=float((inside & ~is_signal).sum() * scale),
        signal=histogram(mjj[is_signal & passed], edges) / (inside & is_signal).sum(),
        signal_efficiency=float(passed[inside & is_signal].mean()),
        background_efficiency=float(passed[inside & ~is_signal].mean()),
    )

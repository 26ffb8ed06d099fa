"""Injection of signal into background: the significance of the excess by signal strength."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.search.scan import scan
from training.search.toys import global_p

Floats = NDArray[np.float64]

# S / sqrt(B) before the selection, in the signal region; 2.2 is what studies of the LHC Olympics inject.
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.2, 3.0, 4.0, 5.0)
SPECTRA = 50  # pseudo-experiments per strength
CENTRAL = (0.16, 0.5, 0.84)


@dataclass(frozen=True)
class Signal:
    """A signal to inject, its region, and the signal and background in the region before the selection."""

    region_gev: tuple[float, float]
    events: int  # of the sample from which the shape is taken
    in_region: float  # fraction of them in the region
    efficiency: float  # fraction of those in the region that pass
    background_in_region: float  # events
    background_efficiency: float
    accepted: list[float]  # events of each bin that pass, per event in the region before the selection


@dataclass(frozen=True)
class Injected:
    """The global significance for one signal strength: expected, and found in pseudo-experiments."""

    strength: float  # S / sqrt(B)
    events: float  # injected in the region before the selection
    expected: float  # in the mean spectrum of background and signal
    found: tuple[float, float, float]  # 16, 50 and 84 % quantiles
    found_in_events: tuple[float, float, float] | None  # the same, in the background events of the files


def signal_of(
    masses: Floats,
    passed: NDArray[np.bool_],
    background: Floats,
    background_passed: NDArray[np.bool_],
    edges: Floats,
    region_gev: tuple[float, float],
) -> Signal:
    """Return a signal with the spectrum of events of masses (n,) in GeV, and background of masses (m,)."""
    inside, background_inside = ((region_gev[0] < mjj) & (mjj < region_gev[1]) for mjj in (masses, background))
    return Signal(
        region_gev=region_gev,
        events=len(masses),
        in_region=float(inside.mean()),
        efficiency=float(passed[inside].mean()),
        background_in_region=float(background_inside.sum()),
        background_efficiency=float(background_passed[background_inside].mean()),
        accepted=(np.histogram(masses[passed], edges)[0] / inside.sum()).tolist(),
    )


def inject(
    signal: Signal,
    expected: Floats,
    observed: Floats | None,
    edges: Floats,
    parameters: int,
    toys: Floats,
    seed: int,
) -> list[Injected]:
    """Inject a signal of each strength into background, and scan the spectra like the data.

    Background and signal of a pseudo-experiment are drawn from the events expected in each bin (bins,). With
    `observed`, the background events that pass in each bin (bins,), signal is also added to these.
    """
    rng = np.random.default_rng(seed)
    shape = np.array(signal.accepted)

    def found(spectra: Floats) -> Floats:
        statistics = scan(spectra, edges, parameters).statistic
        return np.array([global_p(statistic, toys).significance for statistic in statistics])

    def quantiles(spectra: Floats) -> tuple[float, float, float]:
        low, middle, high = np.quantile(found(spectra), CENTRAL).tolist()
        return low, middle, high

    curve = []
    for strength in STRENGTHS:
        events = strength * np.sqrt(signal.background_in_region)
        mean = events * shape
        drawn = rng.poisson(mean, (SPECTRA, len(shape))).astype(float)
        curve.append(
            Injected(
                strength=strength,
                events=float(events),
                expected=float(found((expected + mean)[None])[0]),
                found=quantiles(rng.poisson(expected, drawn.shape) + drawn),
                found_in_events=None if observed is None else quantiles(observed + drawn),
            )
        )
    return curve

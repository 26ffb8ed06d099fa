"""All numbers of a search, from the dijet masses of the events that a model's working point accepts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.model.artefact import Artefact
from training.errors import EventsError
from training.search.finding import Choice, Finding, background_of, choose, chosen, examine, largest_excesses
from training.search.injection import Injected, Signal, inject, signal_of
from training.search.samples import Sample
from training.search.scan import windows
from training.search.spectrum import histogram
from training.search.toys import throw

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEAST_EVENTS = 50
LEAST_FILLED = 10  # bins


@dataclass(frozen=True)
class Facts:
    """The numbers of events in a file and after the selection."""

    sample: str
    sha256: str
    events: int
    passed: int
    passed_in_range: int
    signal_events: int | None  # None without labels
    without_mass: int  # events without a second jet
    trained_on: bool


@dataclass(frozen=True)
class Search:
    """All numbers of a search, as written to search.json."""

    model: str
    sha256: str
    working_point: str
    threshold: float
    background_efficiency: float  # nominal
    samples: list[Facts]
    edges_gev: list[float]
    before: list[float]  # events by bin before the selection
    choices: list[Choice]
    parameters: int
    toys: int
    seed: int
    toy_statistics: list[float]
    found: Finding
    signal_in_best: int | None  # signal events in the best window
    closure: Finding | None  # background only, if there are labels
    signal: Signal | None
    injected: list[Injected]


def search(
    artefact: Artefact,
    working_point: str,
    samples: Sequence[Sample],
    signals: Sequence[Sample],
    edges: Floats,
    region_gev: tuple[float, float] | None = None,
    parameters: int | None = None,
    toys: int = 10_000,
    seed: int = 0,
) -> Search:
    """Search the events of samples for a resonance in bins between edges (bins + 1,) in GeV.

    The injected signal, if any, is that of the files `signals`, or else the labelled signal of `samples`. Raises
    EventsError if too few events pass, and if no signal event passes.
    """
    point = next(one for one in artefact.metadata.working_points if one.name == working_point)
    data = _Events.of(samples)
    background = data.where(~data.is_signal)
    has_signal = len(background.mjj) < len(data.mjj)
    counts, clean = data.spectrum(edges), background.spectrum(edges)
    for spectrum in (counts, clean):
        _require_spectrum(spectrum, edges, f"{working_point} of {artefact.identity}")
    injected_from = _Events.of(signals, all_signal=True) if signals else data.where(data.is_signal)
    signal = _signal(injected_from, background, edges, region_gev) if len(injected_from.mjj) else None
    choices = choose(counts, edges, *largest_excesses(counts[None], edges))
    parameters = parameters or chosen(choices)
    expected = background_of(counts, edges, parameters)
    thrown = throw(expected, edges, parameters, toys, seed)
    found = examine(counts, edges, parameters, thrown)
    in_best = (found.best.low_gev <= data.mjj) & (data.mjj < found.best.high_gev) & data.passed & data.is_signal
    return Search(
        model=artefact.identity,
        sha256=artefact.sha256,
        working_point=working_point,
        threshold=point.sent_threshold,
        background_efficiency=point.background_efficiency,
        samples=[_facts(one, edges) for one in samples],
        edges_gev=edges.tolist(),
        before=histogram(data.mjj, edges).tolist(),
        choices=choices,
        parameters=parameters,
        toys=toys,
        seed=seed,
        toy_statistics=thrown.statistic.tolist(),
        found=found,
        signal_in_best=int(in_best.sum()) if all(one.is_signal is not None for one in samples) else None,
        closure=examine(clean, edges, parameters, thrown) if has_signal else None,
        signal=signal,
        injected=inject(signal, expected, clean if has_signal else None, edges, parameters, thrown.statistic, seed + 1)
        if signal
        else [],
    )


@dataclass(frozen=True, eq=False)
class _Events:
    """The events of several files with a dijet mass; unlabelled events are background unless all are signal."""

    mjj: Floats
    passed: Mask
    is_signal: Mask

    @classmethod
    def of(cls, samples: Sequence[Sample], all_signal: bool = False) -> "_Events":
        labels = [np.full(len(one), all_signal) if one.is_signal is None else one.is_signal for one in samples]
        mjj, passed, is_signal = (
            np.concatenate(values) for values in ([one.mjj for one in samples], [one.passed for one in samples], labels)
        )
        known = ~np.isnan(mjj) & (is_signal | (not all_signal))
        return cls(mjj[known], passed[known], is_signal[known])

    def where(self, chosen: Mask) -> "_Events":
        return _Events(self.mjj[chosen], self.passed[chosen], self.is_signal[chosen])

    def spectrum(self, edges: Floats) -> Floats:
        return histogram(self.mjj[self.passed], edges)


def _require_spectrum(counts: Floats, edges: Floats, selection: str) -> None:
    events, filled = int(counts.sum()), int((counts > 0).sum())
    where = f"between {edges[0]:.0f} and {edges[-1]:.0f} GeV"
    if events < LEAST_EVENTS:
        raise EventsError(
            f"{events} events {where} pass {selection}, expected at least {LEAST_EVENTS}: give more events, a looser "
            "working point or another --range"
        )
    if filled < LEAST_FILLED:
        raise EventsError(
            f"the {events:,} events {where} that pass {selection} lie in {filled} of {len(counts)} bins of the dijet "
            f"mass, expected at least {LEAST_FILLED}: a spectrum without a spread has no background to fit"
        )


def _signal(signal: _Events, background: _Events, edges: Floats, region_gev: tuple[float, float] | None) -> Signal:
    """Return the signal to inject; by default its region is the window with the largest S / sqrt(B)."""
    if region_gev is None:
        s, b = histogram(signal.mjj, edges), histogram(background.mjj, edges)
        best = max(windows(len(s)), key=lambda window: s[window].sum() / np.sqrt(max(b[window].sum(), 1)))
        region_gev = float(edges[best.start]), float(edges[best.stop])
    for kind, masses in (("signal", signal.mjj), ("background", background.mjj)):
        if not ((region_gev[0] < masses) & (masses < region_gev[1])).any():
            raise EventsError(
                f"no {kind} event has a dijet mass in the signal region, {region_gev[0]:.0f} to {region_gev[1]:.0f} "
                "GeV: choose another with --signal-region"
            )
    made = signal_of(signal.mjj, signal.passed, background.mjj, background.passed, edges, region_gev)
    if not sum(made.accepted):
        raise EventsError(
            f"none of the {len(signal.mjj):,} signal events with a dijet mass passes in the range of the search: "
            "choose a looser working point, another --range or another --signal"
        )
    return made


def _facts(sample: Sample, edges: Floats) -> Facts:
    return Facts(
        sample=sample.name,
        sha256=sample.sha256,
        events=len(sample),
        passed=int(sample.passed.sum()),
        passed_in_range=int(histogram(sample.mjj[sample.passed], edges).sum()),
        signal_events=None if sample.is_signal is None else int(sample.is_signal.sum()),
        without_mass=int(np.isnan(sample.mjj).sum()),
        trained_on=sample.trained_on,
    )

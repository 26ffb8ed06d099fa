"""All numbers of a report on an artefact with many samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.model.artefact import Artefact, WorkingPoint
from service.model.scorer import Scorer
from training.evaluation.evaluation import Evaluation, evaluate
from training.evaluation.explanations import Explanations, explain
from training.evaluation.metrics import Measured
from training.evaluation.model import features_of
from training.evaluation.samples import Sample, Scored, by_class, judged
from training.evaluation.sculpting import (
    DIJET_MASS_EDGES_GEV,
    Efficiency,
    Sculpting,
    common_edges,
    efficiency_by_bin,
    sculpting,
)

# Masses against which an efficiency is shown.
MASSES = ("mjj", "m_heavier", "m_lighter")
MASS_BINS = 25

# With fewer expected events, the distribution of their number is too far from Gaussian for a pull.
LEAST_EXPECTED = 10
LARGEST_PULL = 2.0
AGREES, DISAGREES = "agrees", "does not agree"


@dataclass(frozen=True)
class SampleFacts:
    """The content of a file, and the background with which its signal is compared."""

    sample: str
    sha256: str  # of the file
    background_events: int
    signal_events: int
    events_without_second_jet: int | None  # None for features other than those of jets
    judged_against: str | None  # name of the sample with the background; None without signal
    trained_on: bool  # whether the model was trained on its background


@dataclass(frozen=True)
class Check:
    """A comparison of a working point's background efficiency, measured on a sample, with the nominal one."""

    sample: str
    point: str
    events: int
    passed: int
    expected: float  # events to pass at the nominal efficiency
    ratio: Measured  # measured over nominal efficiency; the error follows from the sizes of both samples
    pull: float | None  # (ratio - 1) / its error; None with too few events, or if the threshold comes from the sample
    verdict: str


@dataclass(frozen=True)
class Report:
    """All numbers of a report, as written to report.json."""

    model: str
    sha256: str
    samples: list[SampleFacts]
    evaluations: list[Evaluation]
    dijet_mass_edges_gev: list[float]
    sculpting: dict[str, Sculpting]  # by working point
    mass_edges_gev: dict[str, list[float]]  # by mass
    efficiencies: dict[str, dict[str, dict[str, Efficiency]]]  # by mass, sample and working point
    checks: list[Check]
    explanations: Explanations | None  # None for a model whose scores cannot be explained


def compile_report(scorer: Scorer, samples: Sequence[Sample]) -> Report:
    """Return the numbers of an artefact for scored samples; the first has both background and signal."""
    artefact = scorer.artefact
    points = artefact.metadata.working_points
    backgrounds, signals = by_class(samples)
    first, reference = next(iter(backgrounds.items()))
    shown = {f"{first} background": reference, **signals}
    masses = [mass for mass in MASSES if features_of(artefact).of_jets]
    edges = {mass: common_edges([scored.quantities[mass] for scored in shown.values()], MASS_BINS) for mass in masses}
    return Report(
        model=artefact.identity,
        sha256=artefact.sha256,
        samples=[_facts(artefact, sample, first) for sample in samples],
        evaluations=[evaluate(artefact, *one) for one in judged(samples)],
        dijet_mass_edges_gev=DIJET_MASS_EDGES_GEV.tolist(),
        sculpting={
            point.name: sculpting(reference.quantities["mjj"], reference.scores > point.threshold)
            for point in points
            if masses
        },
        mass_edges_gev={mass: values.tolist() for mass, values in edges.items()},
        efficiencies={
            mass: {
                name: {
                    point.name: efficiency_by_bin(scored.quantities[mass], scored.scores > point.threshold, edges[mass])
                    for point in points
                }
                for name, scored in shown.items()
            }
            for mass in masses
        },
        checks=[check(name, scored, point) for name, scored in backgrounds.items() for point in points],
        explanations=explain(scorer, samples),
    )


def check(sample: str, background: Scored, point: WorkingPoint) -> Check:
    """Compare the measured background efficiency of a working point with the nominal one.

    At the nominal efficiency, the variance of the passing fraction is the sum of the binomial variances of this sample
    and of the calibration sample.
    """
    nominal, events = point.background_efficiency, len(background)
    passed, expected = int((background.scores > point.threshold).sum()), events * nominal
    error = float(np.sqrt((1 - nominal) / nominal * (1 / events + 1 / point.calibration_events)))
    ratio, pull = Measured(passed / expected, error), None
    if background.sha256 == point.calibration_sha256:
        verdict = "no check: the threshold comes from these events"
    elif expected < LEAST_EXPECTED:
        verdict = "too few events to tell"
    else:
        pull = (ratio.value - 1) / error
        verdict = AGREES if abs(pull) < LARGEST_PULL else DISAGREES
    return Check(sample, point.name, events, passed, expected, ratio, pull, verdict)


def _facts(artefact: Artefact, sample: Sample, first: str) -> SampleFacts:
    background, signal = sample.background, sample.signal
    parts = [part for part in (background, signal) if part]
    return SampleFacts(
        sample=sample.name,
        sha256=sample.sha256,
        background_events=len(background) if background else 0,
        signal_events=len(signal) if signal else 0,
        events_without_second_jet=sum(int(np.isnan(part.quantities["ptj2"]).sum()) for part in parts)
        if features_of(artefact).of_jets
        else None,
        judged_against=(sample.name if background else first) if signal else None,
        trained_on=background is not None and background.sha256 == artefact.metadata.data_sha256,
    )

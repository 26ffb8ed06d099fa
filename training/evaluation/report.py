"""An artefact on many samples: all numbers of a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from service.model.artefact import Artefact, WorkingPoint
from service.model.scorer import Scorer
from training.errors import EventsError
from training.evaluation.evaluation import Evaluation, evaluate, sample_name
from training.evaluation.metrics import Measured
from training.evaluation.sculpting import (
    DIJET_MASS_EDGES_GEV,
    Efficiency,
    Sculpting,
    common_edges,
    efficiency_by_bin,
    sculpting,
)
from training.events.events import SIGNAL, digest, read_events
from training.events.kinematics import quantities
from training.files import sha256_of

Floats = NDArray[np.float64]

# Masses that an efficiency is shown against.
MASSES = ("mjj", "m_heavier", "m_lighter")
MASS_BINS = 25

# Where fewer events are expected to pass, their number is too far from Gaussian for a pull.
LEAST_EXPECTED = 10
LARGEST_PULL = 2.0


@dataclass(frozen=True, eq=False)
class Scored:
    """The scored events of one class."""

    sha256: str  # of the features, see `digest`
    scores: Floats  # (n,)
    quantities: dict[str, Floats]  # those of AXIS_LABELS, each (n,)

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Sample:
    """A file of scored events: background, signal or both."""

    name: str
    sha256: str  # of the file
    background: Scored | None
    signal: Scored | None


@dataclass(frozen=True)
class SampleFacts:
    """What a file held, and what its signal is judged against."""

    sample: str
    sha256: str  # of the file
    background_events: int
    signal_events: int
    events_without_second_jet: int
    judged_against: str | None  # name of the sample with the background; None without signal
    trained_on: bool  # its background is what the model was trained on


@dataclass(frozen=True)
class Check:
    """Whether the background efficiency of a working point, measured on a sample, is the nominal one."""

    sample: str
    point: str
    events: int
    passed: int
    expected: float  # events to pass at the nominal efficiency
    ratio: Measured  # measured over nominal efficiency; the error is what the sizes of both samples allow
    pull: float | None  # (ratio - 1) / its error; None with too few events, or where the sample gave the threshold
    verdict: str


@dataclass(frozen=True)
class Report:
    """All numbers of a report, as report.json holds them."""

    model: str
    sha256: str
    samples: list[SampleFacts]
    evaluations: list[Evaluation]
    dijet_mass_edges_gev: list[float]
    sculpting: dict[str, Sculpting]  # by working point
    mass_edges_gev: dict[str, list[float]]  # by mass
    efficiencies: dict[str, dict[str, dict[str, Efficiency]]]  # by mass, sample and working point
    checks: list[Check]


def load_samples(
    scorer: Scorer,
    paths: Sequence[Path],
    key: str | None = None,
    label: str | None = None,
    labels: Sequence[Path | None] | None = None,
) -> list[Sample]:
    """Read and score files; the first has the background that signal alone is judged against.

    `labels` has a text file of labels for each file, or None. Without labels, all is background. Raises EventsError
    when a file cannot be read, when the first has not both classes, and for a class of one event, which has no spread.
    """
    samples: list[Sample] = []
    for path, label_file in zip(tqdm(paths, unit=" files"), labels or [None] * len(paths), strict=True):
        events = read_events(path, key, label, label_file)
        scores = scorer.score(events.features).astype(float)
        is_signal = np.zeros(len(events), bool) if events.labels is None else events.labels == SIGNAL
        classes = {}
        for name, mask in (("background", ~is_signal), ("signal", is_signal)):
            part = events[mask]
            if len(part) == 1:
                raise EventsError(f"{path} has 1 {name} event, expected none or at least 2: add events, or drop it")
            scored = Scored(digest(part.features), scores[mask], quantities(part.features)) if len(part) else None
            classes[name] = scored
        if not samples and None in classes.values():
            raise EventsError(
                f"{path} holds {'signal' if classes['signal'] else 'background'} alone, expected background (label 0) "
                "and signal (label 1) in the first file, whose background the others are judged against: name a file "
                "with both first"
            )
        samples.append(Sample(sample_name(path), sha256_of(path), **classes))
    return samples


def compile_report(artefact: Artefact, samples: Sequence[Sample]) -> Report:
    """Return the numbers of an artefact on the samples that it scored; the first has both background and signal."""
    points = artefact.metadata.working_points
    backgrounds, signals = by_class(samples)
    first, reference = next(iter(backgrounds.items()))
    shown = {f"{first} background": reference, **signals}
    edges = {mass: common_edges([scored.quantities[mass] for scored in shown.values()], MASS_BINS) for mass in MASSES}
    return Report(
        model=artefact.identity,
        sha256=artefact.sha256,
        samples=[_facts(artefact, sample, first) for sample in samples],
        evaluations=[
            evaluate(artefact, one.name, one.sha256, judge.sha256, judge.scores, one.signal.scores)
            for one in samples
            if one.signal
            for judge in (one.background or reference,)
        ],
        dijet_mass_edges_gev=DIJET_MASS_EDGES_GEV.tolist(),
        sculpting={
            point.name: sculpting(reference.quantities["mjj"], reference.scores > point.threshold) for point in points
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
            for mass in MASSES
        },
        checks=[check(name, scored, point) for name, scored in backgrounds.items() for point in points],
    )


def check(sample: str, background: Scored, point: WorkingPoint) -> Check:
    """Compare the measured background efficiency of a working point with the nominal one.

    At the nominal efficiency, the fraction that passes has the binomial variance of this sample plus that of the
    calibration sample.
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
        verdict = "agrees" if abs(pull) < LARGEST_PULL else "does not agree"
    return Check(sample, point.name, events, passed, expected, ratio, pull, verdict)


def by_class(samples: Sequence[Sample]) -> tuple[dict[str, Scored], dict[str, Scored]]:
    """Return the backgrounds and the signals of samples, each by the name of its sample."""
    return (
        {sample.name: sample.background for sample in samples if sample.background},
        {sample.name: sample.signal for sample in samples if sample.signal},
    )


def _facts(artefact: Artefact, sample: Sample, first: str) -> SampleFacts:
    background, signal = sample.background, sample.signal
    parts = [part for part in (background, signal) if part]
    return SampleFacts(
        sample=sample.name,
        sha256=sample.sha256,
        background_events=len(background) if background else 0,
        signal_events=len(signal) if signal else 0,
        events_without_second_jet=sum(int(np.isnan(part.quantities["ptj2"]).sum()) for part in parts),
        judged_against=(sample.name if background else first) if signal else None,
        trained_on=background is not None and background.sha256 == artefact.metadata.data_sha256,
    )

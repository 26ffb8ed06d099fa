"""An artefact on many samples as one page of tables and figures that needs no network; knows no torch."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from service.model.artefact import Artefact, WorkingPoint
from service.model.scorer import Scorer
from training.errors import EventsError
from training.evaluation.evaluation import Evaluation, evaluate
from training.evaluation.metrics import Measured, roc
from training.evaluation.page import render
from training.evaluation.report_plots import (
    common_edges,
    plot_calibration,
    plot_efficiencies,
    plot_features,
    plot_improvement,
    plot_rejection,
    plot_scores,
    plot_sculpting,
)
from training.evaluation.sculpting import DIJET_MASS_EDGES_GEV, Efficiency, Sculpting, efficiency_by_bin, sculpting
from training.events.events import SIGNAL, digest, read_events
from training.events.kinematics import AXIS_LABELS, OF_EVENTS, OF_JETS, quantities
from training.files import atomic_write, sha256_of

Floats = NDArray[np.float64]

PAGE = "report.html"
NUMBERS = "report.json"

# Masses that an efficiency is shown against.
MASSES = ("mjj", "mj1", "mj2", "m_heavier", "m_lighter")
MASS_BINS = 25

# With fewer background events left, a curve shows noise; `max_significance_improvement` has the same limit for its own.
LEAST_LEFT_REJECTION = 10
LEAST_LEFT_IMPROVEMENT = 100

# Where fewer events are expected to pass, their number is too far from Gaussian for a pull.
LEAST_EXPECTED = 10
LARGEST_PULL = 2.0


@dataclass(frozen=True, eq=False)
class Scored:
    """The scored events of one class: all that a report needs of them."""

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
    """Whether a working point keeps its promise on a sample of background."""

    sample: str
    point: str
    events: int
    passed: int
    expected: float  # events to pass, if the promise holds
    ratio: Measured  # measured over promised efficiency; the error is what both samples' sizes allow if it holds
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


def load_sample(scorer: Scorer, path: Path, key: str | None = None) -> Sample:
    """Read a file, score it and return its background and its signal; without labels all is background.

    Raises EventsError when the file cannot be read, and for a class of one event, which has no spread.
    """
    events = read_events(path, key)
    scores = scorer.score(events.features).astype(float)
    is_signal = np.zeros(len(events), bool) if events.labels is None else events.labels == SIGNAL
    classes = {}
    for name, mask in (("background", ~is_signal), ("signal", is_signal)):
        part = events[mask]
        if len(part) == 1:
            raise EventsError(f"{path} has 1 {name} event, expected none or at least 2: give more of them, or drop it")
        classes[name] = Scored(digest(part.features), scores[mask], quantities(part.features)) if len(part) else None
    return Sample(path.stem, sha256_of(path), **classes)


def load_samples(scorer: Scorer, paths: Sequence[Path], key: str | None = None) -> list[Sample]:
    """Return the scored samples of files, of which the first has the background that signal alone is judged against.

    Raises EventsError as `load_sample` does, and when the first file has not both classes.
    """
    samples = []
    for path in tqdm(paths, unit=" files"):
        samples.append(load_sample(scorer, path, key))
        if samples[0].background is None or samples[0].signal is None:
            only = "signal" if samples[0].background is None else "background"
            raise EventsError(
                f"{path} holds {only} alone, expected background (label 0) and signal (label 1) in the first file, "
                "whose background the others are judged against: name a file with both first"
            )
    return samples


def compile_report(artefact: Artefact, samples: Sequence[Sample]) -> Report:
    """Return what the samples say of the artefact that scored them; the first has both background and signal."""
    points = artefact.metadata.working_points
    backgrounds, signals = by_class(samples)
    reference = backgrounds[samples[0].name]
    shown = {background_name(samples[0].name): reference, **signals}
    mass_edges = {
        mass: common_edges([scored.quantities[mass] for scored in shown.values()], MASS_BINS) for mass in MASSES
    }
    return Report(
        model=artefact.identity,
        sha256=artefact.sha256,
        samples=[_facts(artefact, sample, samples[0].name) for sample in samples],
        evaluations=[
            evaluate(artefact, one.name, one.sha256, (one.background or reference).scores, one.signal.scores)
            for one in samples
            if one.signal
        ],
        dijet_mass_edges_gev=DIJET_MASS_EDGES_GEV.tolist(),
        sculpting={
            point.name: sculpting(reference.quantities["mjj"], reference.scores > point.threshold) for point in points
        },
        mass_edges_gev={mass: edges.tolist() for mass, edges in mass_edges.items()},
        efficiencies={
            mass: {
                name: {
                    point.name: efficiency_by_bin(scored.quantities[mass], scored.scores > point.threshold, edges)
                    for point in points
                }
                for name, scored in shown.items()
            }
            for mass, edges in mass_edges.items()
        },
        checks=[check(name, scored, point) for name, scored in backgrounds.items() for point in points],
    )


def by_class(samples: Sequence[Sample]) -> tuple[dict[str, Scored], dict[str, Scored]]:
    """Return the backgrounds and the signals of samples, each by the name of its sample."""
    return (
        {sample.name: sample.background for sample in samples if sample.background},
        {sample.name: sample.signal for sample in samples if sample.signal},
    )


def background_name(sample: str) -> str:
    """Return what the background of a sample is called beside signals, which bear their sample's name."""
    return f"{sample} background"


def check(sample: str, background: Scored, point: WorkingPoint) -> Check:
    """Return whether a working point keeps its promise on a sample's background.

    If it does, the share that passes has the binomial variance of this sample plus that of the calibration sample.
    """
    promised, events = point.background_efficiency, len(background)
    passed, expected = int((background.scores > point.threshold).sum()), events * promised
    error = float(np.sqrt((1 - promised) / promised * (1 / events + 1 / point.calibration_events)))
    ratio, pull = Measured(passed / expected, error), None
    if background.sha256 == point.calibration_sha256:
        verdict = "no check: the threshold comes from these events"
    elif expected < LEAST_EXPECTED:
        verdict = "too few events to tell"
    else:
        pull = (ratio.value - 1) / error
        verdict = "agrees" if abs(pull) < LARGEST_PULL else "does not agree"
    return Check(sample, point.name, events, passed, expected, ratio, pull, verdict)


def draw_figures(artefact: Artefact, samples: Sequence[Sample], report: Report) -> dict[str, bytes]:
    """Return the report's figures as PNGs by file name: without working points, none of those that are about them."""
    points = {point.name: point for point in artefact.metadata.working_points}
    backgrounds, signals = by_class(samples)
    named = {background_name(name): scored for name, scored in backgrounds.items()}
    of_backgrounds, of_signals = ({name: one.quantities for name, one in some.items()} for some in (named, signals))
    made = {
        "rejection.png": plot_rejection(_curves(samples, LEAST_LEFT_REJECTION)),
        "improvement.png": plot_improvement(_curves(samples, LEAST_LEFT_IMPROVEMENT)),
        "scores.png": plot_scores(
            {name: one.scores for name, one in named.items()},
            {name: one.scores for name, one in signals.items()},
            {name: point.threshold for name, point in points.items()},
        ),
    }
    if points:
        promised = {name: point.background_efficiency for name, point in points.items()}
        for mass in MASSES:
            edges = np.array(report.mass_edges_gev[mass])
            made[f"efficiency_{mass}.png"] = plot_efficiencies(
                edges, report.efficiencies[mass], promised, AXIS_LABELS[mass]
            )
        made["sculpting.png"] = plot_sculpting(report.sculpting)
    for jet in (1, 2):
        labels = {f"{name}j{jet}": AXIS_LABELS[f"{name}j{jet}"] for name in OF_JETS}
        made[f"features_jet{jet}.png"] = plot_features(of_backgrounds, of_signals, labels)
    made["features_event.png"] = plot_features(of_backgrounds, of_signals, OF_EVENTS)
    ratios: dict[str, dict[str, tuple[float, float]]] = {}
    for one in report.checks:
        if one.pull is not None:
            ratios.setdefault(one.sample, {})[one.point] = (one.ratio.value, one.ratio.error)
    if ratios:
        made["calibration.png"] = plot_calibration(ratios, list(points))
    return made


def write_report(folder: Path, artefact: Artefact, report: Report, figures: Mapping[str, bytes]) -> None:
    """Write the page, its numbers and its figures into a folder: all of them are complete before the first appears."""
    numbers = json.dumps(asdict(report), indent=1, allow_nan=False) + "\n"
    contents = {PAGE: render(artefact, report, figures).encode(errors="replace"), NUMBERS: numbers.encode(), **figures}
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name, content in contents.items():  # the page is the last to be renamed
            stack.enter_context(atomic_write(folder / name)).write_bytes(content)


def _facts(artefact: Artefact, sample: Sample, first: str) -> SampleFacts:
    background, signal = sample.background, sample.signal
    return SampleFacts(
        sample=sample.name,
        sha256=sample.sha256,
        background_events=len(background) if background else 0,
        signal_events=len(signal) if signal else 0,
        events_without_second_jet=sum(
            int(np.isnan(part.quantities["ptj2"]).sum()) for part in (background, signal) if part
        ),
        judged_against=(sample.name if background else first) if signal else None,
        trained_on=background is not None and background.sha256 == artefact.metadata.data_sha256,
    )


def _curves(samples: Sequence[Sample], least_left: int) -> dict[str, tuple[Floats, Floats]]:
    """Return each signal's (signal, background efficiency), each (points,), where enough background events are left."""
    curves = {}
    for sample in samples:
        background = sample.background or samples[0].background
        if sample.signal and background:
            signal_efficiency, background_efficiency = roc(background.scores, sample.signal.scores)
            enough = background_efficiency * len(background) >= least_left
            curves[sample.name] = (signal_efficiency[enough], background_efficiency[enough])
    return curves

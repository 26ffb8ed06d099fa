"""An artefact on many samples: all numbers, figures, and one HTML page with everything inside."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import floor, log10
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from tqdm import tqdm

from service.model.artefact import Artefact, WorkingPoint
from service.model.scorer import Scorer
from training.errors import EventsError
from training.evaluation import figures
from training.evaluation.evaluation import ALL_EQUAL, TOO_LITTLE, Evaluation, evaluate, sample_name
from training.evaluation.metrics import Measured
from training.evaluation.sculpting import (
    DIJET_MASS_EDGES_GEV,
    RANDOM_SELECTIONS,
    Efficiency,
    Sculpting,
    common_edges,
    efficiency_by_bin,
    sculpting,
)
from training.events.events import SIGNAL, digest, read_events
from training.events.kinematics import AXIS_LABELS, OF_EVENTS, OF_JETS, quantities
from training.files import require_output, sha256_of, write_files

Floats = NDArray[np.float64]

PAGE = "report.html"
NUMBERS = "report.json"
UNEXPOSED = "background only: trained without signal or labels"

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
    scorer: Scorer, paths: Sequence[Path], key: str | None = None, label: str | None = None
) -> list[Sample]:
    """Read and score files; the first has the background that signal alone is judged against.

    Without labels, all is background. Raises EventsError when a file cannot be read, when the first has not both
    classes, and for a class of one event, which has no spread.
    """
    samples: list[Sample] = []
    for path in tqdm(paths, unit=" files"):
        events = read_events(path, key, label)
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
    backgrounds, signals = _by_class(samples)
    first, reference = next(iter(backgrounds.items()))
    shown = {f"{first} background": reference, **signals}
    edges = {mass: common_edges([scored.quantities[mass] for scored in shown.values()], MASS_BINS) for mass in MASSES}
    return Report(
        model=artefact.identity,
        sha256=artefact.sha256,
        samples=[_facts(artefact, sample, first) for sample in samples],
        evaluations=[
            evaluate(artefact, one.name, one.sha256, (one.background or reference).scores, one.signal.scores)
            for one in samples
            if one.signal
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


def write_report(folder: Path, artefact: Artefact, report: Report, samples: Sequence[Sample]) -> None:
    """Write the page, its numbers and its figures into a folder: all of them or none.

    A figure that cannot be drawn is left out, with a warning, and never costs the numbers. Raises OSError.
    """
    plots = _plots(artefact, report, samples)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (PAGE, NUMBERS, *plots):  # before the long work of drawing
        require_output(folder / name)
    drawn = figures.draw(plots)
    page = render(artefact, report, {name: png for name, png in drawn.items() if png is not None})
    numbers = json.dumps(asdict(report), indent=1, allow_nan=False) + "\n"
    write_files(folder, {PAGE: page.encode(), NUMBERS: numbers.encode(), **drawn})


def render(artefact: Artefact, report: Report, pngs: Mapping[str, bytes]) -> str:
    """Return the page of a report with its figures, PNGs by file name, inside: no script, and every text escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rounded"] = rounded
    return environment.get_template("report.html").render(
        report=report,
        metadata=artefact.metadata,
        facts=facts(artefact),
        figures={name: f"data:image/png;base64,{b64encode(png).decode()}" for name, png in pngs.items()},
        too_little=TOO_LITTLE,
        all_equal=ALL_EQUAL,
        random_selections=RANDOM_SELECTIONS,
    )


def rounded(measured: Measured) -> str:
    """Return a value and its error, both to the decimals of the error's second significant digit."""
    decimals = max(0, 1 - floor(log10(measured.error))) if measured.error else 4
    return f"{measured.value:,.{decimals}f} ± {measured.error:,.{decimals}f}"


def facts(artefact: Artefact) -> dict[str, str]:
    """Return the facts about a model, from its metadata, as short texts by name."""
    metadata = artefact.metadata
    rest = {name: value for name, value in metadata.training.items() if name not in ("configuration", "exposure")}
    exposure = metadata.training.get("exposure")
    return {
        "Model": f"{metadata.model_name}, version {metadata.model_version}, made by code {metadata.code_version}",
        "SHA-256": artefact.sha256,
        "Class": f"exposed to signal in training: {in_words(exposure)}" if exposure else UNEXPOSED,
        "Training": in_words(rest),
        "Configuration": in_words(metadata.training.get("configuration")),
        "Sees": ", ".join(metadata.scaler.names),
    }


def in_words(values: Mapping[str, Any] | None) -> str:
    """Return values of a model's metadata as one line."""
    if values is None:
        return "not stated"
    shown = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())


def _plots(artefact: Artefact, report: Report, samples: Sequence[Sample]) -> dict[str, Callable[[], bytes]]:
    """Return how to draw each figure, by file name: without working points, none of those that are about them."""
    points = {point.name: point for point in artefact.metadata.working_points}
    backgrounds, signals = _by_class(samples)
    reference = next(iter(backgrounds.values()))
    named = {f"{name} background": one for name, one in backgrounds.items()}
    pairs = {name: (backgrounds.get(name, reference).scores, one.scores) for name, one in signals.items()}

    def features(labels: Mapping[str, str]) -> Callable[[], bytes]:
        of_backgrounds, of_signals = ({name: one.quantities for name, one in some.items()} for some in (named, signals))
        return lambda: figures.plot_features(of_backgrounds, of_signals, labels)

    def efficiency(mass: str) -> Callable[[], bytes]:
        edges, nominal = np.array(report.mass_edges_gev[mass]), {n: p.background_efficiency for n, p in points.items()}
        return lambda: figures.plot_efficiencies(edges, report.efficiencies[mass], nominal, AXIS_LABELS[mass])

    of_points = {
        **{f"efficiency_{mass}.png": efficiency(mass) for mass in MASSES},
        "sculpting.png": lambda: figures.plot_sculpting(report.sculpting),
    }
    return {
        "rejection.png": lambda: figures.plot_roc(pairs, "rejection"),
        "improvement.png": lambda: figures.plot_roc(pairs, "improvement"),
        "scores.png": lambda: figures.plot_scores(
            {name: one.scores for name, one in named.items()},
            {name: one.scores for name, one in signals.items()},
            {name: point.threshold for name, point in points.items()},
        ),
        **(of_points if points else {}),
        **{
            f"features_jet{jet}.png": features({f"{name}j{jet}": AXIS_LABELS[f"{name}j{jet}"] for name in OF_JETS})
            for jet in (1, 2)
        },
        "features_event.png": features(OF_EVENTS),
    }


def _by_class(samples: Sequence[Sample]) -> tuple[dict[str, Scored], dict[str, Scored]]:
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

"""The files of a report: one HTML page with all tables and figures, the numbers, and the figures."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.model.artefact import Artefact
from training.evaluation import figures
from training.evaluation.evaluation import ALL_EQUAL, TOO_LITTLE, TRAINED_ON, counted
from training.evaluation.facts import caution, facts, selects
from training.evaluation.headline import headlines
from training.evaluation.metrics import ENOUGH_BACKGROUND
from training.evaluation.model import features_of
from training.evaluation.report import DISAGREES, Report
from training.evaluation.samples import Sample, by_class, judged
from training.evaluation.sculpting import RANDOM_SELECTIONS
from training.evaluation.style import printable
from training.events.kinematics import AXIS_LABELS, OF_EVENTS, OF_JETS
from training.files import write_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "report.html"
NUMBERS = "report.json"


def write_report(
    folder: Path, artefact: Artefact, report: Report, samples: Sequence[Sample], pdf: bool = False
) -> None:
    """Write the page, its numbers and its figures into a folder: all of them or none.

    With `pdf` the figures are also written as PDF. A figure that cannot be drawn is left out, with a warning. Raises
    OSError.
    """
    drawn = figures.draw(figures.with_pdfs(_plots(artefact, report, samples), pdf))
    page = render(artefact, report, pngs(drawn))
    numbers = json.dumps(asdict(report), indent=1, allow_nan=False) + "\n"
    write_files(folder, {PAGE: page.encode(), NUMBERS: numbers.encode(), **drawn})


def pngs(drawn: Mapping[str, bytes | None]) -> dict[str, bytes]:
    """Return the PNG figures for a page, by file name, without those that could not be drawn."""
    return {name: figure for name, figure in drawn.items() if figure is not None and name.endswith(".png")}


def render(artefact: Artefact, report: Report, shown: Mapping[str, bytes]) -> str:
    """Return the page of a report with embedded figures (PNGs by file name), no scripts and all text escaped."""
    return filled(
        Path(__file__).with_name("report.html"),
        shown,
        report=report,
        headlines=headlines(artefact, report),
        disagrees=DISAGREES,
        metadata=artefact.metadata,
        of_jets=features_of(artefact).of_jets,
        facts=facts(artefact),
        caution=caution(artefact),
        counted=counted,
        optimistic=[one.sample for one in report.evaluations if one.trained_on],
        trained_on=TRAINED_ON,
        too_little=TOO_LITTLE,
        enough_background=ENOUGH_BACKGROUND,
        all_equal=ALL_EQUAL,
        random_selections=RANDOM_SELECTIONS,
        selects=selects,
    )


def filled(template: Path, shown: Mapping[str, bytes], **values: object) -> str:
    """Return a filled template with values and embedded figures; it may include the templates of this folder."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent], encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    inside = {name: f"data:image/png;base64,{b64encode(png).decode()}" for name, png in shown.items()}
    return environment.get_template(template.name).render(figures=inside, **values)


def _plots(artefact: Artefact, report: Report, samples: Sequence[Sample]) -> "dict[str, Callable[[], Figure]]":
    """Return a function to draw each figure, by file name; figures of working points only if there are any."""
    points = {point.name: point for point in artefact.metadata.working_points}
    backgrounds, signals = by_class(samples)
    named = {f"{name} background": one for name, one in backgrounds.items()}
    pairs = {one.name: (background.scores, signal.scores) for one, background, signal in judged(samples)}

    def features(labels: Mapping[str, str]) -> "Callable[[], Figure]":
        of_backgrounds, of_signals = ({name: one.quantities for name, one in some.items()} for some in (named, signals))
        return lambda: figures.plot_features(of_backgrounds, of_signals, labels)

    def efficiency(mass: str) -> "Callable[[], Figure]":
        edges, nominal = np.array(report.mass_edges_gev[mass]), {n: p.background_efficiency for n, p in points.items()}
        return lambda: figures.plot_efficiencies(edges, report.efficiencies[mass], nominal, AXIS_LABELS[mass])

    of_points = {
        **{f"efficiency_{mass}.png": efficiency(mass) for mass in report.mass_edges_gev},
        "sculpting.png": lambda: figures.plot_sculpting(report.sculpting),
    }
    explanations = report.explanations
    feature_set = features_of(artefact)
    of_jets = {
        f"features_jet{jet}.png": features({f"{name}j{jet}": AXIS_LABELS[f"{name}j{jet}"] for name in OF_JETS})
        for jet in (1, 2)
    }
    units = {
        name: f" [{unit}]" if unit else "" for name, unit in zip(feature_set.names, feature_set.units, strict=True)
    }
    labels = {name: printable(name) + printable(unit) for name, unit in units.items()}
    return {
        "rejection.png": lambda: figures.plot_roc(pairs, "rejection"),
        "improvement.png": lambda: figures.plot_roc(pairs, "improvement"),
        "scores.png": lambda: figures.plot_scores(
            {name: one.scores for name, one in named.items()},
            {name: one.scores for name, one in signals.items()},
            {name: point.threshold for name, point in points.items()},
        ),
        **({"contributions.png": lambda: figures.plot_contributions(explanations)} if explanations else {}),
        **(of_points if report.sculpting else {}),
        **(of_jets if feature_set.of_jets else {}),
        "features_event.png": features(OF_EVENTS if feature_set.of_jets else labels),
    }

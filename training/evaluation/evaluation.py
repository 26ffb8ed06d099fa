"""An artefact on labelled events: AUC, efficiencies, plots and the model card; knows no torch."""

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.model.artefact import Artefact
from training.errors import EventsError
from training.evaluation.card import TOO_LITTLE, model_card
from training.evaluation.metrics import Measured, auc, efficiency, max_significance_improvement, rejection, roc
from training.evaluation.plots import plot_roc, plot_scores
from training.events.events import Events, read_events
from training.files import atomic_write

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """What an artefact reaches on one labelled sample."""

    sample: str
    sha256: str  # of the file
    background_events: int
    signal_events: int
    auc: Measured
    rejection: dict[str, Measured]  # signal efficiency -> 1 / background efficiency
    max_significance_improvement: Measured | None  # None with too little background
    background_efficiency: dict[str, Measured]  # by working point
    signal_efficiency: dict[str, Measured]  # by working point


def evaluate(artefact: Artefact, sample: str, sha256: str, background: Floats, signal: Floats) -> Evaluation:
    """Return what the scores of background (n,) and signal (m,) say of an artefact."""
    thresholds = {point.name: point.threshold for point in artefact.metadata.working_points}
    return Evaluation(
        sample=sample,
        sha256=sha256,
        background_events=len(background),
        signal_events=len(signal),
        auc=auc(background, signal),
        rejection={str(share): rejection(background, signal, share) for share in (0.5, 0.2)},
        max_significance_improvement=max_significance_improvement(background, signal),
        background_efficiency={name: efficiency(background, cut) for name, cut in thresholds.items()},
        signal_efficiency={name: efficiency(signal, cut) for name, cut in thresholds.items()},
    )


def load_labelled(path: Path, key: str | None = None) -> Events:
    """Return the events of a file that has both background and signal. Raises EventsError for any other."""
    events = read_events(path, key)
    if events.labels is None:
        raise EventsError(f"{path} has no column 'label', expected 0 for background and 1 for signal: see `score`")
    for name, part in (("background (label 0)", events.background), ("signal (label 1)", events.signal)):
        if len(part) < 2:
            raise EventsError(f"{path} has {len(part)} {name} events, expected at least 2 to compare the two")
    return events


def write_results(
    artefact: Artefact, evaluations: list[Evaluation], scores: dict[str, tuple[Floats, Floats]], folder: Path
) -> None:
    """Write metrics.json, roc.png, scores.png and model_card.md: all of them are complete before the first appears."""
    metrics: dict[str, Any] = {"model": artefact.identity, "samples": [asdict(one) for one in evaluations]}
    curves = {f"{one.sample}, AUC {one.auc}": roc(*scores[one.sample]) for one in evaluations}
    thresholds = {point.name: point.threshold for point in artefact.metadata.working_points}
    with ExitStack() as stack:
        card, numbers, roc_png, scores_png = (
            stack.enter_context(atomic_write(folder / name))
            for name in ("model_card.md", "metrics.json", "roc.png", "scores.png")
        )
        plot_roc(curves, roc_png)
        plot_scores(scores, thresholds, scores_png)
        numbers.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
        card.write_text(model_card(artefact, evaluations))


def summary(evaluation: Evaluation) -> str:
    """Return an evaluation as a few lines for people."""
    lines = [
        f"{evaluation.sample}: {evaluation.background_events:,} background, {evaluation.signal_events:,} signal",
        f"  AUC {evaluation.auc}",
        *(f"  1/eps_B at eps_S = {share}: {value}" for share, value in evaluation.rejection.items()),
        f"  largest eps_S/sqrt(eps_B): {evaluation.max_significance_improvement or TOO_LITTLE}",
    ]
    for name, background in evaluation.background_efficiency.items():
        lines.append(f"  {name}: eps_B {background}, eps_S {evaluation.signal_efficiency[name]}")
    return "\n".join(lines)

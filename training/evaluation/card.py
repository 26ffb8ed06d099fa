"""The model card: purpose, training, working points, performance and limits of a detector, as Markdown.

After Mitchell et al., "Model Cards for Model Reporting", arXiv:1810.03993.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from service.model.artefact import Artefact
from training.evaluation.evaluation import (
    ALL_EQUAL,
    IMPROVEMENT,
    TOO_LITTLE,
    TRAINED_ON,
    Evaluation,
    Separation,
    counted,
)
from training.evaluation.facts import caution, facts, selects
from training.evaluation.figures import draw, plot_roc, plot_scores, with_pdfs
from training.evaluation.model import features_of
from training.evaluation.samples import Sample, judged
from training.events.features import FeatureSet
from training.files import write_files

PURPOSE = "Ranks dijet events by how unlike background they are, for selections at a fixed background efficiency."

LIMITS = """\
- Working points hold for background like that of their calibration; calibrate them anew on any other.
- Events outside the selection of the training are scored, but the model never saw such events.
- A score does not say why an event is unusual: detector faults and rare background score high as well."""


def write_card(
    folder: Path, artefact: Artefact, evaluations: Sequence[Evaluation], samples: Sequence[Sample], pdf: bool = False
) -> None:
    """Write model_card.md, metrics.json and the figures of the scores of each sample: all of them or none.

    With `pdf` the figures are there as PDF too. One that cannot be drawn is left out, with a warning, and never costs
    the numbers. Raises OSError.
    """
    metrics = {"model": artefact.identity, "samples": [asdict(one) for one in evaluations]}
    scores = {one.name: (background.scores, signal.scores) for one, background, signal in judged(samples)}
    backgrounds = {f"{name} background": background for name, (background, _) in scores.items()}
    signals = {name: signal for name, (_, signal) in scores.items()}
    thresholds = {point.name: point.threshold for point in artefact.metadata.working_points}
    plots = {
        "roc.png": lambda: plot_roc(scores, "rejection", "improvement"),
        "scores.png": lambda: plot_scores(backgrounds, signals, thresholds),
    }
    contents = {
        "model_card.md": model_card(artefact, evaluations).encode(),
        "metrics.json": (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode(),
    }
    write_files(folder, contents | draw(with_pdfs(plots, pdf)))


def model_card(artefact: Artefact, evaluations: Sequence[Evaluation]) -> str:
    """Return the card of an artefact and its evaluations as Markdown."""
    metadata = artefact.metadata
    points = "\n".join(
        f"| {point.name} | {selects(point)} | {point.threshold:.6g} ± {point.threshold_uncertainty:.2g} "
        f"| {point.calibration_events:,} |"
        for point in metadata.working_points
    )
    about = "\n".join(f"- {name}: {text}." for name, text in facts(artefact).items())
    before = f"\n{text}\n" if (text := caution(artefact)) else ""
    return f"""\
# Model card: {artefact.identity}

Written by `python -m training evaluate` from the artefact and the samples below; do not edit.

## Intended use
{PURPOSE}
{before}
## Model
{about}
- Input: {len(metadata.feature_names)} raw features per event, {_features(features_of(artefact))}.
- SHA-256 of the features of the training: `{metadata.data_sha256}`.

## Working points
A decision is score > threshold.

| name | background efficiency | threshold | calibration events |
|---|---|---|---|
{points}

## Figures
{"".join(_section(evaluation) for evaluation in evaluations)}
![Background rejection and significance improvement against signal efficiency](roc.png)

![Anomaly scores of each sample, with the working points](scores.png)

## Limits
{LIMITS}
"""


def _features(features: FeatureSet) -> str:
    """Return names and units of features as text."""
    if len(set(features.units)) == 1:
        return f"{', '.join(features.names)}, all in {features.units[0]}"
    named = zip(features.names, features.units, strict=True)
    return ", ".join(f"{name} in {unit}" if unit else name for name, unit in named)


def _section(evaluation: Evaluation) -> str:
    background, signal = evaluation.background_events, evaluation.signal_events
    prior = evaluation.prior_alone
    rows = [
        *_rows(evaluation, f"{evaluation.auc}, {ALL_EQUAL}" if evaluation.all_equal else None),
        *((f"eps_B at {name}", counted(one, background)) for name, one in evaluation.background_efficiency.items()),
        *((f"eps_S at {name}", counted(one, signal)) for name, one in evaluation.signal_efficiency.items()),
    ]
    alone = dict(_rows(prior)) if prior else {}
    head = "| figure | value | the prior alone, nothing learned |" if prior else "| figure | value |"
    table = [head, "|---" * (head.count("|") - 1) + "|"]
    table += [f"| {name} | {value} |" + (f" {alone.get(name, '-')} |" if prior else "") for name, value in rows]
    lines = "\n".join(table)
    optimistic = f"\n**These figures are optimistic: {TRAINED_ON}.**\n" if evaluation.trained_on else ""
    return f"""\
### {evaluation.sample}
{background:,} background and {signal:,} signal events; SHA-256 of the file:
`{evaluation.sha256}`.
{optimistic}
{lines}

"""


def _rows(found: Evaluation | Separation, auc: str | None = None) -> list[tuple[str, str]]:
    return [
        ("AUC", auc or str(found.auc)),
        *((f"1/eps_B at eps_S = {kept}", str(value)) for kept, value in found.rejection.items()),
        (IMPROVEMENT, str(found.max_significance_improvement or TOO_LITTLE)),
    ]

"""The model card: what a detector is, where it came from, what it reaches and where it ends; knows no file.

After Mitchell et al., "Model Cards for Model Reporting", arXiv:1810.03993.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.artefact import Artefact

if TYPE_CHECKING:
    from training.evaluate import Evaluation

TOO_LITTLE = "not measured: fewer than 100 background events"

INTENDED_USE = """\
Ranks dijet events with a leading jet of pT > 1.2 TeV by how unlike QCD they are, for selections at a fixed background
rate. It was trained on background alone: no signal and no label took part in the training. Simulated signal served to
choose among a few configurations (ARCHITECTURE.md, "Which preset is shipped")."""

LIMITS = """\
- The background is simulated: Pythia 8 with a parametric copy of a Delphes CMS detector, without pile-up and without
  multiparton interactions. Thresholds hold for such events; calibrate them anew on any other background.
- Events outside the selection (leading jet below 1.2 TeV or beyond |eta| 2.5) are scored, but were never seen.
- A reconstruction error finds what is hard to restore. Signal jets that are simpler than QCD jets can score low.
- A score says nothing of why an event is unusual: detector faults and rare background score high as well."""


def model_card(artefact: Artefact, evaluations: list[Evaluation]) -> str:
    """Return the card of an artefact and its evaluations as Markdown."""
    metadata = artefact.metadata
    training = metadata.training
    configuration = ", ".join(f"{name} {value}" for name, value in training["configuration"].items())
    points = "\n".join(
        f"| {point.name} | {point.background_efficiency:g} | {point.threshold:.6g} ± {point.threshold_uncertainty:.2g} "
        f"| {point.calibration_events:,} |"
        for point in metadata.working_points
    )
    return f"""\
# Model card: {artefact.identity}

Written by `python -m training evaluate` from the artefact and the samples below; do not edit.

## Intended use
{INTENDED_USE}

## Model
- Name {metadata.model_name}, version {metadata.model_version}, code {metadata.code_version}.
- SHA-256 of the file: `{artefact.sha256}`.
- Input: {len(metadata.feature_names)} raw features per event, {", ".join(metadata.feature_names)}, all in GeV.
- Sees: {", ".join(metadata.scaler.names)}, standardised inside the graph.
- Configuration: {configuration}.

## Data and training
- {training["training_events"]:,} background events to train on, {training["held_out_events"]:,} held out.
- SHA-256 of their features: `{metadata.data_sha256}`.
- Best of {training["epochs"]} epochs: {training["best_epoch"]}, with the held-out loss {training["held_out_loss"]:.5f}.

## Working points
A decision is score > threshold.

| name | background efficiency | threshold | calibration events |
|---|---|---|---|
{points}

## Figures
{"".join(_section(evaluation) for evaluation in evaluations)}
![ROC and significance improvement](roc.png)

![Scores](scores.png)

## Limits
{LIMITS}
"""


def _section(evaluation: Evaluation) -> str:
    rows = "".join(
        f"| {name} | {value} |\n"
        for name, value in (
            ("AUC", evaluation.auc),
            *((f"1/eps_B at eps_S = {share}", value) for share, value in evaluation.rejection.items()),
            ("largest eps_S/sqrt(eps_B)", evaluation.max_significance_improvement or TOO_LITTLE),
            *((f"eps_B at {name}", value) for name, value in evaluation.background_efficiency.items()),
            *((f"eps_S at {name}", value) for name, value in evaluation.signal_efficiency.items()),
        )
    )
    return f"""\
### {evaluation.sample}
{evaluation.background_events:,} background and {evaluation.signal_events:,} signal events; SHA-256 of the file:
`{evaluation.sha256}`.

| figure | value |
|---|---|
{rows}
"""

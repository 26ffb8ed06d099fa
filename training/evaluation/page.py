"""A report as one HTML page that needs nothing else: figures inside, no script, every text escaped; knows no file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.model.artefact import Artefact
from training.evaluation.card import TOO_LITTLE
from training.evaluation.metrics import Measured
from training.evaluation.sculpting import RANDOM_SELECTIONS

if TYPE_CHECKING:
    from training.evaluation.report import Report

UNEXPOSED = "background only: trained without signal or labels"


def render(artefact: Artefact, report: Report, figures: Mapping[str, bytes]) -> str:
    """Return the page of a report, with its figures, PNGs by file name, inlined."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
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
        figures={name: f"data:image/png;base64,{b64encode(png).decode()}" for name, png in figures.items()},
        too_little=TOO_LITTLE,
        random_selections=RANDOM_SELECTIONS,
    )


def rounded(measured: Measured) -> str:
    """Return a value and its error, both to the decimals of the error's second significant digit."""
    decimals = max(0, 1 - floor(log10(measured.error))) if measured.error else 4
    return f"{measured.value:,.{decimals}f} ± {measured.error:,.{decimals}f}"


def facts(artefact: Artefact) -> dict[str, str]:
    """Return what there is to know of a model before its figures, as short texts by name."""
    metadata = artefact.metadata
    rest = {name: value for name, value in metadata.training.items() if name not in ("configuration", "exposure")}
    return {
        "Model": f"{metadata.model_name}, version {metadata.model_version}, made by code {metadata.code_version}",
        "SHA-256": artefact.sha256,
        "Class": exposure(metadata.training),
        "Training": in_words(rest),
        "Configuration": in_words(metadata.training.get("configuration")),
        "Sees": ", ".join(metadata.scaler.names),
    }


def exposure(training: Mapping[str, Any]) -> str:
    """Return what a model saw beside background, by its own metadata; it says nothing when it saw nothing."""
    exposed = training.get("exposure")
    return f"exposed to signal in training: {in_words(exposed)}" if exposed else UNEXPOSED


def in_words(value: object) -> str:
    """Return a value of a model's metadata as people write it: names with their values, lists with commas."""
    match value:
        case None:
            return "not stated"
        case dict():
            return ", ".join(f"{name.replace('_', ' ')} {in_words(one)}" for name, one in value.items())
        case list():
            return " and ".join(in_words(one) for one in value)
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.6g}"
    return str(value)

"""The model that events are scored with, and what its metadata say of it."""

from collections.abc import Mapping
from pathlib import Path

from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from training.errors import EventsError
from training.events.events import FEATURE_NAMES

UNEXPOSED = "background only: trained without signal or labels"


def open_scorer(path: str | Path) -> Scorer:
    """Return what scores events with the artefact at `path`.

    Raises ArtefactError when there is none that can be loaded, EventsError when it takes other features, or in another
    order, than an events file has.
    """
    scorer = Scorer(load_artefact(path))
    names = scorer.artefact.metadata.feature_names
    if tuple(names) != FEATURE_NAMES:
        raise EventsError(
            f"{scorer.artefact.identity} takes the features {', '.join(names)}, and an events file has "
            f"{', '.join(FEATURE_NAMES)}: use a model that was trained on them"
        )
    return scorer


def threshold(artefact: Artefact, working_point: str) -> tuple[str, float]:
    """Return a working point's name and threshold, as clients get it. Raises EventsError when there is none."""
    points = {point.name: point.sent_threshold for point in artefact.metadata.working_points}
    if working_point not in points:
        known = ", ".join(points) or "none"
        raise EventsError(f"{artefact.identity} has no working point '{working_point}', expected one of {known}")
    return working_point, points[working_point]


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


def in_words(values: object) -> str:
    """Return values of a model's metadata as one line: any JSON, for other programs write models too."""
    if not values:
        return "not stated"
    if not isinstance(values, Mapping):
        return str(values)
    shown = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())

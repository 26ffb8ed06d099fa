"""The model that events are scored with, and what its metadata say of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.model.artefact import Artefact, WorkingPoint, load_artefact
from service.model.scorer import Scorer
from training.errors import EventsError
from training.events.events import FEATURE_NAMES
from training.model_class import ModelClass

ABOUT_CLASS = {
    ModelClass.BACKGROUND_ONLY: "trained without signal or labels",
    ModelClass.STATED_PRIOR: "trained without signal or labels; the score prefers jets of small tau21 and tau32, "
    "as simplicity in the configuration says",
    ModelClass.EXPOSED: "signals took part in the training",
    ModelClass.TRAINED_ON_DATA: "the events that it searches took part in the training",
}

CAUTION = {
    ModelClass.STATED_PRIOR: """\
The score is a learned density of background and a prior put in by hand, which prefers jets of small tau21 and tau32.
The prior alone, with nothing learned, is the first thing to compare with; the figures do not belong in one table with
those of a detector without a prior.""",
    ModelClass.EXPOSED: """\
It learned other signals beside background, as a prior for what is unlike background: its figures do not belong in one
table with those of a detector that saw background alone.""",
    ModelClass.TRAINED_ON_DATA: """\
It learned the very data that it searches: its figures hold for the fraction of signal in them, and do not belong in one
table with those of a detector that saw background alone.""",
}
"""What a reader must know of a class before the figures."""


UNITS_HZ = {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6}


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
        known = f"expected one of {', '.join(points)}" if points else "and no other: make some with `calibrate`"
        raise EventsError(f"{artefact.identity} has no working point '{working_point}', {known}")
    return working_point, points[working_point]


def class_of(training: Mapping[str, Any]) -> ModelClass | None:
    """Return the class of a model from its metadata of the training, None where they do not tell.

    Models made before the class was among the metadata tell it by exposure and configuration.
    """
    if training.get("class") in tuple(ModelClass):
        return ModelClass(training["class"])
    if training.get("exposure"):
        return ModelClass.EXPOSED
    configuration = training.get("configuration")
    if not isinstance(configuration, Mapping):
        return None
    return ModelClass.STATED_PRIOR if configuration.get("simplicity") else ModelClass.BACKGROUND_ONLY


def caution(artefact: Artefact) -> str | None:
    """Return what a reader must know of the model's class before the figures, if anything."""
    found = class_of(artefact.metadata.training)
    return None if found is None else CAUTION.get(found)


def selects(point: WorkingPoint) -> str:
    """Return a working point's background efficiency, and the rate that it was asked for as, if it was."""
    if point.rate_hz is None or point.input_rate_hz is None:
        return f"{point.background_efficiency:g}"
    prescale = f" with prescale {point.prescale}" if point.prescale > 1 else ""
    return f"{point.background_efficiency:g}, {in_hertz(point.rate_hz)} of {in_hertz(point.input_rate_hz)}{prescale}"


def in_hertz(rate_hz: float) -> str:
    """Return a rate with the largest unit that it has one of, such as 1.5 kHz."""
    unit = max((unit for unit, size in UNITS_HZ.items() if rate_hz >= size), key=UNITS_HZ.__getitem__, default="Hz")
    return f"{rate_hz / UNITS_HZ[unit]:.6g} {unit}"


def facts(artefact: Artefact) -> dict[str, str]:
    """Return the facts about a model, from its metadata, as short texts by name."""
    metadata = artefact.metadata
    shown_elsewhere = ("class", "configuration", "exposure")
    rest = {name: value for name, value in metadata.training.items() if name not in shown_elsewhere}
    return {
        "Model": f"{metadata.model_name}, version {metadata.model_version}, made by code {metadata.code_version}",
        "SHA-256": artefact.sha256,
        "Class": _class_in_words(metadata.training),
        "Training": in_words(rest),
        "Configuration": in_words(metadata.training.get("configuration")),
        "Sees": ", ".join(metadata.scaler.names),
    }


def _class_in_words(training: Mapping[str, Any]) -> str:
    found = class_of(training)
    if found is None:
        return "not stated"
    exposure = training.get("exposure")
    return f"{found}: {in_words(exposure) if exposure else ABOUT_CLASS[found]}"


def in_words(values: object) -> str:
    """Return values of a model's metadata as one line: any JSON, for other programs write models too."""
    if not values:
        return "not stated"
    if not isinstance(values, Mapping):
        return str(values)
    shown = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())

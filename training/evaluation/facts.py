"""A model's metadata as text and JSON."""

from collections.abc import Mapping
from textwrap import fill, indent
from typing import Any

import msgspec

from service.model.artefact import Artefact, WorkingPoint
from training.architectures import used_options
from training.model_class import ModelClass

ABOUT_CLASS = {
    ModelClass.BACKGROUND_ONLY: "trained without signal or labels",
    ModelClass.STATED_PRIOR: "trained without signal or labels; the score prefers jets of few even prongs, "
    "as simplicity in the configuration says",
    ModelClass.EXPOSED: "signals took part in the training",
    ModelClass.TRAINED_ON_DATA: "the events that it searches took part in the training",
}

CAUTION = {
    ModelClass.STATED_PRIOR: """\
The score is a learned density of background and a prior put in by hand, which prefers jets of few prongs that
share the momentum evenly: of large tau1/m, small tau21 and small tau32. The prior alone, with nothing learned, is the
first thing to compare with; the figures do not belong in one table with those of a detector without a prior.""",
    ModelClass.EXPOSED: """\
It learned other signals beside background, as a prior for what is unlike background: its figures do not belong in one
table with those of a detector that saw background alone.""",
    ModelClass.TRAINED_ON_DATA: """\
It learned the very data that it searches: its figures hold for the fraction of signal in them, and do not belong in one
table with those of a detector that saw background alone.""",
}
"""Cautions by model class, shown before the figures."""

INDENT = 17  # width of the column of names
UNITS_HZ = {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6}


def class_of(training: Mapping[str, Any]) -> ModelClass | None:
    """Return the class of a model from its training metadata, or None if it is unknown.

    For older models, whose metadata have no class, it follows from exposure and configuration.
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
    """Return the caution for the model's class, if there is one."""
    found = class_of(artefact.metadata.training)
    return None if found is None else CAUTION.get(found)


def selects(point: WorkingPoint) -> str:
    """Return a working point's background efficiency and, if it was defined by a rate, the rate, as text."""
    if point.rate_hz is None or point.input_rate_hz is None:
        return f"{point.background_efficiency:g}"
    prescale = f" with prescale {point.prescale}" if point.prescale > 1 else ""
    return f"{point.background_efficiency:g}, {in_hertz(point.rate_hz)} of {in_hertz(point.input_rate_hz)}{prescale}"


def in_hertz(rate_hz: float) -> str:
    """Return a rate in the largest unit not above it, such as 1.5 kHz."""
    unit = max((unit for unit, size in UNITS_HZ.items() if rate_hz >= size), key=UNITS_HZ.__getitem__, default="Hz")
    return f"{rate_hz / UNITS_HZ[unit]:.6g} {unit}"


def facts(artefact: Artefact) -> dict[str, str]:
    """Return facts from a model's metadata as short texts by name; of the options only those that it uses."""
    metadata = artefact.metadata
    stated, shown_elsewhere = metadata.training.get("configuration"), ("class", "configuration", "exposure")
    rest = {name: value for name, value in metadata.training.items() if name not in shown_elsewhere}
    return {
        "Model": f"{metadata.model_name}, version {metadata.model_version}, made by code {metadata.code_version}",
        "SHA-256": artefact.sha256,
        "Class": _class_in_words(metadata.training),
        "Training": in_words(rest),
        "Configuration": in_words(used_options(stated) if isinstance(stated, Mapping) else stated),
        "Sees": ", ".join(metadata.scaler.names),
    }


def _class_in_words(training: Mapping[str, Any]) -> str:
    found = class_of(training)
    if found is None:
        return "not stated"
    exposure = training.get("exposure")
    return f"{found}: {in_words(exposure) if exposure else ABOUT_CLASS[found]}"


def in_words(values: object) -> str:
    """Return values of a model's metadata as one line; they can be any JSON, because other programs write models."""
    if not values:
        return "not stated"
    if not isinstance(values, Mapping):
        return str(values)
    shown = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())


def as_text(artefact: Artefact) -> str:
    """Return a model's metadata as lines for a terminal."""
    metadata, reference = artefact.metadata, artefact.metadata.reference
    shown = {
        **facts(artefact),
        "Features": ", ".join(map("{} [{}]".format, metadata.feature_names, metadata.feature_units)),
        "Data": f"SHA-256 of the features {metadata.data_sha256}",
        "Reference": f"histograms of {reference.events:,} background events" if reference else "none",
    }
    hanging = " " * INDENT
    lines = [artefact.identity]
    lines += [
        fill(text, 110, initial_indent=f"  {name:<{INDENT - 2}}", subsequent_indent=hanging)
        for name, text in shown.items()
    ]
    if metadata.working_points:
        lines += ["", _columns("Working point", "background efficiency", "threshold", "calibration events")]
    for point in metadata.working_points:
        threshold = f"{point.threshold:.6g} ± {point.threshold_uncertainty:.2g}"
        lines.append(_columns(point.name, selects(point), threshold, f"{point.calibration_events:,}"))
    if text := caution(artefact):
        lines += ["", indent(text, "  ")]
    return "\n".join(lines) + "\n"


def _columns(name: str, selected: str, threshold: str, events: str) -> str:
    return f"  {name:<{INDENT - 2}}{selected:<24}{threshold:<20}{events}"


def as_json(artefact: Artefact) -> str:
    """Return identity, digest and metadata of a model as JSON, without its golden pairs."""
    metadata = msgspec.structs.asdict(artefact.metadata)
    del metadata["golden"]
    content = {"identity": artefact.identity, "sha256": artefact.sha256, **metadata}
    return msgspec.json.format(msgspec.json.encode(content)).decode() + "\n"

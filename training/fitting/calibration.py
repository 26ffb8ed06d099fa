"""Calibration: new working points of an existing model, from a sample of background."""

from collections.abc import Sequence

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from service.model.artefact import Artefact, with_metadata
from training.errors import ExportError
from training.evaluation.facts import in_hertz
from training.evaluation.metrics import Measured, efficiency
from training.events.events import digest
from training.fitting.rates import RateTarget, targets_of
from training.fitting.reference import make_reference
from training.fitting.working_points import check_floor, derive_working_points


def calibrate(
    artefact: Artefact,
    background: NDArray[np.float32],
    scores: NDArray[np.float32],
    model_version: str,
    rates: Sequence[RateTarget] = (),
) -> Artefact:
    """Return the same graph as a new version of the model, with working points and reference of other background.

    Both are computed from features (m, n) and their scores (m,). Working points defined by rates are kept as rates
    unless other rates are given. Raises ExportError when the version is unchanged, because thresholds belong to one
    version, when the sample is too small for any working point or for a rate, and as `check_floor` does.
    """
    metadata = artefact.metadata
    if model_version == metadata.model_version:
        raise ExportError(
            f"{artefact.identity} is version {model_version!r} already, expected another: new thresholds are a new "
            "version of the model; give one with --model-version"
        )
    points = derive_working_points(scores, digest(background), rates or targets_of(metadata.working_points))
    if not points:
        raise ExportError(f"{len(scores)} background events support no working point: give a larger sample")
    floor = metadata.reference.floor if metadata.reference else None
    if floor is not None:
        check_floor(points, floor)
    reference = make_reference(background, scores, floor)
    changes = {"model_version": model_version, "working_points": points, "reference": reference}
    return with_metadata(onnx.load_model_from_string(artefact.graph), msgspec.structs.replace(metadata, **changes))


def check_table(artefact: Artefact, scores: NDArray[np.float32]) -> str:
    """Return a table of the nominal and measured background efficiency of the artefact's working points, as text.

    The measured efficiency is the fraction of the scores (n,) above the threshold, with the error of this sample. The
    error of the nominal efficiency is that of the calibration sample.
    """
    lines = [f"{artefact.identity} on {len(scores):,} background events"]
    for point in artefact.metadata.working_points:
        nominal = point.background_efficiency
        expected = Measured(nominal, float(np.sqrt(nominal * (1 - nominal) / point.calibration_events)))
        measured = efficiency(scores.astype(np.float64), point.threshold)
        rate = ""
        if point.input_rate_hz is not None:
            kept = measured.value * point.input_rate_hz / point.prescale
            rate = f", {in_hertz(kept)} of {in_hertz(point.input_rate_hz)}"
        lines.append(f"  {point.name:<10} nominal {expected}, measured {measured}{rate}")
    return "\n".join(lines)

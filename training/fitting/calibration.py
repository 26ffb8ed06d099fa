"""Calibration: new working points for an existing model, from a sample of background."""

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
    """Return the same graph as another version of the model: with working points and reference of other background.

    They are from features (m, n) and the graph's scores (m,) of them. Working points that were asked for as rates stay
    so, unless others are. Thresholds belong to one version: raises ExportError when the version stays the same, when
    the sample is too small for any working point or for a rate, and as `check_floor` does.
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
    """Return nominal and measured background efficiency of each of the artefact's working points, as text.

    The measured efficiency is the fraction of the scores (n,) above the threshold, with the error of this sample; the
    error of the nominal one is that of the sample that the threshold was calibrated with.
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

"""Calibration: new working points for an existing model, from a sample of background."""

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from service.model.artefact import Artefact, with_metadata
from training.errors import ExportError
from training.evaluation.metrics import Measured, efficiency
from training.fitting.working_points import derive_working_points


def calibrate(artefact: Artefact, scores: NDArray[np.float32], calibration_sha256: str, model_version: str) -> Artefact:
    """Return the same graph with working points from its scores (n,) of background, as another version of the model.

    Thresholds belong to one version: raises ExportError when the version stays the same, and when the sample is too
    small for any working point.
    """
    if model_version == artefact.metadata.model_version:
        raise ExportError(
            f"{artefact.identity} is version {model_version!r} already, expected another: new thresholds are a new "
            "version of the model; give one with --model-version"
        )
    points = derive_working_points(scores, calibration_sha256)
    if not points:
        raise ExportError(f"{len(scores)} background events support no working point: give a larger sample")
    changed = msgspec.structs.replace(artefact.metadata, model_version=model_version, working_points=points)
    return with_metadata(onnx.load_model_from_string(artefact.graph), changed)


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
        lines.append(f"  {point.name:<10} nominal {expected}, measured {measured}")
    return "\n".join(lines)

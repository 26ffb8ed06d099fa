"""New working points for an existing model, from a sample of background; knows no torch.

python -m training calibrate MODEL.onnx BACKGROUND.h5 --model-version 2 --out NEW.onnx
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from service.model.artefact import Artefact, load_artefact, with_metadata
from service.model.scorer import Scorer
from training.errors import ExportError
from training.events import digest, read_background, require_features
from training.files import atomic_write, require_output
from training.metrics import efficiency
from training.working_points import derive_working_points, working_points_table


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
    """Return what share of the scores (n,) of background passes each of the artefact's working points, as text.

    The error is that of this sample; "promised" carries that of the sample that the threshold came from.
    """
    lines = [f"{artefact.identity} on {len(scores):,} background events"]
    for point in artefact.metadata.working_points:
        promised = point.background_efficiency
        error = np.sqrt(promised * (1 - promised) / point.calibration_events)
        measured = efficiency(scores.astype(np.float64), point.threshold)
        lines.append(f"  {point.name:<10} promised {promised:g} ± {error:.2g}, measured {measured}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m training calibrate`."""
    parser = argparse.ArgumentParser(prog="python -m training calibrate", description=__doc__.partition(";")[0])
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="artefact to calibrate")
    parser.add_argument("events", type=Path, metavar="BACKGROUND.h5", help="events file; with labels, label 0 is used")
    parser.add_argument("--model-version", required=True, help="version of the calibrated model, other than the old")
    parser.add_argument("--out", type=Path, required=True, metavar="NEW.onnx", help="artefact to write")
    parser.add_argument("--key", help="group in BACKGROUND.h5, where it holds several")
    args = parser.parse_args(argv)
    require_output(args.out, args.model, args.events)
    artefact = load_artefact(args.model)
    require_features(artefact.identity, artefact.metadata.feature_names)
    background = read_background(args.events, args.key)
    scores = Scorer(artefact).score(background)
    calibrated = calibrate(artefact, scores, digest(background), args.model_version)
    print(check_table(artefact, scores))
    with atomic_write(args.out) as path:
        path.write_bytes(calibrated.graph)
    print(f"{args.out}: {working_points_table(calibrated)}")
    return 0

"""Export of a weakly supervised run as one self-describing ONNX file, checked against torch."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.model.artefact import SCHEMA_VERSION, Artefact, Metadata, Scaler
from training.detectors.weak import WeakScorer
from training.errors import EventsError, ExportError
from training.fitting.export import artefact_of, code_version, golden_pairs
from training.fitting.weak_run import WeakRun, load_weak_scorer, read_origin


def export_weak(run: WeakRun, folder: Path, calibration: NDArray[np.float32], model_version: str) -> Artefact:
    """Return the trees of the run in a folder as an artefact, with working points from features (n, 14).

    Events of the run's own reference are scored by trees that were not trained on them. Raises CheckpointError for an
    unfinished run, ExportError and ArtefactError as `export` does.
    """
    scorer = load_weak_scorer(run, folder)
    return artefact_of(scorer, _describe(run, scorer, model_version, calibration), calibration)


def read_reference(run: WeakRun) -> NDArray[np.float32]:
    """Return the features of the run's reference, (n, 14). Raises ExportError if its file is missing or changed."""
    remedy = "give events without signal with --calibration"
    try:
        origin, features = read_origin(Path(run.reference.path), run.reference.layout)
    except EventsError as error:
        raise ExportError(f"the reference that the run was trained on cannot be read: {error} Or {remedy}.") from error
    if origin.sha256 != run.reference.sha256:
        raise ExportError(f"{origin.path} no longer holds the reference that the run was trained on; {remedy}")
    return features


def _describe(run: WeakRun, scorer: WeakScorer, model_version: str, calibration: NDArray[np.float32]) -> Metadata:
    """Return the metadata without working points and reference, with golden pairs from calibration features (n, 14)."""
    names = list(scorer.feature_map.names)
    return Metadata(
        schema_version=SCHEMA_VERSION,
        model_name=run.config.name,
        model_version=model_version,
        feature_names=list(scorer.features.names),
        feature_units=list(scorer.features.units),
        scaler=Scaler(names, [0.0] * len(names), [1.0] * len(names)),  # trees use unscaled quantities
        working_points=[],
        training={
            "class": str(run.config.model_class),
            "configuration": asdict(run.config),
            "window_events": run.window.events,
            "reference_events": run.reference.events,
            "reference_sha256": run.reference.sha256,
            "scikit_learn": run.scikit_learn,
        },
        data_sha256=run.window.sha256,
        code_version=code_version(),
        golden=golden_pairs(scorer, calibration),
    )

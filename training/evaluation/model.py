"""The model used for scoring, and its working points."""

from pathlib import Path

from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from training.errors import EventsError
from training.events.features import DIJET, FeatureSet


def open_scorer(path: str | Path) -> Scorer:
    """Return a scorer for the artefact at `path`.

    Raises ArtefactError when it cannot be loaded.
    """
    return Scorer(load_artefact(path))


def features_of(artefact: Artefact) -> FeatureSet:
    """Return the input features of a model."""
    return FeatureSet(tuple(artefact.metadata.feature_names), tuple(artefact.metadata.feature_units))


def require_jets(artefact: Artefact) -> None:
    """Raise EventsError unless a model uses the features of two jets, because others have no dijet mass."""
    if not features_of(artefact).of_jets:
        raise EventsError(
            f"{artefact.identity} takes the features {', '.join(artefact.metadata.feature_names)}, expected those of "
            f"two jets in GeV, {', '.join(DIJET.names)}: a search needs their dijet mass"
        )


def threshold(artefact: Artefact, working_point: str) -> tuple[str, float]:
    """Return a working point's name and threshold, as clients get it. Raises EventsError for an unknown name."""
    points = {point.name: point.sent_threshold for point in artefact.metadata.working_points}
    if working_point not in points:
        known = f"expected one of {', '.join(points)}" if points else "and no other: make some with `calibrate`"
        raise EventsError(f"{artefact.identity} has no working point '{working_point}', {known}")
    return working_point, points[working_point]

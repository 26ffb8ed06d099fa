"""The model that events are scored with, and its working points."""

from pathlib import Path

from service.model.artefact import Artefact, load_artefact
from service.model.scorer import Scorer
from training.errors import EventsError
from training.events.events import FEATURE_NAMES


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

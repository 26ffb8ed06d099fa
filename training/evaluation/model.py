"""The model that events are scored with."""

from pathlib import Path

from service.model.artefact import load_artefact
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

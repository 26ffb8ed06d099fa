"""Models with reference histograms of background, and events that are like it or are not."""

import numpy as np
from numpy.typing import NDArray

from service.model.artefact import Artefact, parse_artefact
from service.model.reference import Reference
from tests.artefacts import oracle, sample_events, with_metadata
from training.fitting.reference import make_reference

N_REFERENCE = 20_000


def reference(n_events: int = N_REFERENCE) -> Reference:
    """Make the histograms of `sample_events` and their scores."""
    events = sample_events(n_events, seed=100)
    return make_reference(events, oracle(events).astype(np.float32))


def artefact(**changes: object) -> Artefact:
    """Return a model with reference histograms, and other changes of its metadata."""
    return parse_artefact(with_metadata(**{"reference": reference(), **changes}).SerializeToString())


def drifted_events(n_events: int, spreads: float = 0.5, seed: int = 0) -> NDArray[np.float32]:
    """Draw events (n, n_features) whose last feature is too high by so many of its spreads."""
    events = sample_events(n_events, seed=seed)
    events[:, -1] += spreads * events[:, -1].std()
    return events

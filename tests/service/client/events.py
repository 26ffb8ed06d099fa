"""Events for tests of the client: their scores, and what happens while a call reads them."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from service.client import Options, Result
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.artefacts import RTOL, sample_events
from tests.live import LiveService, wait_until
from tests.service.reload.models import Made, put

PART_EVENTS = 100
N_PARTS = 20
EVENTS = sample_events(PART_EVENTS * N_PARTS)
HALF = len(EVENTS) // 2

IN_PARTS = Options(request_events=PART_EVENTS)
ONE_BY_ONE = Options(request_events=PART_EVENTS, in_flight=1)
"""Options with which EVENTS take several requests, beside each other or one after the other."""


def check(result: Result, model: Path) -> None:
    """Require the offline score of each of EVENTS in order, by a model that gives other bits in other batches."""
    scorer = Scorer(load_artefact(model))
    np.testing.assert_allclose(result.scores, scorer.score(EVENTS), RTOL)
    assert result.model == scorer.artefact.identity


class Watched(np.ndarray[Any, np.dtype[np.float32]]):
    """EVENTS, in the middle of whose reading a function is called once."""

    happens: Callable[[], object] | None

    def __array_finalize__(self, _: object) -> None:
        self.happens = None

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice) and key.start == HALF and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        return np.asarray(self)[key]


def events_with(happens: Callable[[], object]) -> Watched:
    """Return EVENTS that call a function when their second half is begun."""
    watched = EVENTS.view(Watched)
    watched.happens = happens
    return watched


def reload(service: LiveService, model: Made, served: Path) -> Callable[[], None]:
    """Return a function that has the service take this model into use."""

    def happens() -> None:
        put(model, served)
        service.signal(signal.SIGHUP)
        wait_until(lambda: service.get("/model").json()["identity"] == model.identity)

    return happens

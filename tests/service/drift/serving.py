"""A model served in this process, and what its metrics have of its events."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from litestar import Litestar
from litestar.testing import TestClient
from numpy.typing import NDArray

from benchmarks.load.formats import RAW
from service.api.app import create_app
from service.drift.monitor import Monitor
from service.model.artefact import Artefact
from service.settings import Settings
from tests.live import samples

Client = TestClient[Litestar]


class Service:
    """A model served in this process."""

    def __init__(self, client: Client, monitor: Monitor) -> None:
        self.client = client
        self._monitor = monitor

    def send(self, events: NDArray[np.float32], n_batches: int) -> None:
        """Score events in batches, the first of them one by one, as slowly as a batch in each tick."""
        headers = {"Content-Type": RAW.media_type}
        requests = [("/score", event) for event in events[:3]]
        requests += [("/score/batch", batch) for batch in np.array_split(events[3:], n_batches)]
        for path, sent in requests:
            assert self.client.post(path, content=sent.tobytes(), headers=headers).status_code == 200
            self._monitor.tick()

    def measured(self) -> dict[str, float]:
        """Read the metrics of the model, without the label of its identity."""
        model = f" model={self.client.get('/model').json()['identity']}"
        read = samples(self.client.get("/metrics").text)
        return {name.replace(model, ""): value for name, value in read.items() if model in name}


@contextmanager
def serving(model: Artefact) -> Iterator[Service]:
    """Serve a model."""
    application = create_app(Settings(), model)
    with TestClient(application.main) as client:
        yield Service(client, application.deployment.monitor)

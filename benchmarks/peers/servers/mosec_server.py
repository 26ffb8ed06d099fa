"""Mosec: a worker process for each kind of body, behind its HTTP process. Single events are batched across requests.

python -m benchmarks.peers.servers.mosec_server OPTIONS_OF_MOSEC
"""
# mypy: disable-error-code="import-not-found,misc,override"

import os

import mosec
import numpy as np
from mosec.errors import ValidationError

from benchmarks.peers.servers.bodies import BATCH, EVENT, ROWS, Body, RefusedError, read
from benchmarks.peers.servers.graph import Floats, open_graph


class Batches(mosec.Worker):
    """Batches in JSON, one request at a time."""

    kind: Body = BATCH
    resp_mime_type = kind.media_type

    def __init__(self) -> None:
        super().__init__()
        self.score = open_graph(os.environ["PEER_MODEL"])

    def deserialize(self, data: bytes) -> Floats:
        """Read events (n, 14)."""
        try:
            return read(self.kind, data)
        except RefusedError as error:
            raise ValidationError(str(error)) from error

    def forward(self, data: Floats) -> Floats:
        """Score the events of a request."""
        return self.score(data)

    def serialize(self, data: Floats) -> bytes:
        """Write scores (n,)."""
        return self.kind.write(data)


class Rows(Batches):
    """Batches in raw float32, one request at a time."""

    kind = ROWS
    resp_mime_type = kind.media_type


class Events(Batches):
    """Single events, in the batches that Mosec makes."""

    kind = EVENT

    def forward(self, data: list[Floats]) -> list[Floats]:
        """Score the events of several requests at once."""
        return np.split(self.score(np.concatenate(data)), len(data))


if __name__ == "__main__":  # the workers are fresh processes that import this module
    server = mosec.Server()
    # At most 1 ms of waiting: 0 is replaced by the 10 ms of its default.
    server.append_worker(Events, max_batch_size=32, max_wait_time=1, route="/score")
    server.append_worker(Batches, route="/score/batch")
    server.append_worker(Rows, route="/score/raw")
    server.run()

"""Scoring in this process, with the code and the model file of the servers."""

import asyncio
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.client.errors import ClientError, ModelError
from service.client.options import FilePath
from service.client.result import Reply

if TYPE_CHECKING:
    from service.model.scorer import Scorer


class Fallback:
    """A model file, which is loaded when it is needed."""

    def __init__(self, path: FilePath) -> None:
        self._path = path
        self._scorer: Scorer | None = None
        self._loading = Lock()

    async def score(self, rows: NDArray[np.float32], model: str | None, working_point: str | None) -> Reply:
        """Score rows (n, n_features) in a thread.

        Raises ModelError if the file is not `model` (None allows any), and ClientError for an invalid file, rows of
        other features and an unknown working point.
        """
        from service.model.artefact import ArtefactError

        try:
            return await asyncio.to_thread(self._score, rows, model, working_point)
        except (ArtefactError, ValueError) as error:
            raise ClientError(f"fallback {self._path}: {error}") from error

    def _score(self, rows: NDArray[np.float32], model: str | None, working_point: str | None) -> Reply:
        from service.model.artefact import load_artefact
        from service.model.scorer import Scorer

        with self._loading:
            if self._scorer is None:
                self._scorer = Scorer(load_artefact(self._path))
        artefact = self._scorer.artefact
        if model not in {None, artefact.identity}:
            raise ModelError(
                f"fallback {self._path} is {artefact.identity}, expected {model}: give the file that the servers have"
            )
        points = {point.name: point.sent_threshold for point in artefact.metadata.working_points}
        if working_point is not None and working_point not in points:
            raise ValueError(f"working_point is {working_point!r}, expected one of {', '.join(points)}")
        scores = self._scorer.score(rows)
        if not np.isfinite(scores).all():
            raise ValueError("an event has no finite score")
        return Reply(scores, artefact.identity, None if working_point is None else points[working_point])

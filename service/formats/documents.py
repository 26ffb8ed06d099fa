"""The common part of JSON and MessagePack: documents with one key, decoded by msgspec."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats import faults
from service.formats.faults import Source
from service.formats.format import (
    EVENT_BYTES,
    Accepted,
    BatchReader,
    Content,
    Contributions,
    Format,
    Scores,
    longest_event,
)
from service.formats.raw import read_one


class DocumentReader(BatchReader):
    """Reads a batch in a document; a fault is diagnosed from the bytes around it."""

    language: str
    decode_body: Callable[[bytes], Any]
    decode_row: Callable[[bytes], list[float]]

    def _refuse(self, data: bytes, last: bool, place: str = "", before: bytes = b"") -> None:
        """Raise the fault of the row at `place`, which `data` starts with, or keep `data` if more bytes are needed.

        Without a place, raise the fault of the body, in which `before` replaces the part that was read.
        """
        most = longest_event(len(self._names)) if place else EVENT_BYTES
        offset, more = self.n_bytes - len(data) - len(before), not last or len(data) > most
        source = Source(self.language, "events", self._names, place, offset, more)
        if place:
            fault = faults.row_fault(self.decode_row, data[:most], source)
            late = f"{place} does not end within {most} bytes, expected a list of {len(self._names)} numbers"
        else:
            fault = faults.body_fault(self.decode_body, before + data[:most], source)
            late = f'the first {most} bytes are not those of a batch, expected an object with the key "events"'
        if fault is None and len(data) > most:
            fault = late
        elif fault is None and last:
            fault = faults.ends_early(self.language, self.n_bytes)
        if fault is not None:
            raise InvalidRequestError(fault)
        self._rest = data


class DocumentFormat(Format):
    """A format of documents."""

    language: str
    decode_event: Callable[[bytes], Any]

    def _event(self, body: bytes, feature_names: Sequence[str]) -> NDArray[Any]:
        try:
            features: list[float] | bytes = type(self).decode_event(body).features
        except ValueError as error:
            fault = faults.decode_fault(error, body, Source(self.language, "features", feature_names))
            raise InvalidRequestError(fault or faults.ends_early(self.language, len(body))) from error
        if not self._has_one_key(body):
            raise InvalidRequestError(faults.repeated("features"))
        if isinstance(features, bytes):
            return read_one(features, len(feature_names), "features is")
        if len(features) != len(feature_names):
            raise InvalidRequestError(faults.count_fault("the event", features, feature_names))
        return np.array(features)

    def write_explanation(
        self,
        scores: Scores,
        reference_score: np.float32,
        contributions: Contributions,
        accepted: Accepted | None = None,
    ) -> bytes:
        """Write the score (1,) of one event, its contributions (1, n_features), and whether it is `accepted`."""
        decision = {} if accepted is None else {"accepted": accepted[0]}
        explanation = {"reference_score": reference_score, "contributions": contributions[0]}
        return self._write({"anomaly_score": scores[0], **decision, **explanation})

    def write_explanations(
        self,
        scores: Scores,
        reference_score: np.float32,
        contributions: Contributions,
        accepted: Accepted | None = None,
    ) -> bytes:
        """Write the scores (n,) of a batch, the contributions (n, n_features), and which are `accepted` (n,)."""
        decisions = {} if accepted is None else {"accepted": accepted}
        explanations = {"reference_score": reference_score, "contributions": contributions}
        return self._write({"anomaly_scores": scores, **decisions, **explanations})

    @abstractmethod
    def _write(self, document: dict[str, Any]) -> bytes:
        """Write a document of arrays and scalars of NumPy."""

    @abstractmethod
    def _has_one_key(self, body: bytes) -> bool:
        """Return whether a decoded body has its key only once."""

    def schema(self, content: Content) -> dict[str, Any]:
        """Describe the document."""
        return {"title": content.title, **content.document}

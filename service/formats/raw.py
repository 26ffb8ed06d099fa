"""Raw little-endian float32, row after row; and decisions, one byte per event."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidRequestError
from service.formats import faults
from service.formats.format import (
    AT_LEAST_ONE,
    BLOCK_EVENTS,
    LITTLE_FLOAT32,
    Accepted,
    BatchReader,
    Content,
    Format,
    Rows,
    Scores,
)


class RawReader(BatchReader):
    """Reads a batch of raw rows."""

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        event_bytes = len(self._names) * LITTLE_FLOAT32.itemsize
        data = self._rest + piece if self._rest else piece
        n_whole = len(data) // event_bytes
        self._rest = data[n_whole * event_bytes :]
        if last:
            count_events(self.n_bytes, len(self._names), "the body is")
        yield np.frombuffer(data, LITTLE_FLOAT32, n_whole * len(self._names)).reshape(n_whole, len(self._names))


class Raw(Format):
    """Raw rows and raw scores, without `accepted`."""

    media_type = "application/octet-stream"
    parameters: ClassVar = {"dtype": ("float32", "<f4"), "byteorder": ("little",)}

    def _event(self, body: bytes, feature_names: Sequence[str]) -> NDArray[np.float32]:
        return read_one(body, len(feature_names), "the body is")

    def read_batch(self, body: bytes, feature_names: Sequence[str], max_events: int) -> Rows:
        """Read a whole body; this is the hot path."""
        rows = whole_rows(body, len(feature_names))
        if len(rows) > max_events or not np.isfinite(rows).all():
            return super().read_batch(body, feature_names, max_events)
        return rows

    def read_blocks(self, body: bytes, feature_names: Sequence[str], max_events: int) -> Iterator[Rows]:
        """Read a whole body block by block, in place; this is the hot path."""
        rows = whole_rows(body, len(feature_names))
        if len(rows) > max_events:
            yield from super().read_blocks(body, feature_names, max_events)  # raises the error
            return
        for start in range(0, len(rows), BLOCK_EVENTS):
            block = rows[start : start + BLOCK_EVENTS]
            if not np.isfinite(block).all():
                raise InvalidRequestError(faults.array_fault(block, block, "events", feature_names, start))
            yield block

    def open_batch(self, feature_names: Sequence[str], max_events: int) -> RawReader:
        """Make a reader for one body."""
        return RawReader(feature_names, max_events)

    def write_score(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write a score (1,)."""
        return self.write_scores(scores, accepted)

    def write_scores(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write scores (n,)."""
        return scores.astype(LITTLE_FLOAT32, copy=False).tobytes()

    def schema(self, content: Content) -> dict[str, Any]:
        """Describe the bytes."""
        description = f"Little-endian float32 of shape {content.shape}: `array.astype('<f4').tobytes()`."
        return {"type": "string", "format": "binary", "description": description}


class RawDecisions(Raw):
    """Raw decisions: which events are accepted."""

    media_type = f"{Raw.media_type}; dtype=bool"
    decisions = True

    def write_scores(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write which events are accepted (n,), one byte each."""
        assert accepted is not None
        return accepted.tobytes()

    def schema(self, content: Content) -> dict[str, Any]:
        """Describe the bytes."""
        description = f"Which events are `accepted`, of shape {content.shape}, one byte each: 0 or 1."
        return {"type": "string", "format": "binary", "description": description}


def whole_rows(data: bytes, n_features: int) -> Rows:
    """View a whole body as (n, n_features); raises InvalidRequestError for incomplete or no events."""
    n_events = count_events(len(data), n_features, "the body is")
    return np.frombuffer(data, LITTLE_FLOAT32).reshape(n_events, n_features)


def read_one(data: bytes, n_features: int, found: str) -> NDArray[np.float32]:
    """Read one event (n_features,); raises InvalidRequestError, starting with `found`, for another length."""
    event_bytes = n_features * LITTLE_FLOAT32.itemsize
    if len(data) != event_bytes:
        raise InvalidRequestError(
            f"{found} {len(data)} bytes, expected one event of {n_features} float32 ({event_bytes} bytes)"
        )
    return np.frombuffer(data, LITTLE_FLOAT32)


def count_events(n_bytes: int, n_features: int, found: str) -> int:
    """Count the events in `n_bytes`; raises InvalidRequestError, starting with `found`, for incomplete or no events."""
    event_bytes = n_features * LITTLE_FLOAT32.itemsize
    if n_bytes % event_bytes:
        raise InvalidRequestError(
            f"{found} {n_bytes} bytes, not a whole number of events of {n_features} float32 ({event_bytes} bytes each)"
        )
    if not n_bytes:
        raise InvalidRequestError(f"events is empty, {AT_LEAST_ONE}")
    return n_bytes // event_bytes


RAW: Final = Raw()
RAW_DECISIONS: Final = RawDecisions()

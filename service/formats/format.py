"""The interface of a format, which reads one event or a batch as rows of finite float32, and writes scores."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import BodyTooLargeError, InvalidRequestError, TooManyEventsError
from service.formats import faults

Rows = NDArray[np.float32]
Scores = NDArray[np.float32]
Accepted = NDArray[np.bool_]
Contributions = NDArray[np.float32]

LITTLE_FLOAT32: Final = np.dtype("<f4")

BLOCK_EVENTS: Final = 4096
"""Events that are read at once: enough for the runtime, few enough for the cache and for fair scheduling."""

WRITTEN_EVENTS: Final = 16_384
"""Maximum number of scores that are written at once."""

AT_LEAST_ONE: Final = "expected at least 1 event"

EVENT_BYTES: Final = 65_536
EVENT_BYTES_PER_FEATURE: Final = 256
"""Maximum length of an event in any format, and of the start of a batch, so that a fault is found within it."""

FEW_BYTES: Final = 4096
"""A longer part of an event is read again only after this many more bytes have arrived."""


class Content(NamedTuple):
    """The content of a body, for the API's description."""

    title: str
    """Event, Events, Score or Scores."""
    shape: str
    """The shape of the array: (14,), (n, 14), () or (n,)."""
    document: dict[str, Any]
    """The JSON schema of the body as a document of keys and values."""
    example: dict[str, Any]
    """Such a document."""


class Format(ABC):
    """A format of requests and responses."""

    media_type: str
    aliases: tuple[str, ...] = ()
    parameters: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The allowed values of parameters of the media type, in lower case; other parameters are ignored."""
    feature_bytes: ClassVar[int] = LITTLE_FLOAT32.itemsize
    """Typical bytes of a feature in a batch, to estimate the number of events from the length of a body."""
    decisions: ClassVar[bool] = False
    """Whether responses contain decisions (which events are accepted) instead of scores, for a working point."""

    @cached_property
    def content_type_header(self) -> tuple[bytes, bytes]:
        """The Content-Type header of a response."""
        return (b"content-type", self.media_type.encode())

    def read_event(self, body: bytes, feature_names: Sequence[str]) -> Rows:
        """Read one event as (1, n_features) finite float32; raises InvalidRequestError and BodyTooLargeError."""
        most = longest_event(len(feature_names))
        if len(body) > most:
            raise BodyTooLargeError(
                f"the body is {len(body)} bytes, expected at most {most} for one event: send many as a batch"
            )
        if not body:
            raise InvalidRequestError("the body is empty, expected 1 event")
        given = self._event(body, feature_names)
        with np.errstate(over="ignore", invalid="ignore"):  # numbers that become infinite are refused below, as NaN is
            features = given.astype(np.float32).reshape(1, len(feature_names))
        if not np.isfinite(features).all():
            raise InvalidRequestError(faults.array_fault(given, features, "features", feature_names))
        return features

    def read_event_into(self, feature_names: Sequence[str], body: bytes, rows: Rows, place: int) -> None:
        """Read one event as `read_event` does, into rows[place]."""
        rows[place] = self.read_event(body, feature_names)[0]

    @abstractmethod
    def _event(self, body: bytes, feature_names: Sequence[str]) -> NDArray[Any]:
        """Read one event as (n_features,) real numbers; raises InvalidRequestError."""

    @abstractmethod
    def open_batch(self, feature_names: Sequence[str], max_events: int) -> "BatchReader":
        """Make a reader for one body of at most `max_events`."""

    def read_batch(self, body: bytes, feature_names: Sequence[str], max_events: int) -> Rows:
        """Read a whole body of at most `max_events` as (n, n_features) finite float32.

        Raises InvalidRequestError, and TooManyEventsError for more events than `max_events` or BLOCK_EVENTS.
        """
        blocks = self.read_blocks(body, feature_names, min(max_events, BLOCK_EVENTS))
        rows = next(blocks)
        for _ in blocks:
            pass
        return rows

    def read_blocks(self, body: bytes, feature_names: Sequence[str], max_events: int) -> Iterator[Rows]:
        """Read a whole body block by block, as `BatchReader.feed` does."""
        return self.open_batch(feature_names, max_events).feed(body, last=True)

    @abstractmethod
    def write_score(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write the score (1,) of one event, finite, and whether the event is `accepted` (1,)."""

    @abstractmethod
    def write_scores(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write the scores (n,) of a batch, finite, and which events are `accepted` (n,)."""

    def write_pieces(self, scores: Scores, accepted: Accepted | None = None) -> Iterator[bytes]:
        """Write the scores of a long batch as `write_scores` does, in pieces that take at most two milliseconds."""
        yield self.write_scores(scores, accepted)

    def schema(self, content: Content) -> dict[str, Any]:
        """Return the JSON schema of a body; a schema with a title becomes a component of that name."""
        return {"type": "string", "format": "binary", "description": f"Numbers of shape {content.shape}."}


class BatchReader(ABC):
    """Reads one body piece by piece, in memory that does not grow with it.

    Each block is a view of one buffer, overwritten by the next.
    """

    def __init__(self, feature_names: Sequence[str], max_events: int) -> None:
        self._names = feature_names
        self._max_events = max_events
        self._block = np.empty((BLOCK_EVENTS, len(feature_names)), np.float32)
        self._filled = 0
        self._read = 0
        self._rest = b""
        self._held = b""
        self.n_bytes = 0

    @property
    def n_events(self) -> int:
        """Number of events read so far."""
        return self._read

    def feed(self, piece: bytes, last: bool) -> Iterator[Rows]:
        """Yield each block (BLOCK_EVENTS, n_features) that `piece` completes, and at the end the rest (n, n_features).

        Raises InvalidRequestError at the first fault, and TooManyEventsError once there are, or are announced, more
        than the maximum.
        """
        self.n_bytes += len(piece)
        if last and not self.n_bytes:
            raise InvalidRequestError(f"the body is empty, {AT_LEAST_ONE}")
        if self._held or len(self._rest) > FEW_BYTES:
            self._held += piece
            if len(self._held) < FEW_BYTES and not last:
                return
            piece, self._held = self._held, b""
        for given in self._rows(piece, last):
            yield from self._gather(given)
        if last and self._filled:
            yield self._block[: self._filled]

    def _check_count(self, n_events: int) -> None:
        if n_events > self._max_events:
            most = self._max_events
            raise TooManyEventsError(
                f"the batch has more than {most} events, expected at most {most}: send smaller batches"
            )

    @abstractmethod
    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        """Yield the rows (n, n_features) of real numbers that `piece` completes."""

    def _gather(self, given: NDArray[Any]) -> Iterator[Rows]:
        """Copy rows (n, n_features) into the block, and yield the block whenever it is full."""
        self._check_count(self._read + len(given))
        start = 0
        while start < len(given):
            taken = min(len(given) - start, len(self._block) - self._filled)
            rows, place = given[start : start + taken], self._block[self._filled : self._filled + taken]
            with np.errstate(over="ignore", invalid="ignore"):  # numbers that become infinite are refused, as NaN is
                np.copyto(place, rows, casting="unsafe")
            if not np.isfinite(place).all():
                raise InvalidRequestError(faults.array_fault(rows, place, "events", self._names, self._read))
            start += taken
            self._read += taken
            self._filled += taken
            if self._filled == len(self._block):
                yield self._block
                self._filled = 0


def slices(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut values (n,) into slices of at most WRITTEN_EVENTS."""
    for start in range(0, len(values), WRITTEN_EVENTS):
        yield values[start : start + WRITTEN_EVENTS]


@cache
def longest_event(n_features: int) -> int:
    """Return the maximum bytes of one event."""
    return max(EVENT_BYTES, EVENT_BYTES_PER_FEATURE * n_features)

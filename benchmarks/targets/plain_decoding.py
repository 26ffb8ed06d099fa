"""The service with plain decoding of JSON, msgspec -> list of lists -> NumPy: the baseline of its own decoder.

    python -m benchmarks.targets.plain_decoding [FLAGS OF THE SERVICE]

Nothing else of the service changes.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.__main__ import main
from service.errors import InvalidRequestError
from service.formats.format import BatchReader
from service.formats.json import Json


class EventsBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request for a batch."""

    events: list[list[float]]


DECODER = msgspec.json.Decoder(EventsBody)


class PlainReader(BatchReader):
    """Reads a batch in JSON as a whole."""

    def __init__(self, feature_names: Sequence[str], max_events: int) -> None:
        super().__init__(feature_names, max_events)
        self._pieces: list[bytes] = []

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        self._pieces.append(piece)
        if not last:
            return
        try:
            given = np.array(DECODER.decode(b"".join(self._pieces)).events, np.float64)
        except ValueError as error:  # msgspec's, and that of ragged rows
            raise InvalidRequestError(str(error)) from error
        if given.ndim != 2 or given.shape[1] != len(self._names):
            raise InvalidRequestError(f"events has the shape {given.shape}, expected (n, {len(self._names)})")
        yield given


def open_plainly(_: Json, feature_names: Sequence[str], max_events: int) -> PlainReader:
    """Make a plain reader for one body."""
    return PlainReader(feature_names, max_events)


if __name__ == "__main__":
    Json.open_batch = open_plainly  # type: ignore[assignment, method-assign]  # the only change
    sys.exit(main())

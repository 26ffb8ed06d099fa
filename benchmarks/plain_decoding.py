"""The service with plain decoding of JSON: msgspec -> list of lists -> NumPy. What its own decoder is measured against.

    python -m benchmarks.plain_decoding [FLAGS OF THE SERVICE]

It changes nothing else of the service, and says of a wrong batch only what msgspec or NumPy say.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.__main__ import main
from service.errors import InvalidRequestError
from service.formats import table as wire
from service.formats.blocks import RowReader


class EventsBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a request for a batch holds."""

    events: list[list[float]]


DECODER = msgspec.json.Decoder(EventsBody)


class PlainReader(RowReader):
    """Reads a batch in JSON as a whole."""

    def __init__(self, feature_names: Sequence[str]) -> None:
        super().__init__(feature_names)
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


def open_plainly(readers: wire.BatchReaders, media_type: str) -> RowReader:
    """Make a reader for one body, for JSON a plain one."""
    return PlainReader(readers._names) if media_type == wire.JSON else OPEN(readers, media_type)


OPEN = wire.BatchReaders.open

if __name__ == "__main__":
    wire.BatchReaders.open = open_plainly  # type: ignore[assignment, method-assign]  # this is the change
    sys.exit(main())

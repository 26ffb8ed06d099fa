"""Bodies compressed with gzip or deflate, in both directions, in pieces of bounded length."""

import zlib
from collections.abc import Iterator
from typing import Final, Literal

from service.errors import InvalidRequestError

Encoding = Literal["gzip", "deflate"]

INFLATED_BYTES: Final = 65_536
"""Maximum bytes that are inflated at once, in a fraction of a millisecond."""

DEFLATED_BYTES: Final = 65_536
"""Maximum bytes that are compressed at once, in about a millisecond."""

LEVEL: Final = 1
GZIP, ZLIB, RAW_DEFLATE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class Inflater:
    """Inflates one body piece by piece."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._too_long = f"bytes follow the {encoding} stream of the body, expected none"
        self._stream = zlib.decompressobj(GZIP if encoding == "gzip" else ZLIB)
        self._started = False

    def inflate(self, piece: bytes, last: bool) -> Iterator[tuple[bytes, bool]]:
        """Yield the inflated piece in parts of at most INFLATED_BYTES, each with whether it is the last of the body.

        Raises InvalidRequestError for another encoding, an early end, and bytes after the end.
        """
        if not self._started and piece:
            self._started = True
            if self._encoding == "deflate" and piece[0] & 15 != zlib.DEFLATED:  # some clients send raw deflate
                self._stream = zlib.decompressobj(RAW_DEFLATE)
        if self._stream.eof and piece:
            raise InvalidRequestError(self._too_long)
        part = b""
        while not self._stream.eof:
            try:
                more = self._stream.decompress(piece, INFLATED_BYTES)
            except zlib.error as error:
                raise InvalidRequestError(f"the body is not valid {self._encoding}: {error}") from error
            piece = self._stream.unconsumed_tail
            if not more:  # the whole piece was read
                break
            if part:
                yield part, False
            part = more
        if self._stream.unused_data:
            raise InvalidRequestError(self._too_long)
        if last and not self._stream.eof:
            raise InvalidRequestError(f"the body is not valid {self._encoding}: it ends early")
        if part or last:
            yield part, last


def compress(encoding: Encoding, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Compress a body, in pieces that take about a millisecond."""
    stream = zlib.compressobj(LEVEL, wbits=GZIP if encoding == "gzip" else ZLIB)
    for piece in pieces:
        for start in range(0, len(piece), DEFLATED_BYTES):
            yield stream.compress(piece[start : start + DEFLATED_BYTES])
    yield stream.flush()

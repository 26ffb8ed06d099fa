"""The limits of requests, and the errors of malformed ones."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Self
from urllib.parse import unquote

import httptools

from service.errors import HeadersTooLargeError, MalformedRequestError, ServiceError, UriTooLongError
from service.settings import Settings

MAX_HEADERS: Final = 100
"""Maximum number of headers of a request: each takes some hundred bytes of memory, however short it is."""

HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


class Limits(NamedTuple):
    """The maximum sizes of a request, and the maximum number of connections."""

    header_bytes: int
    url_bytes: int
    body_bytes: int
    connections: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take the limits from the settings."""
        return cls(settings.max_header_bytes, settings.max_url_bytes, settings.max_body_bytes, settings.max_connections)

    def check_head(self, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Check the size of a complete request head; raises UriTooLongError and HeadersTooLargeError."""
        if len(url) > self.url_bytes:
            raise UriTooLongError(f"the URL has {len(url)} bytes, expected at most {self.url_bytes}")
        n_bytes = len(url) + sum([len(name) + len(value) + len(b": \r\n") for name, value in headers])
        self.check_header_bytes(n_bytes, "the request's head")

    def check_header_bytes(self, n_bytes: int, part: str) -> None:
        """Check the size so far of `part`, a head or trailers; raises HeadersTooLargeError."""
        if n_bytes > self.header_bytes:
            raise HeadersTooLargeError(f"{part} has {n_bytes} bytes, expected at most {self.header_bytes}")


@lru_cache(maxsize=256)
def is_host(value: bytes) -> bool:
    """Return whether this is a valid Host header (RFC 9110, 7.2)."""
    return HOST.fullmatch(value) is not None


@lru_cache(maxsize=256)
def split_url(url: bytes) -> tuple[str, bytes, bytes]:
    """Split a request target into the decoded path, the path as sent and the query."""
    parsed = httptools.parse_url(url)
    raw_path: bytes = parsed.path
    return unquote(raw_path.decode("ascii")), raw_path, parsed.query or b""


def parser_error(error: BaseException) -> ServiceError:
    """Convert an exception of the parser to the error for the client, which quotes none of its bytes."""
    cause = error.__context__
    if isinstance(cause, ServiceError):  # raised by a callback
        return cause
    found = cause or error
    if not isinstance(found, httptools.HttpParserError) or isinstance(found, httptools.HttpParserInvalidURLError):
        return MalformedRequestError("the request is not well-formed HTTP/1.1: invalid request target")
    return MalformedRequestError(f"the request is not well-formed HTTP/1.1: {found}")

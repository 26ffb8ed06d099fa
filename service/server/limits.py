"""What a client may send and how long it may take, and the words for what is no request.

It does not know connections.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Self
from urllib.parse import unquote

import httptools

from service.settings import Settings

HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


class HeadError(Exception):
    """A head that is not taken: the status and the words of the reply."""


class Limits(NamedTuple):
    """What a client may send, and how long it may take."""

    header_bytes: int
    url_bytes: int
    body_bytes: int
    connections: int
    header_s: float
    stall_s: float
    request_s: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take them from the settings."""
        return cls(
            settings.max_header_bytes,
            settings.max_url_bytes,
            settings.max_body_bytes,
            settings.max_connections,
            settings.header_s,
            settings.stall_s,
            settings.request_s,
        )

    def check_head(self, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Refuse a head that is too long; raises HeadError."""
        if len(url) > self.url_bytes:
            raise HeadError(414, too_long("the URL", len(url), self.url_bytes))
        size = len(url) + sum([len(name) + len(value) + len(b": \r\n") for name, value in headers])
        if size > self.header_bytes:
            raise HeadError(431, too_long("the request's head", size, self.header_bytes))


class Drain:
    """How fast requests are refused, and bodies that nobody wants are thrown away, all of a worker's together.

    A client that was refused still sends the rest of its body, and may ask again at once. Reading that as fast as it
    comes would leave no time for those who were not refused; so it has about a twentieth.
    """

    BYTES_PER_S: Final = 50e6
    REFUSAL_BYTES: Final = 100_000
    """A refusal takes as long as throwing so many bytes away."""
    LONGEST_S: Final = 8.0
    """Less than a body may stall by default: it is us who do not read."""

    def __init__(self) -> None:
        self._busy_until_s = 0.0

    def rest_s(self, n_bytes: int, now_s: float) -> float:
        """Tell for how long a connection is not to be read after so many bytes."""
        rest_s = min(self.busy_s(now_s) + n_bytes / self.BYTES_PER_S, self.LONGEST_S)
        self._busy_until_s = now_s + rest_s
        return rest_s

    def busy_s(self, now_s: float) -> float:
        """Tell how long what came before will take: who asks again earlier would have to wait."""
        return max(self._busy_until_s - now_s, 0.0)


@lru_cache(maxsize=256)
def is_host(value: bytes) -> bool:
    """Tell whether this may be the value of a Host header (RFC 9110, 7.2)."""
    return HOST.fullmatch(value) is not None


@lru_cache(maxsize=256)
def target(url: bytes) -> tuple[str, bytes, bytes]:
    """Give the path, the path as it is written, and the query."""
    parsed = httptools.parse_url(url)
    raw_path: bytes = parsed.path
    return unquote(raw_path.decode("ascii")), raw_path, parsed.query or b""


def not_http(error: BaseException) -> str:
    """Say what the parser found, without what the client has sent."""
    foreign = not isinstance(error, httptools.HttpParserError) or isinstance(error, httptools.HttpParserInvalidURLError)
    found = "the URL is none" if foreign else error
    return f"the request is not well-formed HTTP/1.1: {found}"


def too_long(what: str, found: int, limit: int) -> str:
    """Say that something is longer than it may be."""
    return f"{what} has {found} bytes, expected at most {limit}"

"""A wrong request as the tables have it: its bytes, the status that it must get, and a part of the message."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.load.formats import Format

SCORE, SCORE_BATCH = "/score", "/score/batch"

MAX_BODY_BYTES = 400_000
MAX_EVENTS = 6000
MAX_HEADER_BYTES = 8192
MAX_URL_BYTES = 1024

LONGEST_DETAIL = 1000
INWARD = re.compile(r'Traceback|File "|site-packages|\.py\b|/usr/|/home/|0x[0-9a-f]{6}|<class|object at')
"""What no message may have: the service's files, addresses and types."""

Body = tuple[bytes, str]
"""A body, and a part of the message that it gets."""


class Case(NamedTuple):
    """A request that must be refused: `detail` is a part of the message."""

    name: str
    detail: str
    status: int = 400
    method: str = "POST"
    path: str = SCORE
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def head(self) -> bytes:
        """Write the request line and the headers."""
        length = [("Content-Length", str(len(self.body)))] if self.body or self.method == "POST" else []
        lines = [f"{name}: {value}" for name, value in [("Host", "a"), *self.headers, *length]]
        return "\r\n".join([f"{self.method} {self.path} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def bodies(path: str, fmt: Format, table: Iterable[Body], status: int = 400) -> list[Case]:
    """Make a case of each body that is wrong in this format, on this route."""
    subtype = fmt.media_type.removeprefix("application/")
    headers = (("Content-Type", fmt.media_type),)
    return [
        Case(f"{path} {subtype} {body[:60]!r}, {len(body)} bytes", detail, status, "POST", path, headers, body)
        for body, detail in table
    ]

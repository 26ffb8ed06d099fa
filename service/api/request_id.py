"""The request id, set by a client or a proxy: it is logged and returned."""

import re
from collections.abc import Iterable
from typing import Final

REQUEST_ID: Final = b"x-request-id"

VALUE: Final = re.compile(rb"[!-~]{1,128}")
"""Visible ASCII; other ids and multiple ones are ignored."""


def find_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Find the id in a request's headers."""
    given = [value for name, value in headers if name == REQUEST_ID]
    return given[0] if len(given) == 1 and VALUE.fullmatch(given[0]) else None

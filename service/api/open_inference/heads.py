"""The head of a request to infer: lengths and compression."""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from litestar.types import HTTPScope

from service.api.open_inference.plans import JSON_LENGTH
from service.api.unrouted import check_overload
from service.errors import InvalidRequestError, UnsupportedMediaTypeError
from service.formats import faults
from service.formats.compression import Encoding

LENGTH: Final = re.compile(b"[0-9]{1,18}")
REFUSED: Final = re.compile(r"q=0(\.0*)?")


class InferHead(NamedTuple):
    """The head of a request."""

    announced_bytes: int
    """The Content-Length; 0 without one."""
    json_bytes: int | None
    """The length of the JSON before the input; None if the body is all JSON, 0 if it is only the input."""
    encoding: Encoding | None
    """The compression of the body."""
    accepted: Encoding | None
    """The compression of the response."""


def read_head(scope: HTTPScope) -> InferHead:
    """Read the head of a request; raises ServiceError."""
    check_overload(scope)
    announced_bytes, json_bytes = 0, None
    encodings, accepted = [], []
    for name, value in scope["headers"]:
        if name == b"content-length":
            announced_bytes = int(value)  # the parser refuses anything but a number
        elif name == JSON_LENGTH:
            if json_bytes is not None or not LENGTH.fullmatch(value):
                found = "given twice" if json_bytes is not None else faults.shown(value.decode("latin-1"))
                raise InvalidRequestError(f"Inference-Header-Content-Length is {found}, expected one number of bytes")
            json_bytes = int(value)
        elif name == b"content-encoding" and value.lower() not in {b"", b"identity"}:
            encodings.append(value.lower())
        elif name == b"accept-encoding":
            accepted.append(value)
    encoding = _encoding(encodings)
    if json_bytes is not None and encoding is None and 0 < announced_bytes < json_bytes:
        raise InvalidRequestError(
            f"Inference-Header-Content-Length is {json_bytes}, expected at most Content-Length, {announced_bytes}"
        )
    wanted = _accepted_encoding(b",".join(accepted)) if accepted else None
    return InferHead(announced_bytes, json_bytes, encoding, wanted)


def _encoding(given: list[bytes]) -> Encoding | None:
    """Find the compression of a body; raises UnsupportedMediaTypeError for an unknown or repeated one."""
    if not given:
        return None
    if given in ([b"gzip"], [b"x-gzip"]):
        return "gzip"
    if given == [b"deflate"]:
        return "deflate"
    found = faults.shown(b", ".join(given).decode("latin-1"))
    raise UnsupportedMediaTypeError(f"Content-Encoding is {found}, expected gzip, deflate or none")


@lru_cache(maxsize=64)
def _accepted_encoding(header: bytes) -> Encoding | None:
    """Find the best compression of the response that the client accepts."""
    accepted: set[str] = set()
    for part in header.decode("latin-1").lower().split(","):
        coding, _, quality = part.partition(";")
        if not REFUSED.fullmatch(quality.replace(" ", "")):
            accepted.add(coding.strip())
    if accepted & {"gzip", "x-gzip", "*"}:
        return "gzip"
    return "deflate" if "deflate" in accepted else None

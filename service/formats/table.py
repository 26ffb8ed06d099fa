"""The table of all formats, and content negotiation."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from service.errors import NotAcceptableError, UnsupportedMediaTypeError
from service.formats import faults
from service.formats.format import Format
from service.formats.json import JSON
from service.formats.msgpack import MSGPACK
from service.formats.npy import NPY, NPY_DECISIONS
from service.formats.raw import RAW, RAW_DECISIONS

MAX_HEADER_BYTES: Final = 1024
"""Maximum length of a Content-Type or Accept that is read: long ones take milliseconds."""

SCORE_DTYPES: Final = ("float32", "<f4")
"""Names of the dtype of scores in an Accept header."""


class Formats:
    """Formats in the order of preference for clients without one, and those of decisions, for requests by name only."""

    def __init__(self, *formats: Format, decisions: tuple[Format, ...] = ()) -> None:
        self.all = formats
        self.decisions = decisions
        self._with_dtypes = {_bare(one.media_type) for one in decisions}
        self._by_name = {name: one for one in formats for name in (one.media_type, *one.aliases)}
        self._best = lru_cache(maxsize=256)(self._find_best)

    @property
    def media_types(self) -> str:
        """The media types, as messages list them."""
        return ", ".join(one.media_type for one in self.all)

    def of_request(self, content_type: str | None) -> Format:
        """Return the format of a request; raises UnsupportedMediaTypeError for no Content-Type or an unknown one."""
        if content_type is None:
            raise UnsupportedMediaTypeError(f"the request has no Content-Type, expected one of {self.media_types}")
        if len(content_type) > MAX_HEADER_BYTES:
            n_bytes = len(content_type)
            raise UnsupportedMediaTypeError(f"Content-Type has {n_bytes} bytes, expected at most {MAX_HEADER_BYTES}")
        found = self._by_name.get(content_type) or self._by_name.get(_bare(content_type))
        if found is None:
            shown = faults.shown(content_type)
            raise UnsupportedMediaTypeError(f"Content-Type is {shown}, expected one of {self.media_types}")
        for part in content_type.split(";")[1:]:
            name, _, value = part.strip().lower().partition("=")
            allowed = found.parameters.get(name)
            if allowed is not None and value.strip('"') not in allowed:
                shown, expected = faults.shown(content_type), f"{found.media_type}; {name}={allowed[0]}"
                raise UnsupportedMediaTypeError(f"Content-Type is {shown}, expected {expected}, or without {name}")
        return found

    def of_response(self, accept: str | None, requested: Format) -> Format:
        """Return the best format of the Accept header, the request's own if several are equally good.

        Raises NotAcceptableError if the header allows none, or is too long.
        """
        if accept is None or accept == "*/*":
            return requested
        if len(accept) > MAX_HEADER_BYTES:
            raise NotAcceptableError(f"Accept has {len(accept)} bytes, expected at most {MAX_HEADER_BYTES}")
        best = self._best(accept, requested)
        if best is None:
            known = ", ".join([self.media_types, *(one.media_type for one in self.decisions)])
            raise NotAcceptableError(f"Accept is {faults.shown(accept)}, expected one of {known}")
        return best

    def _find_best(self, accept: str, requested: Format) -> Format | None:
        qualities: dict[str, float] = {}
        """The best quality of each media range."""
        for part in accept.split(","):
            if part.strip():
                name, quality = self._media_range(part)
                qualities[name] = max(quality, qualities.get(name, 0.0))
        if not qualities:  # an empty list is the same as none
            return requested
        best = max((requested, *self.all, *self.decisions), key=lambda one: _quality(one, qualities))
        return best if _quality(best, qualities) > 0 else None

    def _media_range(self, part: str) -> tuple[str, float]:
        """Read one part of an Accept header: the media range, with an unsupported dtype if any, and the quality."""
        quality, dtype = 1.0, SCORE_DTYPES[0]
        for parameter in part.split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
            elif name.strip().lower() == "dtype":
                dtype = value.strip().strip('"').lower()
        bare = _bare(part)
        known = self._by_name[bare].media_type if bare in self._by_name else bare
        if known in self._with_dtypes and dtype not in SCORE_DTYPES:
            known = f"{known}; dtype={dtype}"
        return known, quality if 0.0 <= quality <= 1.0 else 0.0


def _bare(media_type: str) -> str:
    """Strip the parameters from a media type."""
    return media_type.partition(";")[0].strip().lower()


def _quality(one: Format, qualities: Mapping[str, float]) -> float:
    """Return the quality of the most specific range that matches; decisions match only their own media type."""
    wider = () if one.decisions else (f"{one.media_type.partition('/')[0]}/*", "*/*")
    for pattern in (one.media_type, *wider):
        if pattern in qualities:
            return qualities[pattern]
    return 0.0


FORMATS: Final = Formats(JSON, MSGPACK, RAW, NPY, decisions=(RAW_DECISIONS, NPY_DECISIONS))

"""Content negotiation: which format a request is read in, and which its response is written in."""

import pytest

from service.errors import NotAcceptableError, UnsupportedMediaTypeError
from service.formats.format import Format
from service.formats.json import JSON
from service.formats.msgpack import MSGPACK
from service.formats.npy import NPY
from service.formats.raw import RAW
from service.formats.table import FORMATS


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        ("application/msgpack", MSGPACK),
        ("application/x-msgpack", MSGPACK),
        ("application/vnd.msgpack ;v=1", MSGPACK),
        ("application/octet-stream", RAW),
        ("application/x-npy", NPY),
    ],
)
def test_content_types_name_formats(content_type: str, expected: Format) -> None:
    """Case, parameters and aliases make no difference."""
    assert FORMATS.of_request(content_type) is expected


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/jsonx", "json", "*/*"])
def test_an_unknown_content_type_is_refused(content_type: str | None) -> None:
    """No guess is made, not even for none; the message names the known types."""
    with pytest.raises(UnsupportedMediaTypeError, match=r"Content-Type.*expected one of application/json, .*x-npy"):
        FORMATS.of_request(content_type)


@pytest.mark.parametrize(
    ("accept", "requested", "returned"),
    [
        (None, RAW, RAW),
        ("", RAW, RAW),
        (" , ", MSGPACK, MSGPACK),
        ("*/*", NPY, NPY),
        ("application/*", MSGPACK, MSGPACK),
        ("application/json", RAW, JSON),
        ("application/x-msgpack", JSON, MSGPACK),
        ("text/html, application/json;q=0.5", RAW, JSON),
        ("application/json;q=0.5, application/x-npy;q=0.6", JSON, NPY),
        ("application/json, application/msgpack", MSGPACK, MSGPACK),
        ("application/msgpack, application/json", RAW, JSON),
        ("*/*;q=0.1, application/octet-stream", JSON, RAW),
        ("application/json;q=0, */*", JSON, MSGPACK),
        ("application/json;q=nonsense, application/x-npy;q=0.1", JSON, NPY),
        ("APPLICATION/JSON ; q=1.0", RAW, JSON),
    ],
)
def test_accept_chooses_the_format_of_the_response(accept: str | None, requested: Format, returned: Format) -> None:
    """The best quality wins, specific ranges beat wildcards, and the request's own format breaks ties."""
    assert FORMATS.of_response(accept, requested) is returned


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "application/json;q=nan", "image/*"])
def test_an_accept_header_without_a_known_format_is_refused(accept: str) -> None:
    """The message names the header and the known types."""
    with pytest.raises(NotAcceptableError, match=r"Accept is .*expected one of application/json, .*x-npy"):
        FORMATS.of_response(accept, JSON)

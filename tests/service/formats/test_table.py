"""The table of formats: content negotiation, and what a new format takes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient
from numpy.typing import NDArray

from service.api.app import create_app
from service.errors import NotAcceptableError, UnsupportedMediaTypeError
from service.formats.format import Accepted, BatchReader, Format, Scores
from service.formats.json import JSON
from service.formats.msgpack import MSGPACK
from service.formats.npy import NPY, NPY_DECISIONS
from service.formats.raw import RAW, RAW_DECISIONS
from service.formats.table import FORMATS, MAX_HEADER_BYTES, Formats
from service.model.artefact import Artefact
from service.settings import Settings
from tests.artefacts import RTOL, oracle, sample_events

CONTENT_TYPES = {
    "application/json": JSON,
    "Application/JSON; charset=utf-8": JSON,
    "application/msgpack": MSGPACK,
    "application/x-msgpack": MSGPACK,
    "application/vnd.msgpack ;v=1": MSGPACK,
    "application/octet-stream": RAW,
    "application/x-npy": NPY,
}


def test_content_types_name_formats(subtests: pytest.Subtests) -> None:
    """Case, parameters and aliases make no difference; no guess is made, not even for none."""
    for content_type, expected in CONTENT_TYPES.items():
        with subtests.test(content_type):
            assert FORMATS.of_request(content_type) is expected
    for unknown in (None, "", "text/plain", "application/jsonx", "json", "*/*"):
        with (
            subtests.test(repr(unknown)),
            pytest.raises(UnsupportedMediaTypeError, match=r"Content-Type.*expected one of application/json, .*x-npy"),
        ):
            FORMATS.of_request(unknown)


ACCEPT: list[tuple[str | None, Format, Format]] = [
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
    ("application/octet-stream; dtype=bool", JSON, RAW_DECISIONS),
    ('Application/X-NPY ;q=0.5; DType="bool"', RAW, NPY_DECISIONS),
    ("application/octet-stream; dtype=bool, application/json;q=0.9", JSON, RAW_DECISIONS),
    ("application/octet-stream; dtype=bool;q=0.5, application/x-npy", JSON, NPY),
    ("application/octet-stream; dtype=bool;q=0, */*", RAW, RAW),
    ("application/octet-stream; dtype=bool, */*", RAW, RAW),
    ("application/octet-stream; dtype=float64, application/json;q=0.1", RAW, JSON),
    ("application/octet-stream; dtype=float32", JSON, RAW),
    ('application/x-npy;dtype="<f4"', JSON, NPY),
    ("application/json; dtype=bool", RAW, JSON),
]
"""An Accept header, the format of the request and that of the response."""


def test_accept_chooses_the_format_of_the_response(subtests: pytest.Subtests) -> None:
    """The best quality wins, specific ranges beat wildcards, own format breaks ties; bool has to be asked for."""
    for accept, requested, returned in ACCEPT:
        with subtests.test(f"{accept}, {requested.media_type}"):
            assert FORMATS.of_response(accept, requested) is returned
    refused = ("application/octet-stream; dtype=float64", "application/x-npy; dtype=int8", "text/html; dtype=bool")
    for accept in ("text/html", "application/json;q=0", "application/json;q=nan", "image/*", *refused):
        with (
            subtests.test(accept),
            pytest.raises(
                NotAcceptableError, match=r"Accept is .*expected one of application/json, .*x-npy; dtype=bool$"
            ),
        ):
            FORMATS.of_response(accept, JSON)


def test_long_headers_are_refused() -> None:
    """To read them would take milliseconds; those that are not too long are read."""
    parts = "application/json" + "," * (MAX_HEADER_BYTES - 16)
    assert FORMATS.of_response(parts, RAW) is JSON
    with pytest.raises(NotAcceptableError, match=r"Accept has 1025 bytes, expected at most 1024"):
        FORMATS.of_response(parts + ",", JSON)
    parameters = "application/json" + ";" * (MAX_HEADER_BYTES - 16)
    assert FORMATS.of_request(parameters) is JSON
    with pytest.raises(UnsupportedMediaTypeError, match=r"Content-Type has 1025 bytes, expected at most 1024"):
        FORMATS.of_request(parameters + ";")


class CsvReader(BatchReader):
    """Reads lines of numbers."""

    def _rows(self, piece: bytes, last: bool) -> Iterator[NDArray[Any]]:
        lines, _, self._rest = (self._rest + piece).rpartition(b"\n")
        if lines:
            yield np.loadtxt(lines.decode().splitlines(), delimiter=",", ndmin=2)


class Csv(Format):
    """A format that the service does not have."""

    media_type = "text/csv"

    def _event(self, body: bytes, feature_names: Sequence[str]) -> NDArray[Any]:
        return np.loadtxt(body.decode().splitlines(), delimiter=",")

    def open_batch(self, feature_names: Sequence[str], max_events: int) -> BatchReader:
        """Open a reader."""
        return CsvReader(feature_names, max_events)

    def write_score(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write a line."""
        return self.write_scores(scores, accepted)

    def write_scores(self, scores: Scores, accepted: Accepted | None = None) -> bytes:
        """Write lines."""
        return "".join(f"{score}\n" for score in scores).encode()


def lines(events: NDArray[Any]) -> bytes:
    """Write events as CSV."""
    return "".join(",".join(map(str, event)) + "\n" for event in events).encode()


def test_a_new_format_touches_its_class_and_the_table(artefact: Artefact) -> None:
    """With one more format in the table, events are scored in it and the description has it, on both routes."""
    events, headers = sample_events(5000), {"Content-Type": "text/csv"}
    with TestClient(create_app(Settings(), artefact, Formats(*FORMATS.all, Csv())).main) as client:
        one = client.post("/score", content=lines(events[:1]), headers=headers)
        many = client.post("/score/batch", content=lines(events), headers=headers)
        as_json = client.post("/score/batch", content=lines(events), headers={**headers, "Accept": "application/json"})
        html = client.post("/score", content=lines(events[:1]), headers={"Content-Type": "text/html"})
        nan = client.post("/score", content=b"1,2,nan,4,5", headers=headers)
        paths = client.get("/schema").json()["paths"]
    assert one.headers["content-type"] == many.headers["content-type"] == "text/csv"
    np.testing.assert_allclose(np.loadtxt([one.text]), oracle(events[:1])[0], RTOL)
    np.testing.assert_allclose(np.loadtxt(many.text.splitlines()), oracle(events), RTOL)
    np.testing.assert_allclose(as_json.json()["anomaly_scores"], oracle(events), RTOL)
    assert html.json()["detail"].endswith("application/x-npy, text/csv")
    assert nan.json()["detail"] == "features[2] (feature2) is nan, expected a finite number"
    for path in ("/score", "/score/batch"):
        operation = paths[path]["post"]
        assert "text/csv" in operation["requestBody"]["content"]
        assert "text/csv" in operation["responses"]["200"]["content"]

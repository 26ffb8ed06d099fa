"""Every wrong request of the tables is refused with its reason over a socket, and the next one is served."""

import random
from collections.abc import Iterator
from itertools import count, pairwise, product
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load.formats import JSON
from tests.artefacts import RTOL, oracle, sample_events
from tests.live import LiveService, live_service
from tests.service.api.bad_input import (
    INWARD,
    LONGEST_DETAIL,
    MAX_BODY_BYTES,
    MAX_EVENTS,
    MAX_HEADER_BYTES,
    MAX_URL_BYTES,
    Case,
)
from tests.service.api.open_inference import bad_infer
from tests.service.formats import bad_arrays, bad_documents, bad_json, bad_msgpack
from tests.service.server import bad_heads
from tests.service.server.exchange import Connection, Response

TABLES = {
    "documents": bad_documents.CASES,
    "json": bad_json.CASES,
    "msgpack": bad_msgpack.CASES,
    "arrays": bad_arrays.CASES,
    "heads": bad_heads.CASES,
    "open inference": bad_infer.CASES,
}

pytestmark = pytest.mark.process


class Client:
    """A client that keeps its connection for as long as the service does."""

    def __init__(self, service: LiveService) -> None:
        self._service = service
        self._connection: Connection | None = None
        self._seeds = count(1)

    def ask(self, *pieces: bytes, method: str = "POST") -> Response:
        """Send a request in these pieces, and read its response; disconnects only where that closes the connection."""
        if self._connection is None:
            self._connection = Connection(self._service)
        self._connection.send_pieces(pieces)
        response = self._connection.response(method)
        if response.closes:
            assert self._connection.ended()
            self.close()
        return response

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def check_service(self) -> None:
        """Check that the next event, which is never the same, gets its score, on the same connection if it is there."""
        event = sample_events(1, seed=next(self._seeds))[0]
        body = JSON.write("features", event)
        response = self.ask(Case("", "", headers=(("Content-Type", JSON.media_type),), body=body).head() + body)
        assert response.status == 200
        np.testing.assert_allclose(JSON.read("anomaly_score", response.body), oracle(event[np.newaxis])[0], RTOL)


@pytest.fixture(scope="module")
def service(model_path: Path) -> Iterator[LiveService]:
    """Serve with limits that are soon passed; at the end nothing may have gone wrong inside."""
    limits = {"body": MAX_BODY_BYTES, "header": MAX_HEADER_BYTES, "url": MAX_URL_BYTES}
    flags = [text for name, limit in limits.items() for text in (f"--max-{name}-bytes", str(limit))]
    with live_service(model_path, *flags, "--max-events", str(MAX_EVENTS)) as service:
        yield service
        assert not [line for line in service.log_lines if line["level"] in {"ERROR", "CRITICAL"}]


@pytest.fixture(scope="module")
def client(service: LiveService) -> Iterator[Client]:
    """Connect to it."""
    client = Client(service)
    yield client
    client.close()


def check_refusal(response: Response, case: Case) -> None:
    """Check the status and the message, which names the place and tells nothing of the inside."""
    detail = response.detail()
    assert (response.status, case.detail in detail) == (case.status, True), detail
    assert 0 < len(detail) <= LONGEST_DETAIL
    assert not INWARD.search(detail.replace(case.detail, "")), detail
    assert response.headers["cache-control"] == "no-store"
    assert response.body.startswith(b'{"error":') == case.path.startswith("/v2")


def in_pieces(case: Case) -> list[bytes]:
    """Cut a request in its head and twice in its body, at places that are the same in every run."""
    head, whole = case.head(), case.head() + case.body
    places = random.Random(case.name)
    cuts = {places.randrange(1, len(head)), *(places.randint(len(head), len(whole)) for _ in range(2))}
    return [whole[start:end] for start, end in pairwise([0, *sorted(cuts), len(whole)]) if start < end]


def test_the_table_is_long_and_each_case_is_another() -> None:
    """No two cases send the same bytes."""
    cases = [case for table in TABLES.values() for case in table]
    assert len(cases) >= 1000
    assert len({case.head() + case.body for case in cases}) == len(cases)


@pytest.mark.parametrize("table", TABLES)
def test_a_wrong_request_is_refused_and_the_next_is_answered(
    client: Client, table: str, subtests: pytest.Subtests
) -> None:
    """Whole or in pieces it gets its status and a message that names the place, and then a good one its score."""
    for case in TABLES[table]:
        for pieces in ([case.head() + case.body], in_pieces(case)):
            with subtests.test(f"{case.name}, {len(pieces)} pieces"):
                check_refusal(client.ask(*pieces, method=case.method), case)
                client.check_service()


NOT_ASKED_FOR: list[tuple[str, tuple[tuple[str, str], ...], bytes]] = [
    ("?%00=%zz&&&=", (), b""),
    ("?" + "x" * 900, (), b""),
    ("", (("Accept", "garbage;;q="),), b""),
    ("", (("Accept-Encoding", "gzip;q=-1, *;q=0"), ("Range", "bytes=9-1"), ("If-None-Match", "*")), b""),
    ("", (("Content-Type", "text/html"), ("Content-Encoding", "gzip")), b"not asked for"),
    ("", (("Cookie", "=;;==\xff"), ("Authorization", "Basic \xff"), ("X-Forwarded-For", "-1")), b""),
    ("", (), bytes(MAX_BODY_BYTES // 2)),
]
"""Queries, headers and bodies for routes that take none of them."""


def test_what_a_route_does_not_ask_for_does_not_matter(client: Client, subtests: pytest.Subtests) -> None:
    """Routes that take nothing respond as ever, and the next request on the connection gets its response."""
    for path, (query, headers, body) in product(bad_heads.LIKE_HEALTH, NOT_ASKED_FOR):
        with subtests.test(f"{path}{query[:9]} {headers} {len(body)} bytes"):
            case = Case("", "", 200, "GET", path + query, headers, body)
            assert client.ask(case.head() + case.body).status == 200
            client.check_service()

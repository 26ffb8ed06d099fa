"""Bodies that are refused or never whole: they are neither read for ever, nor taken for a request, nor scored."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.load.formats import RAW
from service.server.discard import DISCARD_BYTES
from tests.artefacts import sample_events
from tests.live import LiveService, live_service, wait_until
from tests.service.server.exchange import Connection, check_score, event_request, post

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def bounded(model_path: Path) -> Iterator[LiveService]:
    """Serve with a small limit."""
    with live_service(model_path, "--max-body-bytes", "100000") as service:
        yield service


@pytest.mark.slow
def test_an_announced_body_is_refused_before_it_comes_and_not_read_for_ever(bounded: LiveService) -> None:
    """A body beyond the limit gets its 413 at once; a client that sends on regardless is cut off in the end."""
    head = post(b"", path="/score/batch", fmt=RAW).replace(b"Content-Length: 0", b"Content-Length: 1000000000")
    with Connection(bounded) as connection:
        connection.send(head)
        assert connection.response().status == 413
        sent, piece = 0, bytes(2**20)
        with suppress(ConnectionError):
            while sent < 2 * DISCARD_BYTES:
                connection.send(piece)
                sent += len(piece)
        assert DISCARD_BYTES - len(piece) <= sent < 2 * DISCARD_BYTES


def test_the_body_of_a_refused_request_is_not_the_next_request(bounded: LiveService) -> None:
    """A request inside the body of one that was refused early is never answered; the one after the body is."""
    inside = event_request()
    with Connection(bounded) as connection:
        connection.send(post(inside, "Content-Encoding: gzip") + event_request())
        response = connection.response()
        assert (response.status, "Content-Encoding is 'gzip'" in response.detail()) == (415, True)
        check_score(connection.response())


def test_a_client_that_leaves_stops_costing_work(bounded: LiveService) -> None:
    """Batches of clients that left before they were scored are counted and not scored, and nothing is logged."""
    body = RAW.write("events", sample_events(4_000))
    before = bounded.metrics()["anomaly_events_scored_total"]
    for _ in range(20):
        with Connection(bounded) as connection:
            connection.send(post(body, fmt=RAW, path="/score/batch")[:-1])
    with Connection(bounded) as connection:
        connection.send(event_request())
        check_score(connection.response())
    wait_until(lambda: bounded.metrics()["anomaly_inflight_requests"] == 0)
    assert bounded.metrics()["anomaly_events_scored_total"] == before + 1
    assert bounded.metrics()["anomaly_requests_total route=/score/batch status=499"] == 20
    assert bounded.log_levels == {"INFO"}

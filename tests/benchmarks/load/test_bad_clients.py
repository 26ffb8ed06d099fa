"""Bad clients get what they should, and the service answers on."""

import pytest

from benchmarks.load.bad_clients import BadClients, bad_requests, judge_refusal
from benchmarks.load.connection import Connection, Response, get
from benchmarks.load.outcomes import Outcome
from service.settings import Settings
from tests.artefacts import N_FEATURES
from tests.live import LiveService, wait_until

pytestmark = pytest.mark.process

SETTINGS = Settings(max_header_bytes=2_000, max_url_bytes=1_000, header_s=1, stall_s=1)


def test_every_bad_request_is_bad(service: LiveService, subtests: pytest.Subtests) -> None:
    """A real service refuses each for its own reason."""
    for request in bad_requests(service.base_url, N_FEATURES, SETTINGS):
        with subtests.test(msg=request.name), Connection(service.base_url) as connection:
            assert judge_refusal(connection.ask(request.data), request.status) == (Outcome.ANSWERED, "")


@pytest.mark.parametrize(
    ("status", "headers", "body", "outcome"),
    [
        (400, b"", b'{"status_code":400,"detail":"why"}', Outcome.ANSWERED),
        (400, b"", b'{"status_code":400,"detail":""}', Outcome.ERROR),
        (400, b"", b"[]", Outcome.ERROR),
        (404, b"", b'{"status_code":404,"detail":"why"}', Outcome.ERROR),
        (503, b"Retry-After: 1\r\n", b"", Outcome.REFUSED),
        (503, b"", b"", Outcome.ERROR),
    ],
)
def test_a_refusal_has_the_status_and_the_reason(status: int, headers: bytes, body: bytes, outcome: Outcome) -> None:
    """Another status, another shape or no reason is an error; overload is neither right nor wrong."""
    assert judge_refusal(Response(status, b"HTTP/1.1 400 \r\n" + headers + b"\r\n", body), 400)[0] is outcome


@pytest.mark.slow
def test_the_service_bears_bad_clients(service: LiveService) -> None:
    """Each bad request, departure and stall gets what it should, and then the service answers."""
    with BadClients(service.base_url, N_FEATURES, SETTINGS, pause_s=0) as bad:
        wait_until(lambda: {"slow headers", "a body that stops"} <= bad.stalls.keys() and len(bad.left) >= 5, 120)
    report = bad.report()
    assert not report.failures, str(report)
    assert report.begun == sum(report.outcomes.values())
    assert get(service.base_url, "/health").status == 200

"""The open-loop load sends what is due, and counts every response."""

import pytest

from benchmarks.load.connection import LostError, Request, encode
from benchmarks.load.open_loop import Arrivals, offer
from benchmarks.targets.launcher import Server
from tests.benchmarks.conftest import BODY

pytestmark = pytest.mark.process


def test_every_request_is_answered_once(bare: Server, three: Request, subtests: pytest.Subtests) -> None:
    """As many requests are timed as are due, also where they wait for a connection."""
    for connections in (1, 8):
        with subtests.test(msg=f"{connections} connections"):
            found = offer([bare.base_url], three, Arrivals.evenly(2_000, 0.1), connections=connections)
            assert found.requests == 200
            assert 0 < found.p50_ms <= found.p99_ms <= found.p999_ms <= found.max_ms


def test_bodies_may_be_longer_than_what_the_system_takes_at_once(bare: Server) -> None:
    """The rest is sent while the responses to others are awaited."""
    body = b"x" * 4_000_000
    long = Request.exact("long", encode(bare.base_url, "POST", "/three", body=body), BODY)
    assert offer([bare.base_url], long, Arrivals.evenly(100, 0.1), connections=4).requests == 10


def test_another_response_fails(bare: Server, three: Request) -> None:
    """A body that is not the right one ends the run, and is shown."""
    wrong = Request.exact("three", three.data, b"{}")
    with pytest.raises(RuntimeError, match=r"three: the body is b'{\"anomaly_scores\""):
        offer([bare.base_url], wrong, Arrivals.evenly(1_000, 0.05), connections=2)


def test_a_closed_connection_fails(bare: Server) -> None:
    """A server that closes a connection ends the run."""
    bad = Request.exact("closing", encode(bare.base_url, "POST", "/three", {"Connection": "close"}), b"")
    with pytest.raises((LostError, RuntimeError)):
        offer([bare.base_url], bad, Arrivals.evenly(100, 0.05), connections=1)

"""The open-loop generator sends what is due, and counts every reply."""

import pytest

from benchmarks.client import Client, encode
from benchmarks.openloop import offer
from benchmarks.servers import Server


@pytest.mark.parametrize("connections", [1, 8])
def test_every_request_is_answered_once(bare: Server, connections: int) -> None:
    """As many requests are timed as are due, also where they wait for a connection."""
    request = encode(bare.url, "POST", "/three", body=b"x" * 100)
    with Client(bare.url) as client:
        reply = client.send(request)
    found = offer(bare.url, request, reply, connections=connections, requests_per_s=2_000, seconds=0.1)
    assert found.requests == 200
    assert 0 < found.p50_ms <= found.p99_ms <= found.p999_ms <= found.max_ms


def test_another_reply_than_the_right_one_fails(bare: Server) -> None:
    """A reply of the right length with another body ends the run, and is shown."""
    request = encode(bare.url, "POST", "/other")
    with Client(bare.url) as client:
        right = client.send(request)
    with pytest.raises(RuntimeError, match="the reply is"):
        offer(bare.url, request, right._replace(body=b"[]"), connections=2, requests_per_s=1_000, seconds=0.05)


def test_a_closed_connection_fails(bare: Server) -> None:
    """A server that hangs up within a reply ends the run."""
    with Client(bare.url) as client:
        reply = client.post("/three", {}, b"")
    with pytest.raises(RuntimeError, match="closed a connection"):
        offer(
            bare.url,
            b"nonsense\r\n\r\n",
            reply._replace(body=b"x" * 500),
            connections=1,
            requests_per_s=100,
            seconds=0.05,
        )

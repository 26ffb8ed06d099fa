"""A message of a few slices does not wait for clients that send many: connections in memory, on one event loop."""

import pytest

from benchmarks.load.formats import JSON
from service.model.artefact import Artefact
from service.server import buffers
from service.server.buffers import SLICE_BYTES
from service.settings import Settings
from tests.service.inference.loops import on_a_loop, pass_iterations
from tests.service.server.exchange import EVENT, event_request
from tests.service.server.memory_connection import Worker, settle

HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
SLICE_REQUESTS = SLICE_BYTES // len(HEALTH) + 1
N_SENDERS, N_REQUESTS = 60, 2 * SLICE_REQUESTS
OK = b"HTTP/1.1 200 "
BODY = JSON.write("features", EVENT) + b" " * 6000
CHUNKED = event_request("Transfer-Encoding: chunked").partition(b"Content-Length")[0]
LARGE = [
    b"%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (CHUNKED, len(BODY), BODY),
    event_request("Cookie: " + "x" * 6000),
]


def test_a_message_of_a_few_slices_is_parsed_before_further_requests(
    artefact: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body in chunks and a long head do not wait a round for each of their slices."""
    monkeypatch.setattr(buffers, "PARSING_S", 1e-6)  # a slice in each iteration of the loop, however fast the machine

    @on_a_loop
    async def work() -> None:
        async with Worker(artefact, Settings()).running() as worker:
            for large in LARGE:
                senders = [worker.connect() for _ in range(N_SENDERS)]
                for sender in senders:
                    sender.receive(HEALTH * N_REQUESTS)
                while senders[0].sent.count(OK) <= SLICE_REQUESTS:  # now the others wait for their second slices
                    await pass_iterations(1)
                client, n_answered = worker.connect(), sum(sender.sent.count(OK) for sender in senders)
                client.receive(large)
                while not client.sent:
                    await pass_iterations(1)
                assert client.sent.startswith(OK)
                n_meanwhile = sum(sender.sent.count(OK) for sender in senders) - n_answered
                assert n_meanwhile < 4 * N_SENDERS  # of 32 in a slice of each
                await settle(*senders)
                assert {sender.sent.count(OK) for sender in senders} == {N_REQUESTS}

    work()

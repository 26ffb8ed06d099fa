"""Closed-loop calls of gRPC: each has one outcome, and what was lost or answered wrongly is named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load.closed_calls import Call, ClosedCalls
from benchmarks.load.outcomes import Outcome
from benchmarks.load.tensors import MODEL
from benchmarks.scenarios.cases import Workload
from benchmarks.scenarios.grpc_cases import GrpcCase
from tests.live import LiveService, live_service

pytestmark = [pytest.mark.process, pytest.mark.slow]

N_CLIENTS = 40


@pytest.fixture
def narrow(model: Path) -> Iterator[LiveService]:
    """Serve the model with room for two of the batches."""
    flags = ("--grpc-port", "0", "--served-name", MODEL, "--max-inflight-events", "2500", "--shutdown-s", "1")
    with live_service(model, *flags) as running:
        running.grpc_address = running.wait_for("ready")["grpc_address"]
        yield running


@pytest.fixture
def call(model: Path, narrow: LiveService) -> Call:
    """Ask for a batch, with its response."""
    case = GrpcCase.of(Workload(str(model)), "grpc-1k")
    return Call(case.name, case.body, case.check(narrow.grpc_address))


def test_every_call_is_answered_or_refused(narrow: LiveService, call: Call) -> None:
    """Of more clients than there is room for some are refused, and each call has one outcome."""
    with ClosedCalls(narrow.grpc_address, call, clients=N_CLIENTS) as calls:
        calls.wait_for_answers(100)
        calls.wait_for(lambda report: report.outcomes[Outcome.REFUSED] >= 10)
    report = calls.report()
    assert not report.failures, str(report)
    assert report.begun == report.outcomes[Outcome.ANSWERED] + report.outcomes[Outcome.REFUSED]


def test_clients_wait_as_a_refusal_asks(narrow: LiveService, call: Call) -> None:
    """Within less than a second each client is refused once at most."""
    with ClosedCalls(narrow.grpc_address, call, clients=N_CLIENTS, obey_retry_after=True) as calls:
        calls.wait_for_answers(20)
    assert calls.report().outcomes[Outcome.REFUSED] <= N_CLIENTS


def test_a_wrong_response_and_a_server_that_is_gone_are_failures(narrow: LiveService, call: Call) -> None:
    """A message that is not the right one is counted apart from a call that ended otherwise."""
    with ClosedCalls(narrow.grpc_address, call._replace(response=b"other"), clients=1) as calls:
        calls.wait_for(lambda report: report.outcomes[Outcome.WRONG] > 0)
    assert calls.report().outcomes[Outcome.ANSWERED] == 0
    wrong = call._replace(body=call.body[:-1])
    with ClosedCalls(narrow.grpc_address, wrong, clients=1) as calls:
        calls.wait_for(lambda report: report.outcomes[Outcome.ERROR] > 0)
    assert calls.report().failures[0].detail.startswith("INVALID_ARGUMENT: ")
    narrow.stop()
    with ClosedCalls(narrow.grpc_address, call, clients=1) as calls:
        calls.wait_for(lambda report: report.outcomes[Outcome.ERROR] > 0)
    assert calls.report().failures[0].detail.startswith("UNAVAILABLE: ")

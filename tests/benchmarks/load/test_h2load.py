"""Load of gRPC by h2load, and what is read of it."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.load.h2load import fire, read_printed
from benchmarks.load.scoring import WrongAnswerError
from benchmarks.load.tensors import MODEL
from benchmarks.report.measurements import CaseRun
from benchmarks.scenarios.cases import Workload
from benchmarks.scenarios.grpc_cases import GrpcCase
from benchmarks.targets.service import service
from service.settings import Settings

PRINTED = """\
finished in 1.00s, 4.00 req/s, 100B/s
requests: 6 total, 4 started, 4 done, {succeeded} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: {succeeded} 2xx, 0 3xx, {refused} 4xx, 0 5xx
traffic: 1.00KB (1024) total, 200B (200) headers (space savings 80.00%), 80B (80) data
"""
LOG = "".join(f"1790000000000000\t200\t{elapsed_us}\n" for elapsed_us in (1000, 2000, 3000, 500_000))


def test_counts_and_latencies_are_read() -> None:
    """The counts are those that h2load prints, the latencies those of its log."""
    run = read_printed(PRINTED.format(succeeded=4, failed=0, refused=0), LOG, 2)
    assert (run.requests, run.requests_per_s, run.bytes_read) == (4, 2.0, 80)
    assert (run.p50_ms, run.max_ms) == (2.5, 500.0)
    assert run.fault(20, in_flight=2) is None
    assert "expected 21 bytes in each" in (run.fault(21, in_flight=2) or "")


def test_refusals_and_broken_streams_are_faults() -> None:
    """A response that is not 2xx, a stream that broke, and no response at all are named."""
    run = read_printed(PRINTED.format(succeeded=3, failed=0, refused=1), LOG, 1)
    assert run.fault(20, in_flight=2) == "1 responses were not 2xx, 0 socket errors"
    run = read_printed(PRINTED.format(succeeded=2, failed=2, refused=0), "", 1)
    assert run.fault(20, in_flight=2) == "0 responses were not 2xx, 2 socket errors"
    with pytest.raises(RuntimeError, match="printed no result: nothing"):
        read_printed("nothing", "", 1)


def test_a_machine_without_h2load_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message names the package."""
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install nghttp2-client"):
        fire("127.0.0.1:1", "/", b"", connections=1, streams=1, seconds=1, core=0)


@pytest.mark.slow
@pytest.mark.process
def test_a_case_over_grpc_is_measured_and_its_scores_are_checked(model: Path) -> None:
    """A run has a rate, latencies and processor time; other scores, and a server that does not answer, are errors."""
    if shutil.which("h2load") is None:
        pytest.skip("h2load is not installed")
    workload = Workload(str(model))
    case = GrpcCase.of(workload, "grpc-single-32")
    core, *_ = os.sched_getaffinity(0)
    with service(model, cores=[core], settings=Settings(workers=1, grpc_port=0, served_name=MODEL)) as server:
        run: CaseRun = case.measure(server, 1, core)
        assert run.requests_per_s == run.events_per_s > 0
        assert 0 < run.p50_ms <= run.p99_ms <= run.p999_ms
        assert (run.cpu_s_per_million_events or 0) > 0
        with pytest.raises(WrongAnswerError, match=re.escape("grpc-single-32: score 0 is ")):
            replace(case, scores=2 * case.scores).measure(server, 1, core)
        with pytest.raises(WrongAnswerError, match="grpc-single-32: INVALID_ARGUMENT: "):
            replace(case, body=case.body[:-1]).check(server.grpc_address)

"""Cases are what their names say, and results compare medians of their runs."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.report import results
from benchmarks.report.measurements import CaseResult, CaseRun, median_of
from benchmarks.report.results import Bench
from benchmarks.scenarios.cases import Workload, bare, plain
from benchmarks.scenarios.grpc_cases import GrpcCase
from benchmarks.scenarios.peers import GRPC_CASES
from tests.artefacts import N_FEATURES

RUN = CaseRun(100.0, 1000.0, 1.0, 2.0, 3.0, None, 120.0)


def test_cases_are_what_their_names_say(model: Path) -> None:
    """The scores that a case expects are the scorer's, for as many events as its name says."""
    workload = Workload(str(model))
    batch, single = workload.case("raw-1k"), workload.case("single-32")
    assert (batch.request.path, len(batch.request.body)) == ("/score/batch", 1_000 * N_FEATURES * 4)
    assert (single.request.path, single.connections, len(single.scores)) == ("/score", 32, 1)
    assert np.array_equal(batch.scores, workload.scorer.score(workload.events[:1_000]))
    # The bare server finds its response by the name of the service's case.
    assert (bare(batch).request.path, bare(batch).target) == ("/raw-1k", "bare")
    assert (plain(batch).request.path, plain(batch).name) == ("/score/batch", "plain-raw-1k")


def test_cases_over_grpc_have_as_many_calls_at_once_as_over_http(model: Path) -> None:
    """Single events are on streams of few connections, none of which has more than the service allows."""
    workload = Workload(str(model))
    cases = [GrpcCase.of(workload, name) for name in GRPC_CASES]
    assert [(len(case.scores), case.in_flight) for case in cases] == [(1, 1), (1, 32), (10_000, 4)]
    assert max(case.streams for case in cases) == 16
    assert len(cases[-1].body) == pytest.approx(10_000 * N_FEATURES * 4, abs=100)


def test_a_median_is_of_each_number() -> None:
    """A number that a run lacks has none."""
    runs = [RUN, CaseRun(300.0, 3000.0, 7.0, 8.0, 9.0, 0.5, 100.0), CaseRun(200.0, 2000.0, 4.0, 5.0, 6.0, 0.1, 110.0)]
    assert median_of(runs) == CaseRun(200.0, 2000.0, 4.0, 5.0, 6.0, None, 110.0)


def test_a_single_event_has_other_ceilings_than_a_batch() -> None:
    """The bare server and plain decoding for whom they were measured, the runtime for batches."""
    rates = {"single-32": 12_000, "bare-single-32": 20_000, "json-10k": 150, "plain-json-10k": 50}
    cases = {}
    for name, rate in rates.items():
        events = 10_000 if name.endswith("10k") else 1
        runs = [CaseRun(part * rate, part * rate * events, 1.0, 2.0, 3.0, 0.5, 120.0) for part in (0.5, 1.0, 1.1)]
        cases[name] = CaseResult(name, "service", "JSON", events, 32, runs)
    in_process = {"256 in a call": [3e6, 3.1e6, 1e6], "4096 in a call": [4e6, 4.1e6, 3.9e6]}
    bench = msgspec.structs.replace(results.read(Bench), in_process=in_process, cases=cases)
    kinds = ("bare", "plain", "in process")
    assert [bench.ceiling(cases["single-32"], kind) for kind in kinds] == [20_000, None, None]
    assert [bench.ceiling(cases["json-10k"], kind) for kind in kinds] == [None, 50, pytest.approx(4e6 / 10_000)]

"""The soak finds each kind of fault."""

from pathlib import Path

import pytest

from benchmarks.load.outcomes import Failure, Outcome, Record, Report
from benchmarks.report.measurements import Event, ProcessSample
from benchmarks.scenarios.soak import Findings, by_kill, judge, run, thinned
from benchmarks.scenarios.soak_actions import recalibrated
from benchmarks.targets.processes import SHORTEST_S
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from tests.artefacts import oracle, sample_events


def report(*outcomes: Outcome) -> Report:
    """Make a report of requests that ended so."""
    record = Record()
    for outcome in outcomes:
        record.end("r", record.begin(), outcome, "gone")
    return record.report()


def test_only_requests_that_were_lost_at_a_kill_are_due_to_it() -> None:
    """A wrong score is never, and a lost request only if the worker died meanwhile."""
    lost = Failure("r", Outcome.RESET, "", 10.0, 12.0)
    assert by_kill(lost, [11.0])
    assert by_kill(lost, [3.0, 12.5])
    assert not by_kill(lost, [3.0, 20.0])
    assert not by_kill(Failure("r", Outcome.WRONG, "", 10.0, 12.0), [11.0])


def test_each_kind_of_fault_is_one() -> None:
    """A lost request, more lost at a kill than the worker had, bursts without refusals, and memory that grows."""
    refused, lost = report(Outcome.REFUSED), report(*[Outcome.RESET] * 3)
    kill = [Event(0.0, "kill")]
    assert judge(Findings(reports={"small": refused}, bursts=[refused])) == []
    assert judge(Findings(faults=["one"])) == ["one"]
    assert len(judge(Findings(reports={"small": lost}))) == 3
    assert judge(Findings(reports={"small": lost}, events=kill, cut_at_most=3)) == []
    [fault] = judge(Findings(reports={"small": lost}, events=kill, cut_at_most=2))
    assert "3 requests were lost at kills of workers that had 2 sockets" in fault
    assert len(judge(Findings(bursts=[lost], events=kill))) == 4
    leak = [ProcessSample(SHORTEST_S * place / 90, 100.0 + place, 10) for place in range(100)]
    [fault] = judge(Findings(samples={"leak": leak}))
    assert "the memory grows" in fault


def test_a_recalibrated_model_is_another_with_the_same_scores(model: Path) -> None:
    """A reload is known by that."""
    artefact = load_artefact(model)
    other = recalibrated(artefact)
    events = sample_events(3)
    assert other.identity != artefact.identity
    assert Scorer(other).score(events) == pytest.approx(oracle(events), rel=1e-5)


def test_few_samples_are_all_kept() -> None:
    """Many are thinned out evenly."""
    assert thinned(list(range(300))) == list(range(300))
    assert thinned(list(range(1000)))[:3] == [0, 4, 8]


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.process
def test_a_short_soak_finds_no_fault() -> None:
    """One reload and all clients."""
    soak = run("exported/autoencoder.onnx", 0.3)
    assert soak.faults == []
    assert soak.count("reload") == 1
    assert soak.requests.keys() == {"small", "churning", "medium", "large", "wrong"}

"""The overload compares runs of one round, and every response must be right."""

import msgspec
import pytest

from benchmarks.load.closed_loop import ClosedLoop
from benchmarks.load.outcomes import Outcome
from benchmarks.load.scoring import WrongAnswerError
from benchmarks.report.measurements import AFTER_RETRY_AFTER, AT_ONCE, CAPACITY, Overloaded, OverloadRun
from benchmarks.scenarios.overload import require_right

RUN = OverloadRun(4, 1000.0, 1.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0, 4.0, 0.5)


def test_runs_are_compared_with_those_just_before() -> None:
    """A machine that is slow for a round is slow in both."""
    rates = {CAPACITY: [100.0, 200.0, 400.0], AT_ONCE: [95.0, 170.0, 380.0], AFTER_RETRY_AFTER: [99.0, 198.0, 396.0]}
    runs = {
        behaviour: [msgspec.structs.replace(RUN, accepted_events_per_s=rate) for rate in listed]
        for behaviour, listed in rates.items()
    }
    case = Overloaded(105_000, runs)
    assert (case.to_capacity(AT_ONCE), case.to_capacity(AFTER_RETRY_AFTER)) == (0.95, 0.99)
    assert case.median[AT_ONCE].accepted_events_per_s == 170


def test_anything_but_an_answer_or_a_refusal_fails() -> None:
    """One wrong response is enough."""
    loop = ClosedLoop("http://127.0.0.1:1", [], clients=0)
    for outcome in (Outcome.ANSWERED, Outcome.REFUSED):
        loop.record.end("r", loop.record.begin(), outcome)
    require_right(loop)
    loop.record.end("r", loop.record.begin(), Outcome.WRONG, "a score")
    with pytest.raises(WrongAnswerError, match="a score"):
        require_right(loop)

"""What became of requests, counted by many threads: exactly one outcome for each that was begun.

It does not know how they are sent.
"""

import threading
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from enum import StrEnum

import msgspec
import numpy as np


class Outcome(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    """200, and each score is that of the model that Model-Version names."""
    REFUSED = "refused"
    """503 with Retry-After."""
    ERROR = "error"
    """Any other status."""
    WRONG = "wrong"
    """200 with a wrong score, of an unknown model, or with bytes that are no scores or more than them."""
    UNSENT = "unsent"
    """There was no connection, and so not a byte of it was written."""
    CLOSED_IDLE = "closed idle"
    """The server had closed the kept-alive connection before any of it arrived: the client sends it again."""
    RESET = "reset"
    """Written, and not a byte came back."""
    CUT = "cut"
    """Written, and the reply ended early."""


FAILURES = frozenset({Outcome.ERROR, Outcome.WRONG, Outcome.RESET, Outcome.CUT})


class Failure(msgspec.Struct, frozen=True):
    """A request that was lost or answered wrongly; the seconds count from the load's start."""

    question: str
    outcome: Outcome
    detail: str
    began_s: float
    ended_s: float


class Seen(msgspec.Struct):
    """How often a model answered, and when first and last."""

    answers: int
    first_s: float
    last_s: float


class Second(msgspec.Struct, frozen=True):
    """What ended within one second, and the latencies in ms of what was answered; 0 where nothing was."""

    second: int
    outcomes: dict[str, int]
    p50_ms: float
    p99_ms: float


class Report(msgspec.Struct, frozen=True):
    """All that was begun, by outcome; `begun` is their sum once the load has ended."""

    begun: int
    outcomes: dict[Outcome, int]
    statuses: dict[int, int]
    versions: dict[str, Seen]
    by_second: list[Second]
    failures: list[Failure]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items() if count)
        return "\n".join([f"{self.begun} requests: {counts}", *map(str, self.failures[:10])])


def merged(reports: Sequence[Report]) -> Report:
    """Add up reports, but for their seconds and versions."""
    outcomes = {outcome: sum(report.outcomes[outcome] for report in reports) for outcome in Outcome}
    statuses: Counter[int] = Counter()
    for report in reports:
        statuses.update(report.statuses)
    failures = [failure for report in reports for failure in report.failures]
    return Report(sum(report.begun for report in reports), outcomes, statuses, {}, [], failures)


class Tally:
    """What became of the requests so far; many threads may write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._begun = 0
        self._outcomes = Counter(dict.fromkeys(Outcome, 0))
        self._statuses: Counter[int] = Counter()
        self._versions: dict[str, Seen] = {}
        self._ended_in: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._latencies_in: defaultdict[int, array[float]] = defaultdict(lambda: array("f"))
        self._past: dict[int, Second] = {}
        self._failures: list[Failure] = []

    def begin(self) -> float:
        """Count a request, and give the time."""
        with self._lock:
            self._begun += 1
        return time.monotonic() - self._started

    def end(
        self, question: str, began: float, outcome: Outcome, detail: str, status: int | None, version: str | None
    ) -> None:
        """Note what became of a request."""
        with self._lock:
            now = time.monotonic() - self._started
            self._outcomes[outcome] += 1
            self._ended_in[int(now)][outcome] += 1
            if status is not None:
                self._statuses[status] += 1
            if outcome is Outcome.ANSWERED and version is not None:
                self._latencies_in[int(now)].append(now - began)
                seen = self._versions.setdefault(version, Seen(0, now, now))
                seen.answers, seen.last_s = seen.answers + 1, now
            if outcome in FAILURES:
                self._failures.append(Failure(question, outcome, detail, began, now))

    def report(self) -> Report:
        """Sum up."""
        with self._lock:
            versions = {name: Seen(seen.answers, seen.first_s, seen.last_s) for name, seen in self._versions.items()}
            seconds = [self._second(second) for second in sorted(self._ended_in)]
            outcomes, statuses = dict(self._outcomes), dict(self._statuses)
            return Report(self._begun, outcomes, statuses, versions, seconds, list(self._failures))

    def _second(self, second: int) -> Second:
        if second in self._past:
            return self._past[second]
        latencies = self._latencies_in.get(second)
        p50, p99 = np.percentile(latencies, [50, 99]).tolist() if latencies else (0.0, 0.0)
        outcomes = {str(outcome): count for outcome, count in self._ended_in[second].items()}
        found = Second(second, outcomes, p50 * 1e3, p99 * 1e3)
        if second < int(time.monotonic() - self._started):  # nothing ends in it any more
            self._past[second] = found
        return found

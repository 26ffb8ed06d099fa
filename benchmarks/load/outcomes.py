"""Outcomes of requests: exactly one for each request."""

import time
from array import array
from collections.abc import Sequence
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.report.measurements import Second


class Outcome(StrEnum):
    """The outcome of a request."""

    ANSWERED = "answered"
    """200 with the expected body."""
    REFUSED = "refused"
    """503 with Retry-After."""
    ERROR = "error"
    """Any other status."""
    WRONG = "wrong"
    """200 with a wrong score, from an unknown model, or with an invalid body."""
    UNSENT = "unsent"
    """No connection could be opened, so no byte of the request was written."""
    CLOSED_IDLE = "closed idle"
    """The server closed the kept-alive connection before any byte arrived; the client sends the request again."""
    RESET = "reset"
    """Sent, but no byte of a response was received."""
    CUT = "cut"
    """Sent, but the response ended early."""


FAILURES = frozenset({Outcome.ERROR, Outcome.WRONG, Outcome.RESET, Outcome.CUT})


class Failure(msgspec.Struct, frozen=True):
    """A lost or wrongly answered request; the seconds count from the start of the load."""

    request: str
    outcome: Outcome
    detail: str
    began_s: float
    ended_s: float


class Seen(msgspec.Struct):
    """The number of responses of a model, and the time of the last one."""

    answers: int
    last_s: float


class Report(msgspec.Struct, frozen=True):
    """The number of requests by outcome; `begun` equals their sum once the load has ended."""

    begun: int
    outcomes: dict[Outcome, int]
    versions: dict[str, Seen]
    failures: list[Failure]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items() if count)
        return "\n".join([f"{self.begun} requests: {counts}", *map(str, self.failures[:10])])


def merged(reports: Sequence[Report]) -> Report:
    """Return the sum of reports of several loads, without their versions."""
    return Report(
        begun=sum(report.begun for report in reports),
        outcomes={outcome: sum(report.outcomes[outcome] for report in reports) for outcome in Outcome},
        versions={},
        failures=[failure for report in reports for failure in report.failures],
    )


class Record:
    """The outcomes of requests so far, written by one thread."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self._begun = 0
        self._ended_s: dict[Outcome, array[float]] = {outcome: array("d") for outcome in Outcome}
        self._latencies_s: dict[Outcome, array[float]] = {outcome: array("d") for outcome in Outcome}
        self._versions: dict[str, Seen] = {}
        self._failures: list[Failure] = []

    def begin(self) -> float:
        """Count a request and return the time."""
        self._begun += 1
        return time.perf_counter()

    def end(
        self,
        request: str,
        began: float,
        outcome: Outcome,
        detail: str = "",
        version: str | None = None,
        ended: float | None = None,
    ) -> float:
        """Record the outcome of a request by its start and end (default: now); return the end."""
        now = time.perf_counter() if ended is None else ended
        self._ended_s[outcome].append(now - self.started)
        self._latencies_s[outcome].append(now - began)
        if outcome is Outcome.ANSWERED and version is not None:
            seen = self._versions.setdefault(version, Seen(0, 0.0))
            seen.answers, seen.last_s = seen.answers + 1, now - self.started
        if outcome in FAILURES:
            self._failures.append(Failure(request, outcome, detail, began - self.started, now - self.started))
        return now

    def seconds_passed(self) -> float:
        """Return the time since the start."""
        return time.perf_counter() - self.started

    def report(self) -> Report:
        """Sum up what has ended so far; any thread may ask."""
        versions = {name: Seen(seen.answers, seen.last_s) for name, seen in self._versions.copy().items()}
        outcomes = {outcome: len(ended) for outcome, ended in self._ended_s.items()}
        return Report(self._begun, outcomes, versions, self._failures.copy())

    def ended_s(self, outcome: Outcome) -> NDArray[np.float64]:
        """Return the times at which requests ended so, in seconds since the start."""
        return np.array(self._ended_s[outcome])

    def latencies_ms(self, outcome: Outcome, since_s: float, until_s: float) -> NDArray[np.float64]:
        """Return the latencies of requests that ended so within a time, in seconds since the start."""
        ended = np.array(self._ended_s[outcome])
        return np.array(self._latencies_s[outcome])[(since_s <= ended) & (ended < until_s)] * 1e3

    def seconds(self) -> list[Second]:
        """Sum up each second that something ended in, once the load has ended."""
        ended = {outcome: np.array(times).astype(int) for outcome, times in self._ended_s.items()}
        length = max((times.max() + 1 for times in ended.values() if len(times)), default=0)
        counts = {outcome: np.bincount(times, minlength=length) for outcome, times in ended.items()}
        order, starts = np.argsort(self._ended_s[Outcome.ANSWERED]), np.cumsum(counts[Outcome.ANSWERED])[:-1]
        answered = np.split(np.array(self._latencies_s[Outcome.ANSWERED])[order] * 1e3, starts) if length else []
        found = []
        for second, latencies in enumerate(answered):
            ended_so = {str(outcome): int(count[second]) for outcome, count in counts.items() if count[second]}
            p50, p99 = np.percentile(latencies, [50, 99]).tolist() if len(latencies) else (0.0, 0.0)
            if ended_so:
                found.append(Second(second, ended_so, p50, p99))
        return found

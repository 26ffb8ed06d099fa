"""Steady load that counts everything: clients that ask without end, and exactly one outcome for each request begun.

Each client is a thread with a kept-alive connection, which checks every score by the model that the reply names. None
tries again in secret: a request sent anew is a request more. It does not know how the service is run or broken.
"""

import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.bodies import JSON, MSGPACK, MSGPACK_BINARY, NPY, RAW, Format
from benchmarks.cases import score_fault
from benchmarks.client import Reply, encode
from benchmarks.exchange import Connection, LostError
from benchmarks.tally import Outcome, Report, Tally

PATIENCE_S = 60
REFUSED_PAUSE_S = 0.02
"""A client that is not let in comes back after this time, and not at once."""

Score = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Events (n, n_features) to the scores (n,) that a model gives them."""


class Question(NamedTuple):
    """A request for scores: `events` (n, n_features) as `body`, alone or as a batch."""

    name: str
    fmt: Format
    events: NDArray[np.float32]
    single: bool
    body: bytes

    @classmethod
    def of(cls, fmt: Format, events: NDArray[np.float32], *, single: bool = False) -> "Question":
        """Ask for the scores of `events` (n, n_features); `single` is for one of them."""
        body = fmt.write("features", events[0]) if single else fmt.write("events", events)
        return cls(f"{fmt.name}, {'single' if single else len(events)}", fmt, events, single, body)

    def request(self, url: str, headers: Mapping[str, str]) -> bytes:
        """Write the request with these headers more."""
        path = "/score" if self.single else "/score/batch"
        return encode(url, "POST", path, {"Content-Type": self.fmt.media_type, **headers}, self.body)

    def fault(self, body: bytes, expected: NDArray[Any]) -> str | None:
        """Say how a reply's body differs from the `expected` scores (n,), or None."""
        try:
            given = self.fmt.read("anomaly_score" if self.single else "anomaly_scores", body)
            return score_fault(np.atleast_1d(np.asarray(given, np.float64)), expected)
        except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
            return f"no scores: {error!r} in {body[:100]!r}"


def mixed_questions(events: NDArray[np.float32], sizes: Sequence[int] = (1, 10, 100)) -> list[Question]:
    """Ask for `events` (n, n_features) one by one and in batches of these sizes, in every format."""
    formats = (JSON, MSGPACK, MSGPACK_BINARY, RAW, NPY)
    singles = [Question.of(fmt, events[place : place + 1], single=True) for place, fmt in enumerate(formats)]
    return singles + [Question.of(fmt, events[:size]) for size in sizes for fmt in formats]


class SteadyLoad:
    """Clients that ask the questions in turn during a `with` block, and what became of each request.

    `scores` tells by a model's identity how it scores, and may grow meanwhile. A client rests for `pause_s` after each
    request, and opens a new connection after `per_connection` of them. At the end of the block each waits for its
    reply. Raises RuntimeError there if an outcome is missing, and what stopped a client of itself.
    """

    def __init__(
        self,
        url: str,
        questions: Sequence[Question],
        scores: Mapping[str, Score],
        *,
        clients: int = 4,
        pause_s: float = 0.0,
        per_connection: int | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._questions = questions
        self._requests = [question.request(url, headers or {}) for question in questions]
        self._scores = scores
        self._expected: dict[tuple[str, int], NDArray[Any]] = {}
        self._right: dict[tuple[str, int], bytes] = {}
        self._pause_s = pause_s
        self._per_connection = per_connection
        self._tls = tls
        self._tally = Tally()
        self._stopping = threading.Event()
        self._crashes: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(place,), daemon=True) for place in range(clients)]

    def __enter__(self) -> "SteadyLoad":
        self._tally = Tally()  # its clock begins now
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._crashes:
            raise self._crashes[0]
        report = self.report()
        if report.begun != sum(report.outcomes.values()):
            raise RuntimeError(f"{report.begun} requests were begun, but {report.outcomes} is what became of them")

    def report(self) -> Report:
        """Sum up what has happened so far."""
        return self._tally.report()

    def wait_for(self, happened: Callable[[Report], bool], patience_s: float = PATIENCE_S) -> Report:
        """Wait until something shows in the report, and give that; raises RuntimeError if it does not."""
        deadline = time.monotonic() + patience_s
        while not happened(report := self.report()):
            if time.monotonic() > deadline or self._crashes:
                raise RuntimeError(f"it did not happen within {patience_s} s: {report} {self._crashes}")
            time.sleep(0.02)
        return report

    def wait_for_answers(self, count: int) -> Report:
        """Wait until `count` more requests are answered rightly."""
        goal = self.report().outcomes[Outcome.ANSWERED] + count
        return self.wait_for(lambda report: report.outcomes[Outcome.ANSWERED] >= goal)

    def _run(self, client: int) -> None:
        try:
            with Connection(self._url, self._tls, PATIENCE_S) as connection:
                # Each begins elsewhere, or all would ask the same at the same time.
                place = client * len(self._questions) // len(self._threads)
                while not self._stopping.is_set():
                    outcome = self._ask(connection, place % len(self._questions))
                    if outcome is not Outcome.CLOSED_IDLE:
                        place += 1
                        self._stopping.wait(REFUSED_PAUSE_S if outcome is Outcome.UNSENT else self._pause_s)
                    if connection.exchanges == self._per_connection:
                        connection.close()
        except BaseException as error:
            self._crashes.append(error)

    def _ask(self, connection: Connection, place: int) -> Outcome:
        """Send a request, and note what became of it."""
        began = self._tally.begin()
        version, status = None, None
        try:
            reply = connection.ask(self._requests[place])
        except LostError as error:
            outcome, detail = Outcome(error.how), str(error)
        else:
            status, version = reply.status, reply.headers.get("model-version")
            outcome, detail = self._judge(place, reply, version)
        self._tally.end(self._questions[place].name, began, outcome, detail, status, version)
        return outcome

    def _judge(self, place: int, reply: Reply, version: str | None) -> tuple[Outcome, str]:
        if reply.status != 200:
            refused = reply.status == 503 and "retry-after" in reply.headers
            return Outcome.REFUSED if refused else Outcome.ERROR, f"{reply.status}: {reply.body[:200]!r}"
        if version is None or version not in self._scores:
            return Outcome.WRONG, f"Model-Version is {version}, expected one of {', '.join(self._scores)}"
        key, question = (version, place), self._questions[place]
        if self._right.get(key) == reply.body:  # decoding is for what was not seen before
            return Outcome.ANSWERED, ""
        if key not in self._expected:
            self._expected[key] = self._scores[version](question.events)
        fault = question.fault(reply.body, self._expected[key])
        if fault:
            return Outcome.WRONG, fault
        self._right[key] = reply.body
        return Outcome.ANSWERED, ""

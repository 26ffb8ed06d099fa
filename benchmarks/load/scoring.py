"""Requests for the scores of real events, and whether the scores that come back are the model's."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.load.connection import Connection, Request, Response, encode
from benchmarks.load.formats import ENCODINGS, Format
from service.model.artefact import GOLDEN_ATOL, GOLDEN_RTOL
from training.events.events import read_events

SAMPLE = Path("exported/sample.h5")
SAMPLE_EVENTS = 100_000

Score = Callable[[NDArray[np.float32]], NDArray[Any]]
"""Events (n, n_features) to the scores (n,) that a model gives them."""


class WrongAnswerError(RuntimeError):
    """A server refused, or gave a score that is not the model's."""


class ScoringRequest(NamedTuple):
    """A request to `path` for the scores of `events` (n, n_features) as `body`, alone or as a batch."""

    name: str
    fmt: Format
    events: NDArray[np.float32]
    single: bool
    body: bytes
    path: str

    @classmethod
    def of(
        cls,
        fmt: Format,
        events: NDArray[np.float32],
        name: str | None = None,
        *,
        single: bool = False,
        path: str | None = None,
    ) -> "ScoringRequest":
        """Ask for the scores of `events` (n, n_features), or with `single` (1, n_features), by default our service."""
        numbers = decimals(events) if fmt.float64 else events
        body = fmt.write("features", numbers[0]) if single else fmt.write("events", numbers)
        name = name or f"{fmt.name}, {'single' if single else len(events)}"
        return cls(name, fmt, events, single, body, path or ("/score" if single else "/score/batch"))

    @property
    def headers(self) -> dict[str, str]:
        """What the request says of its body."""
        return {"Content-Type": self.fmt.media_type, **dict(self.fmt.headers)}

    def encode(self, url: str) -> bytes:
        """Write the request."""
        return encode(url, "POST", self.path, self.headers, self.body)

    def fault(self, body: bytes, expected: NDArray[Any]) -> str | None:
        """Describe how the scores in the body of a response differ from the `expected` (n,), or None."""
        try:
            given = self.fmt.read("anomaly_score" if self.single else "anomaly_scores", body)
            return score_fault(np.atleast_1d(np.asarray(given, np.float64)), expected)
        except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
            return f"no scores: {error!r} in {body[:100]!r}"

    def ask(self, url: str, expected: NDArray[Any]) -> Response:
        """Ask once for the `expected` scores (n,); raises WrongAnswerError for any other response."""
        with Connection(url) as connection:
            response = connection.ask(self.encode(url))
        if response.status // 100 != 2:
            raise WrongAnswerError(f"{self.name}: status {response.status}: {response.body[:200]!r}")
        if fault := self.fault(response.body, expected):
            raise WrongAnswerError(f"{self.name}: {fault}")
        return response


def decimals(events: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return float32 numbers as the float64 numbers with their shortest digits: 641.3, not 641.2999877929688.

    That is what a client sends that reads 641.3 from a file.
    """
    distinct, places = np.unique(events, return_inverse=True)
    return np.array([float(str(value)) for value in distinct])[places].reshape(events.shape)


def score_fault(given: NDArray[Any], expected: NDArray[Any]) -> str | None:
    """Describe how scores (n,) differ from the model's by more than the golden tolerance, or None."""
    if given.shape != expected.shape:
        return f"the scores have the shape {given.shape}, expected {expected.shape}"
    wrong = np.flatnonzero(~np.isclose(given, expected, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL))
    if len(wrong):
        return f"score {wrong[0]} is {given[wrong[0]]}, expected {expected[wrong[0]]}"
    return None


def checked(url: str, requests: Sequence[ScoringRequest], scores: Mapping[str, Score]) -> list[Request]:
    """Prepare requests whose scores are checked by the model that the response names.

    `scores` tells by a model's identity how it scores, and may grow meanwhile.
    """

    def prepare(request: ScoringRequest) -> Request:
        right: dict[str, bytes] = {}

        def fault(response: Response) -> str | None:
            version = response.header("model-version")
            if version is None or version not in scores:
                return f"Model-Version is {version}, expected one of {', '.join(scores)}"
            if right.get(version) == response.body:  # only what was not seen before is decoded
                return None
            found = request.fault(response.body, scores[version](request.events))
            if found is None:
                right[version] = response.body
            return found

        return Request(request.name, request.encode(url), fault)

    return [prepare(request) for request in requests]


def mixed_requests(events: NDArray[np.float32], sizes: Sequence[int] = (1, 10, 100)) -> list[ScoringRequest]:
    """Ask for `events` (n, n_features) one by one and in batches of these sizes, in every format."""
    singles = [ScoringRequest.of(fmt, events[place : place + 1], single=True) for place, fmt in enumerate(ENCODINGS)]
    return singles + [ScoringRequest.of(fmt, events[:size]) for size in sizes for fmt in ENCODINGS]


def largest_requests(events: NDArray[np.float32], max_body_bytes: int) -> list[ScoringRequest]:
    """Ask for `events` (n, n_features), repeated to nearly the largest body that the service takes, in every format."""

    def largest(fmt: Format) -> ScoringRequest:
        per_event = len(ScoringRequest.of(fmt, events).body) / len(events)
        n_events = int(0.995 * max_body_bytes / per_event)  # events differ in their digits
        return ScoringRequest.of(fmt, np.resize(events, (n_events, events.shape[1])))

    return [largest(fmt) for fmt in ENCODINGS]


def read_sample(n_features: int) -> NDArray[np.float32]:
    """Read the shipped sample, repeated to (SAMPLE_EVENTS, n_features)."""
    return np.resize(read_events(SAMPLE).features, (SAMPLE_EVENTS, n_features)).astype(np.float32)

"""The state of all workers that the page shows, as one server-sent event."""

from time import monotonic, time
from typing import Final

import msgspec

from service.drift.comparison import MIN_EVENTS, Drift
from service.drift.monitor import Report
from service.inference.deployment import Deployment
from service.metrics.activity import Activity, add_up
from service.metrics.rows import SECONDS

RETRY_MS: Final = 2000
"""Milliseconds after which the page requests the next event."""

FRESH_S: Final = 0.5
"""Minimum seconds between two states, however many pages request them."""


class Point(msgspec.Struct, frozen=True):
    """A working point, and the number of recent events above its threshold."""

    name: str
    threshold: float
    nominal: float
    """The background efficiency that it was calibrated to."""
    accepted: int


class Scores(msgspec.Struct, frozen=True):
    """Histograms of the score, with the counts below and above the bins."""

    low: float
    high: float
    recent: list[int]
    reference: list[int]


class Quantity(msgspec.Struct, frozen=True):
    """The distance of a feature, or of the score, of recent events from the reference."""

    name: str
    psi: float
    ks: float
    drift: str


class ModelState(msgspec.Struct, frozen=True):
    """The model in use, and its recent events."""

    identity: str
    reference_events: int | None
    window_s: float
    events: int
    sampled_events: int
    min_events: int
    """Minimum number of sampled events for a verdict."""
    points: list[Point]
    scores: Scores | None
    drift: str | None
    """None without a verdict."""
    quantities: list[Quantity]
    """The score first; none without a verdict."""


class State(msgspec.Struct, frozen=True):
    """The state that the page shows."""

    time_s: float
    """Seconds since 1970."""
    status: str
    max_in_flight: dict[str, int]
    """The limits of all serving workers together."""
    duration_bounds_s: tuple[float, ...]
    activity: Activity
    model: ModelState | None


class StateEvents:
    """Writes the state as server-sent events, each of which is a whole response.

    The browser requests the next one by itself, as after a lost connection. So no response stays open: none occupies a
    connection, and none delays a shutdown.
    """

    def __init__(self, deployment: Deployment, max_inflight_events: int, max_inflight_bytes: int) -> None:
        self._deployment = deployment
        self._max_in_flight = {"events": max_inflight_events, "bytes": max_inflight_bytes}
        self._event = b""
        self._written_s = -FRESH_S

    def read(self) -> bytes:
        """Return the current event."""
        if monotonic() - self._written_s >= FRESH_S:
            self._event = b"retry: %d\ndata: %b\n\n" % (RETRY_MS, msgspec.json.encode(self._state()))
            self._written_s = monotonic()
        return self._event

    def _state(self) -> State:
        deployment = self._deployment
        activity, report = add_up(deployment.metrics), deployment.monitor.report()
        limits = {unit: most * len(activity.workers) for unit, most in self._max_in_flight.items()}
        return State(time(), deployment.status, limits, SECONDS, activity, None if report is None else _model(report))


def _model(report: Report) -> ModelState:
    recent, metadata = report.recent, report.artefact.metadata
    accepted = zip(report.points, recent.accepted.tolist(), strict=True)
    distances = report.distances
    return ModelState(
        identity=report.artefact.identity,
        reference_events=None if metadata.reference is None else metadata.reference.events,
        window_s=report.window_s,
        events=recent.events,
        sampled_events=recent.sampled_events,
        min_events=MIN_EVENTS,
        points=[Point(one.name, one.sent_threshold, one.background_efficiency, n) for one, n in accepted],
        scores=_scores(report),
        drift=None if distances is None else _word(max(distances.drift)),
        quantities=_quantities(report),
    )


def _scores(report: Report) -> Scores | None:
    comparison = report.comparison
    if comparison is None:
        return None
    low, *_, high = comparison.score_edges.tolist()
    counts = comparison.score_counts(report.recent.bins), comparison.reference_score_counts
    return Scores(low, high, *[of_one.tolist() for of_one in counts])


def _quantities(report: Report) -> list[Quantity]:
    if report.distances is None:
        return []
    names = [*report.artefact.metadata.feature_names, "anomaly score"]
    psi, ks = report.distances.psi.tolist(), report.distances.ks.tolist()
    *features, score = map(Quantity, names, psi, ks, map(_word, report.distances.drift))
    return [score, *features]


def _word(drift: Drift) -> str:
    return drift.name.lower()

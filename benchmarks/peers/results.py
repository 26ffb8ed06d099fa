"""What a run of the contest found, as it is written to a file; it knows neither the file nor how a table looks."""

from statistics import median

import msgspec

from benchmarks.machine import Machine
from benchmarks.wrk import Load

OURS = "ours"
"""The name of our own service among the peers."""


class Case(msgspec.Struct, frozen=True):
    """One kind of question: medians over the turns, and the turns."""

    requests_per_s: float
    events_per_s: float
    p50_ms: float
    p99_ms: float
    turns: list[Load]
    ours_over_peer: float | None = None
    """How many times the rate of this case our own service had in the same run."""


class PeerResults(msgspec.Struct, frozen=True):
    """A peer's cases by name, of which there are none if it failed; a case that its protocol forbids is missing."""

    name: str
    notes: str
    versions: dict[str, str]
    failure: str | None
    cases: dict[str, Case]


class Results(msgspec.Struct, frozen=True):
    """A whole run; `peers` by the names of their modules, ours among them and first."""

    command: str
    commit: str
    model: str
    machine: Machine
    python: str
    rounds: int
    seconds: float
    batch_events: int
    connections: dict[str, int]
    peers: dict[str, PeerResults]


def summarise(turns: list[Load], events: int) -> Case:
    """Take the medians of turns in which each request had `events` events."""
    rate = median(turn.requests_per_s for turn in turns)
    return Case(
        requests_per_s=round(rate, 1),
        events_per_s=round(rate * events, 1),
        p50_ms=round(median(turn.p50_ms for turn in turns), 3),
        p99_ms=round(median(turn.p99_ms for turn in turns), 3),
        turns=turns,
    )


def with_ratios(peers: dict[str, PeerResults]) -> dict[str, PeerResults]:
    """Add to every case the ratio of the rate of our own service to it, where that took part."""
    reference = peers[OURS].cases
    return {name: msgspec.structs.replace(peer, cases=_compare(peer.cases, reference)) for name, peer in peers.items()}


def _compare(cases: dict[str, Case], reference: dict[str, Case]) -> dict[str, Case]:
    def ratio(key: str) -> float | None:
        return round(reference[key].requests_per_s / cases[key].requests_per_s, 2) if key in reference else None

    return {key: msgspec.structs.replace(case, ours_over_peer=ratio(key)) for key, case in cases.items()}

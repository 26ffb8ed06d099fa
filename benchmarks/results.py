"""What a benchmark found, as it lies in results/*.json.

It does not know how it was measured, or how it is shown.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from benchmarks.machine import Machine
from benchmarks.openloop import Latency
from benchmarks.tally import Report, Second
from benchmarks.vitals import Growth, Vital
from benchmarks.workers import Shares
from training.files import atomic_write

FOLDER = Path(__file__).parent / "results"
BENCH = FOLDER / "bench.json"
MEMORY = FOLDER / "memory.json"
OVERLOAD = FOLDER / "overload.json"
PEERS = FOLDER / "peers.json"
SOAK = FOLDER / "soak.json"
LATENCY_FIGURE = FOLDER / "latency.png"
MEMORY_FIGURE = FOLDER / "memory.png"
SOAK_FIGURE = FOLDER / "soak.png"

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


class Turn(msgspec.Struct, frozen=True):
    """One turn of a case, or the median of each number over its turns; a reply's latency in ms, memory in MB."""

    requests_per_s: float
    events_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cpu_s_per_million_events: float
    peak_mb: float


class Measured(msgspec.Struct, frozen=True):
    """A case, its turns, and its rate over its ceilings'."""

    name: str
    server: str
    fmt: str
    events: int
    connections: int
    body_bytes: int
    reply_bytes: int
    turns: list[Turn]
    median: Turn
    to_bare: float | None = None
    to_in_process: float | None = None
    to_plain: float | None = None


class Point(msgspec.Struct, frozen=True):
    """The latencies at one offered rate: of each turn, and the median of each number."""

    turns: list[Latency]
    median: Latency


class InProcess(msgspec.Struct, frozen=True):
    """Events per second without HTTP, by the way of calling the runtime; `best` is the ceiling."""

    turns: dict[str, list[float]]
    median: dict[str, float]
    best: str

    @property
    def events_per_s(self) -> float:
        """Give the ceiling."""
        return self.median[self.best]


class Beside(msgspec.Struct, frozen=True):
    """Single events while other clients keep posting large batches."""

    batch: str
    batch_connections: int
    batch_events_per_s: float
    batches_checked: int
    single_connections: int
    latency: Latency


class Results(msgspec.Struct, frozen=True):
    """A whole run."""

    model: str
    commit: str
    command: str
    wrk: str
    started: str
    minutes: float
    machine: Machine
    versions: dict[str, str]
    server_core: int
    load_core: int
    events: str
    in_process: InProcess
    cases: dict[str, Measured]
    beside: list[Beside]
    workers: list[Shares]
    latency: dict[str, list[Point]]


class Sample(msgspec.Struct, frozen=True):
    """The service's memory in MB at one time; `peak_mb` is the most since its start."""

    seconds: float
    resident_mb: float
    peak_mb: float


class Memory(msgspec.Struct, frozen=True):
    """A long run with bodies of the largest size."""

    model: str
    commit: str
    command: str
    started: str
    machine: Machine
    versions: dict[str, str]
    load: str
    replies: dict[str, int]
    idle_mb: float
    peak_mb: float
    samples: list[Sample]


class Counts(msgspec.Struct, frozen=True):
    """How many requests of a kind ended how, and how many replies had each status."""

    begun: int
    outcomes: dict[str, int]
    statuses: dict[str, int]

    @classmethod
    def of(cls, report: Report) -> Self:
        """Take the counts of a report."""
        outcomes = {str(outcome): count for outcome, count in report.outcomes.items() if count}
        return cls(report.begun, outcomes, {str(status): report.statuses[status] for status in sorted(report.statuses)})


class Event(msgspec.Struct, frozen=True):
    """What was done to the service, in seconds since the start: reload, refused file, burst, kill."""

    second: float
    what: str


class Soak(msgspec.Struct, frozen=True):
    """A long run with all that goes wrong; `vitals` and `seconds`, those of the small requests, are some of many."""

    models: list[str]
    commit: str
    command: str
    started: str
    machine: Machine
    versions: dict[str, str]
    load: str
    minutes: float
    requests: dict[str, Counts]
    left: dict[str, int]
    log: dict[str, int]
    cut_by_kills: int
    failures: int
    faults: list[str]
    events: list[Event]
    growths: list[Growth]
    vitals: dict[str, list[Vital]]
    seconds: list[Second]

    def count(self, what: str) -> int:
        """Count the events of a kind."""
        return sum(event.what == what for event in self.events)


class Burden(msgspec.Struct, frozen=True):
    """What clients got within a turn, or the median of each number over the turns; 0 where there was nothing.

    Latencies in ms are from a request's first byte to its reply's last. Beside those who ask what is measured a few ask
    for one event and for /health; `client_busy` is the part of their core that all of them took.
    """

    connections: float
    accepted_events_per_s: float
    accepted_p50_ms: float
    accepted_p99_ms: float
    refused_per_s: float
    refused_p50_ms: float
    refused_p99_ms: float
    single_p99_ms: float
    singles_refused: float
    health_p99_ms: float
    client_busy: float


class Overloaded(msgspec.Struct, frozen=True):
    """A case asked of a service with room for some of its requests, by the behaviour of its clients."""

    fmt: str
    events: int
    body_bytes: int
    max_inflight_events: int
    turns: dict[str, list[Burden]]
    median: dict[str, Burden]

    def to_capacity(self, behaviour: str) -> float:
        """Set what was accepted in turns beside what was in the turns before that asked for no more than there is."""
        pairs = zip(self.turns[behaviour], self.turns["capacity"], strict=True)
        return statistics.median(turn.accepted_events_per_s / full.accepted_events_per_s for turn, full in pairs)


class Overload(msgspec.Struct, frozen=True):
    """A whole run with `times` as much load as there is room for."""

    model: str
    commit: str
    command: str
    started: str
    machine: Machine
    versions: dict[str, str]
    times: int
    cases: dict[str, Overloaded]


def median_of(turns: Sequence[S]) -> S:
    """Take the median of each number over the turns."""
    numbers = [msgspec.structs.astuple(turn) for turn in turns]
    return type(turns[0])(*map(statistics.median, zip(*numbers, strict=True)))


def write(path: Path, results: Any) -> None:
    """Write results as JSON, rounded to what can be read of them."""
    document = msgspec.json.format(msgspec.json.encode(_rounded(msgspec.to_builtins(results))), indent=1)
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as whole:
        whole.write_bytes(document + b"\n")


def read(path: Path, kind: type[T]) -> T:
    """Read what `write` wrote; raises SystemExit where there is nothing, or something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise SystemExit(f"{path} is missing; measure first: make bench, make bench-memory") from None
    except msgspec.DecodeError as error:
        raise SystemExit(f"{path} holds no results of this version: {error}; measure again") from None


def _rounded(value: Any) -> Any:
    """Round every number to five digits."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value

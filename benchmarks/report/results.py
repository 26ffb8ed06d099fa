"""What each scenario found, as it lies in results/*.json."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchmarks.report.machine import Machine
from benchmarks.report.measurements import (
    Beside,
    Counts,
    Event,
    Growth,
    InProcess,
    Measured,
    Overloaded,
    PeerResult,
    Point,
    ProcessSample,
    Sample,
    Second,
    Shares,
)
from training.files import atomic_write

FOLDER = Path(__file__).parents[1] / "results"
BENCH = FOLDER / "bench.json"
MEMORY = FOLDER / "memory.json"
OVERLOAD = FOLDER / "overload.json"
PEERS = FOLDER / "peers.json"
SOAK = FOLDER / "soak.json"
LATENCY_FIGURE = FOLDER / "latency.png"
MEMORY_FIGURE = FOLDER / "memory.png"
SOAK_FIGURE = FOLDER / "soak.png"

OURS = "ours"
"""The name of our own service among the peers."""

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """By which command results were measured, when and on what."""

    commit: str
    command: str
    started: str
    machine: Machine
    versions: dict[str, str]


class Bench(Run, frozen=True, kw_only=True):
    """The service beside its ceilings."""

    model: str
    wrk: str
    in_process: InProcess
    cases: dict[str, Measured]
    beside: list[Beside]
    workers: list[Shares]
    latency: dict[str, list[Point]]


class Memory(Run, frozen=True, kw_only=True):
    """A long run with bodies of the largest size."""

    model: str
    load: str
    replies: dict[str, int]
    idle_mb: float
    peak_mb: float
    samples: list[Sample]


class Soak(Run, frozen=True, kw_only=True):
    """A long run with faults; `processes`, and `seconds` of the small requests, are a selection of all samples."""

    models: list[str]
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
    processes: dict[str, list[ProcessSample]]
    seconds: list[Second]

    def count(self, what: str) -> int:
        """Count the events of a kind."""
        return sum(event.what == what for event in self.events)


class Overload(Run, frozen=True, kw_only=True):
    """A run with `times` as much load as there is room for."""

    model: str
    times: int
    cases: dict[str, Overloaded]


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    """Other ways to serve the model; `peers` by the names of their modules, ours among them and first."""

    command: str
    commit: str
    model: str
    machine: Machine
    python: str
    rounds: int
    seconds: float
    batch_events: int
    connections: dict[str, int]
    peers: dict[str, PeerResult]


def median_of(turns: Sequence[S]) -> S:
    """Take the median of each number over the turns."""
    numbers = [msgspec.structs.astuple(turn) for turn in turns]
    return type(turns[0])(*map(statistics.median, zip(*numbers, strict=True)))


def write(path: Path, results: Any) -> None:
    """Write results as JSON, rounded to five digits."""
    document = msgspec.json.format(msgspec.json.encode(_rounded(msgspec.to_builtins(results))), indent=1)
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as whole:
        whole.write_bytes(document + b"\n")


def read(path: Path, kind: type[T]) -> T:
    """Read what `write` wrote; raises RuntimeError where there is nothing, or something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise RuntimeError(f"{path} is missing; measure first: python -m benchmarks {path.stem}") from None
    except msgspec.DecodeError as error:
        raise RuntimeError(f"{path} holds no results of this version: {error}; measure again") from None


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value

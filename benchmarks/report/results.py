"""The results of each scenario, as stored in results/*.json."""

import statistics
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from benchmarks.report.machine import Machine
from benchmarks.report.measurements import (
    BalancedRun,
    Beside,
    CaseResult,
    Counts,
    Event,
    Farm,
    FilesRun,
    FormatCost,
    Growth,
    Latency,
    Loaded,
    MemorySample,
    Overloaded,
    PeerResult,
    Predicted,
    ProcessSample,
    ProtocolRun,
    Second,
    ServiceTime,
    Shares,
    median_of,
)
from training.files import atomic_write

FOLDER = Path(__file__).parents[1] / "results"
OURS = "ours"
"""The name of our own service among the peers."""
NATIVE, JSON_INFER, BINARY_INFER, GRPC = "native HTTP", "/v2, JSON", "/v2, binary", "gRPC"
"""The protocols of the service."""
LEAST_REQUESTS, ROUND_ROBIN = "least requests", "round robin"
"""How balancers choose a server."""
ONE_PROCESS, ALL_CORES, DASK, RAY = "one process", "a process for each core", "Dask", "Ray"
"""The ways to score many files."""

R = TypeVar("R", bound="Result")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement and its provenance: command, time, commit, model and machine."""

    model: str
    commit: str
    command: str
    started: str = ""
    machine: Machine
    versions: dict[str, str]

    @property
    def asked(self) -> str:
        """The command, in its current form if it was a separate module before."""
        today = self.command.replace("-m benchmarks.", "-m benchmarks ")
        return f"`{self.command}`" if today == self.command else f"`{self.command}` (now `{today}`)"

    @property
    def caption(self) -> str:
        """The run that a table shows."""
        facts = [self.asked, self.started[:10], f"commit {self.commit[:10]}{self.commit[40:]}"]
        return ", ".join(filter(None, [*facts, f"model {self.model}"]))

    def errors(self) -> list[str]:
        """Return the faults; with any, the command exits with status 1."""
        return []


class Bench(Result, frozen=True, kw_only=True):
    """The service and its ceilings; `in_process` has the events/s of each run by the way of calling the runtime."""

    wrk: str
    in_process: dict[str, list[float]]
    flop_per_event: int
    """The floating-point operations per event of the graph's matrix products."""
    peak_flop_per_s: list[float]
    """The runtime's rate in a large matrix product, in each run."""
    cases: dict[str, CaseResult]
    beside: list[Beside]
    workers: list[Shares]
    latency: dict[str, list[list[Latency]]]
    """The runs at each offered rate, by server."""

    def in_process_medians(self) -> dict[str, float]:
        """Return the median events/s of each way of calling the runtime; the largest is the ceiling."""
        return {name: statistics.median(rates) for name, rates in self.in_process.items()}

    @property
    def share_of_peak(self) -> float:
        """The runtime's rate of floating-point operations over that of a large matrix product on the same core."""
        return max(self.in_process_medians().values()) * self.flop_per_event / statistics.median(self.peak_flop_per_s)

    def ceiling(self, case: CaseResult, kind: str) -> float | None:
        """Return the requests/s of a ceiling, "bare", "plain" or "in process"; None where the case does not have it."""
        if kind == "in process":
            return max(self.in_process_medians().values()) / case.events if case.events > 1 else None
        other = self.cases.get(f"{kind}-{case.name}")
        return other.median.requests_per_s if other else None


class Memory(Result, frozen=True, kw_only=True):
    """A long run with bodies of the largest size."""

    load: str
    responses: dict[str, int]
    idle_mb: float
    peak_mb: float
    samples: list[MemorySample]


class Overload(Result, frozen=True, kw_only=True):
    """A run with `times` as much load as the service admits."""

    times: int
    cases: dict[str, Overloaded]


class Soak(Result, frozen=True, kw_only=True):
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
        """Return the number of events of a kind."""
        return sum(event.what == what for event in self.events)

    def errors(self) -> list[str]:
        """Return the faults."""
        return self.faults


class Peers(Result, frozen=True, kw_only=True):
    """Other servers for the model; `peers` by their names in the catalogue, starting with ours."""

    rounds: int
    seconds: int
    peers: dict[str, PeerResult]

    def over(self, case: CaseResult | None) -> float | None:
        """Return the ratio of our rate to a peer's in a case, or None if one of them was not measured."""
        ours = self.peers[OURS].cases.get(case.name) if case else None
        return ours.median.requests_per_s / case.median.requests_per_s if case and ours else None

    def errors(self) -> list[str]:
        """Return the reasons why peers were not measured."""
        return [f"{peer.name}: {peer.failure}" for peer in self.peers.values() if peer.failure]


class Protocols(Result, frozen=True, kw_only=True):
    """The same events over each protocol: the runs by case and protocol."""

    rounds: int
    seconds: int
    cases: dict[str, dict[str, list[ProtocolRun]]]

    def medians(self, case: str) -> dict[str, ProtocolRun]:
        """Return the median of each protocol."""
        return {
            protocol: ProtocolRun(
                statistics.median(run.requests_per_s for run in runs),
                statistics.median(run.cpu_us_per_request for run in runs),
            )
            for protocol, runs in self.cases[case].items()
        }


class Balancers(Result, frozen=True, kw_only=True):
    """A fast and a slow server behind each balancer: the runs by balancer, load and how it chooses.

    A load is a fraction of what `fast_per_s` has for the round, the requests/s that the fast server alone can do.
    `costs` are those of the balancer alone.
    """

    rounds: int
    seconds: int
    fast_per_s: list[float]
    slow_per_s: list[float]
    runs: dict[str, dict[str, dict[str, list[BalancedRun]]]]
    costs: dict[str, list[CaseResult]]

    def medians(self, balancer: str, load: str) -> dict[str, BalancedRun]:
        """Return the median of each balancing method."""
        return {policy: median_of(runs) for policy, runs in self.runs[balancer][load].items()}


class Scaling(Result, frozen=True, kw_only=True):
    """The capacity of one core in each format, and a simulation of queues for one, two and many workers."""

    formats: dict[str, FormatCost]
    request: str
    service_times: dict[int, list[ServiceTime]]
    """Of each worker, by the number of workers that are used; medians over the rounds."""
    checks: list[Loaded]
    curve: list[Predicted]
    times_service: float
    """In how many times the mean service of a busy worker the workers of `farms` answer 99 %."""
    farms: list[Farm]


class Files(Result, frozen=True, kw_only=True):
    """Many files of so many events scored in each way, with outputs of the same bytes: the runs of each way."""

    files: int
    events: int
    ways: dict[str, list[FilesRun]]

    def events_per_s(self, way: str) -> float:
        """Return the median rate after the start-up."""
        return statistics.median(self.files * self.events / (run.seconds - run.startup_s) for run in self.ways[way])

    def over(self, way: str, other: str) -> float:
        """Compare the rates of two ways."""
        return self.events_per_s(way) / self.events_per_s(other)


def file_of(kind: type[Result]) -> Path:
    """Return the file that holds the results of a kind."""
    return FOLDER / f"{kind.__name__.lower()}.json"


def write(found: Result) -> None:
    """Write results as JSON, rounded to five significant digits."""
    floats = msgspec.convert(msgspec.to_builtins(found), type(found))  # also for integers
    document = msgspec.json.format(msgspec.json.encode(_rounded(msgspec.to_builtins(floats))), indent=1)
    path = file_of(type(found))
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as whole:
        whole.write_bytes(document + b"\n")


def read(kind: type[R]) -> R:
    """Read results written by `write`. Raises RuntimeError if they are missing or invalid."""
    path = file_of(kind)
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

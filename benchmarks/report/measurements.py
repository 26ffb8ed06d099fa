"""The parts of results, for one run, case or process. Latencies are in ms, memory in MB (10^6 bytes)."""

import statistics
from collections.abc import Sequence
from typing import TypeVar

import msgspec

CAPACITY, AT_ONCE, AFTER_RETRY_AFTER = "capacity", "again at once", "after Retry-After"
"""The behaviours of clients under overload."""

S = TypeVar("S", bound=msgspec.Struct)


def median_of(runs: Sequence[S]) -> S:
    """Return the median of each number over the runs; a number that was not measured is None."""
    columns = zip(*map(msgspec.structs.astuple, runs), strict=True)
    return type(runs[0])(*(None if None in column else statistics.median(column) for column in columns))


class LoadRun(msgspec.Struct, frozen=True):
    """What one run of wrk or h2load saw; the bytes are those of heads and bodies together, with h2load those of bodies.

    wrk adds to the latencies the requests that a stalled connection could not send (coordinated omission).
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    non_2xx: int
    errors: int
    bytes_read: int

    @property
    def requests_per_s(self) -> float:
        """The rate of responses."""
        return self.requests / self.seconds

    def fault(self, response_bytes: int | None, in_flight: int) -> str | None:
        """Describe a fault of the run, or return None; each response has `response_bytes`, if these are known."""
        if self.non_2xx or self.errors:
            return f"{self.non_2xx} responses were not 2xx, {self.errors} socket errors"
        if not self.requests:
            return f"no response came in {self.seconds:.1f} s"
        if response_bytes is not None:
            beyond = self.bytes_read - self.requests * response_bytes
            if not 0 <= beyond <= in_flight * response_bytes:  # at the end each may be within its response
                return f"{self.bytes_read} bytes in {self.requests} responses, expected {response_bytes} bytes in each"
        return None


class Latency(msgspec.Struct, frozen=True):
    """Latencies from the due time of a request to the last byte; `late_p99_ms` is the delay of the generator."""

    offered_per_s: float
    answered_per_s: float
    requests: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_p99_ms: float


class CaseRun(msgspec.Struct, frozen=True):
    """One run of a case; processor time and peak memory are those of all processes of the server."""

    requests_per_s: float
    events_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cpu_s_per_million_events: float | None
    peak_mb: float | None


class CaseResult(msgspec.Struct, frozen=True):
    """All runs of a case."""

    name: str
    server: str
    fmt: str
    events: int
    connections: int
    runs: list[CaseRun]

    @property
    def median(self) -> CaseRun:
        """The median of each number."""
        return median_of(self.runs)

    @property
    def cpu_us_per_request(self) -> float | None:
        """The processor time per request in microseconds; 1 us per event is 1 s per million events."""
        per_event_us = self.median.cpu_s_per_million_events
        return None if per_event_us is None else per_event_us * self.events


class Beside(msgspec.Struct, frozen=True):
    """Single events while other clients post large batches."""

    batch: str
    batch_connections: int
    batch_events_per_s: float
    batches_checked: int
    single_connections: int
    latency: Latency


class Shares(msgspec.Struct, frozen=True):
    """The requests that each worker answered, the busiest first, of a load on some connections."""

    connections: int
    requests: list[int]
    requests_per_s: float

    @property
    def busiest(self) -> float:
        """The busiest worker's fraction of all requests."""
        return max(self.requests) / sum(self.requests)


class MemorySample(msgspec.Struct, frozen=True):
    """The memory of the service at one time; `peak_mb` is the peak since its start."""

    seconds: float
    resident_mb: float
    peak_mb: float


class ProcessSample(msgspec.Struct, frozen=True):
    """A process at one time, in seconds since the watch began."""

    second: float
    resident_mb: float
    descriptors: int


class Growth(msgspec.Struct, frozen=True):
    """The medians of a process's second and last quarter."""

    process: str
    seconds: float
    second_quarter_mb: float
    last_quarter_mb: float
    second_quarter_descriptors: float
    last_quarter_descriptors: float

    @property
    def flat(self) -> bool:
        """Whether the memory is stable: the last quarter is at most 5 % and 10 MB above the second."""
        return self.last_quarter_mb <= self.second_quarter_mb * 1.05 + 10


class Second(msgspec.Struct, frozen=True):
    """The requests that ended within one second, and the latencies of those answered; 0 without any."""

    second: int
    outcomes: dict[str, int]
    p50_ms: float
    p99_ms: float


class Counts(msgspec.Struct, frozen=True):
    """The number of requests of a kind by outcome."""

    begun: int
    outcomes: dict[str, int]


class Event(msgspec.Struct, frozen=True):
    """An action on the service, in seconds since the start: reload, refused file, burst, kill."""

    second: float
    what: str


class OverloadRun(msgspec.Struct, frozen=True):
    """What clients got within one run; 0 where there was nothing.

    Latencies are from a request's first byte to its response's last. A few clients beside ask for one event and for
    /health; `client_busy` is the fraction of their core that all clients took.
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
    """A case asked of a service with room for some of its requests: the runs of each behaviour of its clients."""

    max_inflight_events: int
    runs: dict[str, list[OverloadRun]]

    @property
    def median(self) -> dict[str, OverloadRun]:
        """The median of each number, by behaviour."""
        return {behaviour: median_of(runs) for behaviour, runs in self.runs.items()}

    def to_capacity(self, behaviour: str) -> float:
        """Compare the accepted requests in each run with the run at capacity of the same round."""
        pairs = zip(self.runs[behaviour], self.runs[CAPACITY], strict=True)
        return statistics.median(run.accepted_events_per_s / full.accepted_events_per_s for run, full in pairs)


class ProtocolRun(msgspec.Struct, frozen=True):
    """The answered requests of one run over a protocol."""

    requests_per_s: float
    cpu_us_per_request: float


class BalancedRun(msgspec.Struct, frozen=True):
    """The latencies of one run through a balancer, and the fraction of requests that the slow server got."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    slow_share: float


class ServiceTime(msgspec.Struct, frozen=True):
    """The service time of a worker for a request directly after another one, and after an idle time."""

    busy_mean_ms: float
    busy_p99_ms: float
    idle_mean_ms: float
    idle_p99_ms: float


class Check(msgspec.Struct, frozen=True):
    """Latencies at one load: measured, and predicted from service times measured just before."""

    measured: Latency
    predicted_p50_ms: float
    predicted_p99_ms: float

    @property
    def ratio(self) -> float:
        """The predicted over the measured 99th percentile."""
        return self.predicted_p99_ms / self.measured.p99_ms


class Loaded(msgspec.Struct, frozen=True):
    """Several workers at a load, which is a fraction of their capacity."""

    workers: int
    load: float
    runs: list[Check]

    @property
    def measured(self) -> Latency:
        """The median of each measured number."""
        return median_of([run.measured for run in self.runs])

    @property
    def predicted_ms(self) -> tuple[float, float]:
        """The medians of the predicted 50th and 99th percentiles."""
        return (
            statistics.median(run.predicted_p50_ms for run in self.runs),
            statistics.median(run.predicted_p99_ms for run in self.runs),
        )

    @property
    def ratio(self) -> float:
        """The median over the runs of the predicted over the measured 99th percentile."""
        return statistics.median(run.ratio for run in self.runs)


class Predicted(msgspec.Struct, frozen=True):
    """The simulated latencies of several workers at a load."""

    workers: int
    load: float
    p50_ms: float
    p99_ms: float


class Farm(msgspec.Struct, frozen=True):
    """The highest load at which several workers behind a balancer answer 99 % of the requests in time."""

    workers: int
    balancer: str
    load: float


class FormatCost(msgspec.Struct, frozen=True):
    """A case of one worker on one core, and its bytes on the wire for each event, heads included."""

    case: CaseResult
    request_bytes: float
    response_bytes: float


class FilesRun(msgspec.Struct, frozen=True):
    """Many files scored once by a command; the memory is the sum of the peaks of its processes."""

    startup_s: float
    """The same command over one event for each core, from its start to its end."""
    seconds: float
    driver_mb: float
    all_mb: float


class PeerResult(msgspec.Struct, frozen=True):
    """A peer's cases by name; empty if it failed."""

    name: str
    notes: str
    versions: dict[str, str]
    failure: str | None
    cases: dict[str, CaseResult]

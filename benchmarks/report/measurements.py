"""The parts of results: what one turn, one case or one process showed."""

import statistics

import msgspec

CAPACITY, AT_ONCE, AS_TOLD = "capacity", "again at once", "after Retry-After"
"""The behaviours of clients under overload."""


class WrkRun(msgspec.Struct, frozen=True):
    """What one run of wrk saw: latencies in ms, and the bytes of heads and bodies together.

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

    def fault(self, response_bytes: int, connections: int) -> str | None:
        """Say what is wrong with the run, or None; each response, head and body, should have `response_bytes`."""
        if self.non_2xx or self.errors:
            return f"{self.non_2xx} responses were not 2xx, {self.errors} socket errors"
        if not self.requests:
            return "no response came"
        beyond = self.bytes_read - self.requests * response_bytes
        if not 0 <= beyond <= connections * response_bytes:  # at the end each connection may be within a response
            return f"{self.bytes_read} bytes in {self.requests} responses, expected {response_bytes} bytes in each"
        return None


class Latency(msgspec.Struct, frozen=True):
    """Latencies in ms, from when a request was due to its last byte; `late_p99_ms` is how late the generator was."""

    offered_per_s: float
    answered_per_s: float
    requests: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_p99_ms: float


class Turn(msgspec.Struct, frozen=True):
    """One turn of a case, or the median of each number over its turns; latencies in ms, memory in MB."""

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
        """The ceiling."""
        return self.median[self.best]


class Beside(msgspec.Struct, frozen=True):
    """Single events while other clients keep posting large batches."""

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
        """The busiest worker's fraction of all."""
        return max(self.requests) / sum(self.requests)


class Sample(msgspec.Struct, frozen=True):
    """The service's memory in MB at one time; `peak_mb` is the most since its start."""

    seconds: float
    resident_mb: float
    peak_mb: float


class ProcessSample(msgspec.Struct, frozen=True):
    """A process at one time, in seconds since the watch began; MB are 10^6 bytes."""

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
        """Whether the memory has stayed: the last quarter is at most 5 % and 10 MB above the second."""
        return self.last_quarter_mb <= self.second_quarter_mb * 1.05 + 10


class Second(msgspec.Struct, frozen=True):
    """What ended within one second, and the latencies in ms of what was answered; 0 where nothing was."""

    second: int
    outcomes: dict[str, int]
    p50_ms: float
    p99_ms: float


class Counts(msgspec.Struct, frozen=True):
    """How many requests of a kind ended how."""

    begun: int
    outcomes: dict[str, int]


class Event(msgspec.Struct, frozen=True):
    """What was done to the service, in seconds since the start: reload, refused file, burst, kill."""

    second: float
    what: str


class OverloadTurn(msgspec.Struct, frozen=True):
    """What clients got within a turn, or the median of each number over the turns; 0 where there was nothing.

    Latencies in ms are from a request's first byte to its response's last. A few clients beside ask for one event and
    for /health; `client_busy` is the fraction of their core that all clients took.
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

    max_inflight_events: int
    turns: dict[str, list[OverloadTurn]]
    median: dict[str, OverloadTurn]

    def to_capacity(self, behaviour: str) -> float:
        """Compare what was accepted in each turn with the turn at capacity of the same round."""
        pairs = zip(self.turns[behaviour], self.turns[CAPACITY], strict=True)
        return statistics.median(turn.accepted_events_per_s / full.accepted_events_per_s for turn, full in pairs)


class PeerCase(msgspec.Struct, frozen=True):
    """One kind of question: medians over the turns, and the turns."""

    requests_per_s: float
    events_per_s: float
    p50_ms: float
    p99_ms: float
    turns: list[WrkRun]
    ours_over_peer: float | None = None
    """How many times the rate of this case our own service had in the same run."""


class PeerResult(msgspec.Struct, frozen=True):
    """A peer's cases by name, of which there are none if it failed; a case that its protocol forbids is missing."""

    name: str
    notes: str
    versions: dict[str, str]
    failure: str | None
    cases: dict[str, PeerCase]

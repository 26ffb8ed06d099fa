"""Tables of the service and other servers, its peers."""

from collections.abc import Sequence

from benchmarks.report.bench import LATENCIES, rates
from benchmarks.report.markdown import number, table, versions
from benchmarks.report.measurements import CaseResult
from benchmarks.report.results import GRPC, OURS, Peers

PEER_RATES = ("requests/s", "CPU µs / request", "events/s", *LATENCIES, "MB")

PEERS_OPENING = """\
We wrote one of the servers, and chose the cases: read this with that in mind. Model servers do more than we do \
(model repositories, many models and frameworks, batching across requests, scaling over machines, GPUs); here they \
serve one small graph from one core, which is what we were built for and they were not. Web servers with an \
application of a few lines do less: they have no limits, timeouts or metrics. Each is configured as its documentation \
advises, to our best knowledge: corrections are welcome."""


def peers_parts(found: Peers) -> dict[str, str]:
    """Return the bias first, then all rates, a table for each case, and the configuration of each peer."""
    cases = {name: case for peer in found.peers.values() for name, case in peer.cases.items()}
    sections = [
        PEERS_OPENING,
        "*Ours* is how many times the rate of this service is that of the other in the same run: first in every case, "
        f"then as a column of each. {winners(found)}",
        overview(found, list(cases)),
        *(f"**{case_title(case)}**\n\n{peer_table(found, name)}" for name, case in cases.items()),
        "\n".join(f"- Not measured: {error}" for error in found.errors()),
        "\n".join(f"- **{one.name}**: {one.notes} ({versions(one.versions)})" for one in found.peers.values()),
        f"One worker on one core; wrk, and h2load for gRPC, on another. Medians over {found.rounds} runs of "
        f"{found.seconds:g} s, in which the peers alternate; every peer's scores are compared with the scorer's own "
        "before and after each run, and a response that is not 2xx fails the peer.",
    ]
    return {"Peers": "\n\n".join(filter(None, sections))}


def case_title(case: CaseResult) -> str:
    """Say what is asked on how many connections, or by how many calls at once."""
    asked = "Single events" if case.events == 1 else f"Batches of {case.events:,}"
    several = "s" * (case.connections > 1)
    if case.fmt == GRPC:
        return f"{asked} over gRPC, {case.connections} call{several} at once"
    fmt = "" if case.events == 1 else f" in {case.name.partition('-')[0].replace('json', 'JSON')}"
    return f"{asked}{fmt}, {case.connections} connection{several}"


def overview(found: Peers, names: Sequence[str]) -> str:
    """Return a row for each measured peer: the rate of the service over its own in each case."""
    rows = [
        [peer.name, *(number(found.over(peer.cases.get(name))) for name in names)]
        for peer in found.peers.values()
        if peer.cases
    ]
    return table(["", *names], rows, "l" + "r" * len(names))


def peer_table(found: Peers, name: str) -> str:
    """Return a row for each peer that has the case."""
    rows = [["", *PEER_RATES, "ours"]] + [
        [peer.name, *peer_rates(case), number(found.over(case))]
        for peer in found.peers.values()
        if (case := peer.cases.get(name))
    ]
    measured = [column for column in zip(*rows, strict=True) if set(column[1:]) != {number(None)}]
    head, *cells = zip(*measured, strict=True)
    return table(head, cells, "l" + "r" * (len(head) - 1))


def peer_rates(case: CaseResult) -> list[str]:
    """Return the cells of PEER_RATES."""
    requests, events, *latency, _, memory = rates(case.median)
    return [requests, number(case.cpu_us_per_request), events, *latency, memory]


def winners(found: Peers) -> str:
    """Return a sentence on every case in which a peer has a higher rate or a lower p99 latency than the service."""
    better = [
        f"{peer.name} {what} {name}"
        for name, ours in found.peers[OURS].cases.items()
        for peer in found.peers.values()
        if (case := peer.cases.get(name))
        for what, wins in (
            ("has a higher rate in", case.median.requests_per_s > ours.median.requests_per_s),
            ("has a shorter p99 latency in", case.median.p99_ms < ours.median.p99_ms),
        )
        if wins
    ]
    return f"Where a peer does better: {'; '.join(better)}." if better else "No peer did better."

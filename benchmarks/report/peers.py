"""Other ways to serve the model beside ours, in Markdown."""

from benchmarks.report.measurements import PeerCase, PeerResult
from benchmarks.report.results import OURS, Peers

OPENING = """\
We wrote one of the servers, and chose the cases: read this with that in mind. The others do more than we do \
(model repositories, many models and frameworks, batching across requests, scaling over machines, GPUs); here they \
serve one small graph from one core, which is what we were built for and they were not. Each is configured as its \
documentation advises, to our best knowledge: corrections are welcome."""

CASES = {"single": "single events", "json_batch": "JSON batches", "binary_batch": "binary batches"}


def peers_text(results: Peers) -> str:
    """Write the bias first, then the table, where a peer wins, how each is configured, and how it was measured."""
    connections = results.connections
    header = [
        "| | single events: requests/s | p50, p99 in ms | JSON batches: M events/s | binary batches: M events/s |",
        "|---|---|---|---|---|",
    ]
    sections = [
        OPENING,
        "\n".join([*header, *(_row(peer) for peer in results.peers.values())]),
        "In brackets: how many times that our service reached in the same run.",
        _winners(results.peers[OURS], list(results.peers.values())) if results.peers[OURS].cases else "",
        "\n".join(f"- **{peer.name}**: {peer.notes} {_versions(peer)}" for peer in results.peers.values()),
        (
            f"`{results.command}` at {results.commit} with the model {results.model}: one worker on one core, wrk on "
            f"another, both of {results.machine.processor} ({results.machine.cores} cores), Python "
            f"{results.python}. Batches of {results.batch_events:,} events. Connections: "
            + ", ".join(f"{connections[case]} for {name}" for case, name in CASES.items())
            + f". Medians over {results.rounds} turns of {results.seconds:g} s, in which the peers alternate; every "
            "peer's scores are held against the scorer's own before and after each turn, and a response that is not "
            "2xx fails the peer."
        ),
    ]
    return "\n\n".join(filter(None, sections))


def _row(peer: PeerResult) -> str:
    if peer.failure:
        return f"| {peer.name} | not measured: {peer.failure.replace('|', '/')} | | | |"
    single, json_batch, binary_batch = (peer.cases.get(case) for case in CASES)
    cells = [
        f"{single.requests_per_s:,.0f}{_ratio(single)}" if single else "—",
        f"{single.p50_ms:.2f}, {single.p99_ms:.2f}" if single else "—",
        *(f"{case.events_per_s / 1e6:.2f}{_ratio(case)}" if case else "—" for case in (json_batch, binary_batch)),
    ]
    return f"| {peer.name} | {' | '.join(cells)} |"


def _ratio(case: PeerCase) -> str:
    return "" if case.ours_over_peer is None else f" ({case.ours_over_peer:.2g} x)"


def _winners(ours: PeerResult, peers: list[PeerResult]) -> str:
    rates = [
        f"{peer.name} scores {title} faster"
        for case, title in CASES.items()
        for peer in peers
        if case in peer.cases and peer.cases[case].requests_per_s > ours.cases[case].requests_per_s
    ]
    tails = [
        f"{peer.name} has a shorter p99 latency for single events"
        for peer in peers
        if "single" in peer.cases and peer.cases["single"].p99_ms < ours.cases["single"].p99_ms
    ]
    return (
        f"Where a peer does better than we do: {'; '.join(rates + tails)}." if rates or tails else "No peer did better."
    )


def _versions(peer: PeerResult) -> str:
    return f"({', '.join(f'{name} {version}' for name, version in peer.versions.items())})" if peer.versions else ""

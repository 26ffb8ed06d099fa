"""Tables of the results: a short one for users, all of them for developers."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import results
from benchmarks.report.figures import draw
from benchmarks.report.goals import goal_table
from benchmarks.report.markdown import fill, number, table
from benchmarks.report.measurements import CaseResult, CaseRun, Latency, median_of
from benchmarks.report.results import (
    GRPC,
    NATIVE,
    ONE_PROCESS,
    OURS,
    Balancers,
    Bench,
    Files,
    Memory,
    Overload,
    Peers,
    Protocols,
    Result,
    Scaling,
    Soak,
)
from benchmarks.report.scaling import scaling_parts

ROOT = Path(__file__).parents[2]
SHORT_PAGE = ROOT / "docs" / "performance.md"
LONG_PAGE = ROOT / "benchmarks" / "README.md"
SCALING_PAGE = ROOT / "docs" / "scaling.md"
WITHOUT_GOALS = Soak | Overload | Scaling
"""Overload shows its goals in its own part, and so does scaling, on a page of its own."""
LATENCIES, LATE = ("p50 ms", "p99 ms", "p99.9 ms"), "client late, p99 ms"
RATES = ("requests/s", "events/s", *LATENCIES, "CPU s / M events", "MB")
PEER_RATES = ("requests/s", "CPU µs / request", "events/s", *LATENCIES, "MB")

PEERS_OPENING = """\
We wrote one of the servers, and chose the cases: read this with that in mind. Model servers do more than we do \
(model repositories, many models and frameworks, batching across requests, scaling over machines, GPUs); here they \
serve one small graph from one core, which is what we were built for and they were not. Web servers with an \
application of a few lines do less: they have no limits, timeouts or metrics. Each is configured as its documentation \
advises, to our best knowledge: corrections are welcome."""


def write_pages() -> None:
    """Write the tables of the pages and all figures; raises RuntimeError where results or markers are missing."""
    found: list[Result] = [results.read(kind) for kind in SECTIONS]
    # Runs of different machines, commits or models share no table.
    goals = [one for one in found if not isinstance(one, WITHOUT_GOALS)]
    reached = "\n\n".join(f"{one.caption}:\n\n{goal_table(one)}" for one in goals)
    fill(SHORT_PAGE, reached)
    machines = "\n".join(f"- {one.asked}: {measured_on(one)}" for one in found)
    parts = [page(one) for one in found if not isinstance(one, Scaling)]
    pages = [f"### What must be reached\n\n{reached}", *parts, f"### Machines and versions\n\n{machines}"]
    fill(LONG_PAGE, "\n\n".join(pages))
    fill(SCALING_PAGE, page(results.read(Scaling)))
    for one in found:
        draw(one)


def text(found: Result) -> str:
    """Write all that a result shows, for a terminal."""
    goals = [] if isinstance(found, WITHOUT_GOALS) else [goal_table(found)]
    return "\n\n".join([*goals, page(found)])


def page(found: Result) -> str:
    """Write every table of a result under its title, each with the run that it shows."""
    parts = SECTIONS[type(found)](found)
    return "\n\n".join(f"### {title}\n\n{found.caption}.\n\n{text}" for title, text in parts.items())


def measured_on(found: Result) -> str:
    """Name the machine and the versions."""
    machine, wrk = found.machine, f"; {found.wrk}" if isinstance(found, Bench) else ""
    hardware = f"{machine.processor}, {machine.vector_instructions or 'vector instructions not recorded'}"
    return f"{hardware}, {machine.cores} cores, {machine.memory_gb:.0f} GB; {versions(found.versions)}{wrk}"


def versions(packages: Mapping[str, str]) -> str:
    """List packages with their versions."""
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def bench_parts(found: Bench) -> dict[str, str]:
    """Write each table of the service beside its ceilings."""
    cases = [case for case in found.cases.values() if case.server == "service"]
    batches = [case for case in cases if case.events > 1]
    # In small batches HTTP costs more than scoring, in large ones less.
    small = [case for case in batches if found.ceiling(case, "bare")]
    large = [case for case in batches if case not in small]
    return {
        "Single events": case_table(found, [case for case in cases if case.events == 1], "bare"),
        "Batches of 10 and 100": case_table(found, small, "bare"),
        "Batches of 1 k, 10 k and 100 k": case_table(found, large, "in process"),
        "The ceilings": ceilings(found),
        "Large and small together": beside_table(found),
        "Several workers": worker_table(found),
        "Latency against offered load": latency_text(found),
    }


def case_table(found: Bench, cases: Sequence[CaseResult], ceiling: str) -> str:
    """Write a row for each case of the service, with its rate over a ceiling's."""
    rows = []
    for case in cases:
        over = case.median.requests_per_s / (found.ceiling(case, ceiling) or float("nan"))
        rows.append([case.fmt, f"{case.events:,}", str(case.connections), *rates(case.median), number(over)])
    title = "over bare uvicorn" if ceiling == "bare" else f"over {ceiling}"
    return table(["format", "events", "connections", *RATES, title], rows, "l" + "r" * 10)


def rates(run: CaseRun) -> list[str]:
    """Write the cells of RATES."""
    memory = "—" if run.peak_mb is None else f"{run.peak_mb:.0f}"
    values = (run.requests_per_s, run.events_per_s, run.p50_ms, run.p99_ms, run.p999_ms, run.cpu_s_per_million_events)
    return [*map(number, values), memory]


def ceilings(found: Bench) -> str:
    """Write the rates without HTTP, and those without scoring."""
    medians = found.in_process_medians()
    best = max(medians.values())
    runtime = [[f"{name}{', the ceiling' if value == best else ''}", number(value)] for name, value in medians.items()]
    others = [[case.name, *rates(case.median)] for case in found.cases.values() if case.server != "service"]
    head = ["bare uvicorn, plain decoding", *RATES]
    peak = (
        f"An event takes {found.flop_per_event:,} floating-point operations in matrix products: in process, the "
        f"runtime reaches {number(found.share_of_peak)} of its rate in a large matrix product on the same core."
    )
    return "\n\n".join([table(["in process", "events/s"], runtime, "lr"), peak, table(head, others, "l" + "r" * 7)])


def beside_table(found: Bench) -> str:
    """Write the latencies of single events while large batches are scored."""
    rows = [
        [
            *(found.cases[one.batch].fmt, str(one.batch_connections), number(one.batch_events_per_s)),
            *(number(one.latency.offered_per_s), *latencies(one.latency), number(one.latency.max_ms)),
        ]
        for one in found.beside
    ]
    head = ["batches of 100 k", "connections", "events/s", "single requests/s", *LATENCIES, LATE, "max ms"]
    return table(head, rows, "l" + "r" * 8)


def worker_table(found: Bench) -> str:
    """Write what each worker answered."""
    rows = [
        [
            *(str(one.connections), number(one.requests_per_s)),
            *(", ".join(map("{:,}".format, one.requests)), number(one.busiest)),
        ]
        for one in found.workers
    ]
    return table(["connections", "requests/s", "requests of each worker", "largest fraction"], rows, "rrlr")


def latency_text(found: Bench) -> str:
    """Show the figure, and the points of the service's curve."""
    points = map(median_of, found.latency["service"])
    rows = [[number(one.offered_per_s), number(one.answered_per_s), *latencies(one)] for one in points]
    head = ["offered/s", "answered/s", *LATENCIES, LATE]
    return f"![Latency against offered load](results/latency.png)\n\n{table(head, rows, 'rrrrrr')}"


def latencies(one: Latency) -> list[str]:
    """Write the cells of LATENCIES and LATE."""
    return [number(value) for value in (one.p50_ms, one.p99_ms, one.p999_ms, one.late_p99_ms)]


def memory_parts(memory: Memory) -> dict[str, str]:
    """Show the figure, and the peak."""
    responses = ", ".join(f"{count:,} to the {name} ones" for name, count in memory.responses.items())
    text = (
        f"![Memory over time](results/memory.png)\n\n{memory.load[0].upper()}{memory.load[1:]}. "
        f"{memory.idle_mb:.0f} MB before the first request, {memory.peak_mb:.0f} MB at most; responses: {responses}, "
        "each checked."
    )
    return {"Memory": text}


def overload_parts(overload: Overload) -> dict[str, str]:
    """Write the goals, and what the clients got under each behaviour."""
    rows = [
        [
            *(name, behaviour, number(run.connections), number(run.accepted_events_per_s)),
            *(number(one.to_capacity(behaviour)), number(run.accepted_p50_ms), number(run.accepted_p99_ms)),
            *(number(run.refused_per_s), number(run.refused_p50_ms), number(run.refused_p99_ms)),
            *(number(run.single_p99_ms), number(run.singles_refused), number(run.health_p99_ms)),
            number(run.client_busy),
        ]
        for name, one in overload.cases.items()
        for behaviour, run in one.median.items()
    ]
    head = ["case", "load", "connections", "accepted events/s", "over capacity", "accepted p50 ms", "p99 ms"]
    head += ["refused/s", "refused p50 ms", "p99 ms", "single p99 ms", "singles refused", "/health p99 ms", "client"]
    return {"Overload": f"{goal_table(overload)}\n\n{table(head, rows, 'll' + 'r' * 12)}"}


def soak_parts(soak: Soak) -> dict[str, str]:
    """Show the figure, what became of all requests, and whether memory stayed."""
    outcomes = list(dict.fromkeys(outcome for counts in soak.requests.values() for outcome in counts.outcomes))
    rows = [
        [name, f"{counts.begun:,}", *(f"{counts.outcomes.get(outcome, 0):,}" for outcome in outcomes)]
        for name, counts in soak.requests.items()
    ]
    grown = [
        [
            *(one.process, f"{one.seconds / 60:.1f}", f"{one.second_quarter_mb:.0f}", f"{one.last_quarter_mb:.0f}"),
            *(f"{one.second_quarter_descriptors:.0f}", f"{one.last_quarter_descriptors:.0f}"),
        ]
        for one in soak.growths
    ]
    left = ", ".join(f"{count:,} {how}" for how, count in soak.left.items())
    logged = ", ".join(f"{count:,} {event!r}" for event, count in soak.log.items())
    quarters = ["MB, second quarter", "MB, last quarter", "descriptors, second quarter", "descriptors, last quarter"]
    parts = [
        "![Soak](results/soak.png)",
        f"{soak.load[0].upper()}{soak.load[1:]}. "
        f"{soak.minutes:.1f} minutes, {soak.count('reload')} reloads and {soak.count('refused file')} damaged files, "
        f"{soak.count('kill')} workers killed, {soak.count('burst')} bursts. Clients that left: {left}. "
        f"**{soak.failures} requests lost or answered wrongly**, but for {soak.cut_by_kills} in flight in a worker "
        f"that was killed; {len(soak.faults)} faults in all. The log, beyond information: {logged or 'nothing'}.",
        table(["requests", "begun", *outcomes], rows, "lr" + "r" * len(outcomes)),
    ]
    if grown:
        parts.append(table(["process", "minutes", *quarters], grown, "lrrrrr"))
    return {"Soak": "\n\n".join(parts)}


def peers_parts(found: Peers) -> dict[str, str]:
    """Write the bias first, then all rates at a glance, a table for each case, and how each peer is configured."""
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
    """Write a row for each peer that was measured: the rate of the service over its own in each case."""
    rows = [
        [peer.name, *(number(found.over(peer.cases.get(name))) for name in names)]
        for peer in found.peers.values()
        if peer.cases
    ]
    return table(["", *names], rows, "l" + "r" * len(names))


def peer_table(found: Peers, name: str) -> str:
    """Write a row for each peer that has the case."""
    rows = [["", *PEER_RATES, "ours"]] + [
        [peer.name, *peer_rates(case), number(found.over(case))]
        for peer in found.peers.values()
        if (case := peer.cases.get(name))
    ]
    measured = [column for column in zip(*rows, strict=True) if set(column[1:]) != {number(None)}]
    head, *cells = zip(*measured, strict=True)
    return table(head, cells, "l" + "r" * (len(head) - 1))


def peer_rates(case: CaseResult) -> list[str]:
    """Write the cells of PEER_RATES."""
    requests, events, *latency, _, memory = rates(case.median)
    return [requests, number(case.cpu_us_per_request), events, *latency, memory]


def winners(found: Peers) -> str:
    """Name every case in which a peer has a higher rate or a shorter p99 latency than the service."""
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


def protocols_parts(found: Protocols) -> dict[str, str]:
    """Write a row for each protocol in each case."""
    rows = []
    for name in found.cases:
        medians = found.medians(name)
        native = medians[NATIVE]
        for protocol, one in medians.items():
            over = (one.requests_per_s / native.requests_per_s, one.cpu_us_per_request / native.cpu_us_per_request)
            cells = (one.requests_per_s, one.cpu_us_per_request, *over)
            rows.append([name, protocol, *map(number, cells)])
    head = ["case", "protocol", "requests/s", "CPU µs / request", "rate over native", "CPU over native"]
    note = (
        f"One worker on one core; wrk, and h2load for gRPC, on another. Medians over {found.rounds} runs of "
        f"{found.seconds} s, in which the protocols alternate; all scores are compared with the model's."
    )
    return {"Protocols": f"{table(head, rows, 'llrrrr')}\n\n{note}"}


def balancers_parts(found: Balancers) -> dict[str, str]:
    """Write the latencies of each way to choose, and what a request costs the balancer."""
    rows = [
        [balancer, load, policy, *map(number, (run.p50_ms, run.p99_ms, run.max_ms, run.slow_share))]
        for balancer, loads in found.runs.items()
        for load in loads
        for policy, run in found.medians(balancer, load).items()
    ]
    head = ["balancer", "load", "choice", "p50 ms", "p99 ms", "longest ms", "sent to the slow server"]
    costs = [
        [balancer, case.name, number(case.cpu_us_per_request)]
        for balancer, cases in found.costs.items()
        for case in cases
    ]
    fast, slow = (number(statistics.median(per_s)) for per_s in (found.fast_per_s, found.slow_per_s))
    note = (
        f"Raw batches of 10 k at even intervals, to one server with {fast} requests/s and one with {slow}; the load is "
        f"a fraction of what the faster alone can do. {found.seconds} s each, medians over {found.rounds} rounds in "
        "which both ways to choose alternate."
    )
    parts = [note, table(head, rows, "lllrrrr"), table(["balancer", "case", "its CPU µs / request"], costs, "llr")]
    return {"Balancers": "\n\n".join(parts)}


def files_parts(found: Files) -> dict[str, str]:
    """Write a row for each way to score many files."""
    rows = []
    for way, runs in found.ways.items():
        one = median_of(runs)
        rates = (one.startup_s, one.seconds, found.events_per_s(way), found.over(way, ONE_PROCESS))
        rows.append([way, *map(number, rates), f"{one.driver_mb:.0f}", f"{one.all_mb:.0f}"])
    head = ["", "start-up s", "seconds", "events/s", "over one process", "driver MB", "all MB"]
    note = (
        f"`score` of {found.files} files of {found.events:,} events, whose outputs have the same bytes in every way. "
        f"Start-up is the same command over one event for each core, and not in events/s; Dask and Ray start a cluster "
        f"of a worker for each core on this machine. Medians over {len(found.ways[ONE_PROCESS])} runs, in which the "
        "ways alternate; memory is the sum of the peaks of all processes, what they share counted several times."
    )
    return {"Many files": f"{table(head, rows, 'lrrrrrr')}\n\n{note}"}


SECTIONS: dict[type[Result], Callable[[Any], dict[str, str]]] = {
    Bench: bench_parts,
    Memory: memory_parts,
    Overload: overload_parts,
    Soak: soak_parts,
    Peers: peers_parts,
    Protocols: protocols_parts,
    Balancers: balancers_parts,
    Scaling: scaling_parts,
    Files: files_parts,
}

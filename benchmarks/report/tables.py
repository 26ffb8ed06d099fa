"""Tables of the results: a short one for users, all of them for developers."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import results
from benchmarks.report.bench import bench_parts
from benchmarks.report.figures import draw
from benchmarks.report.goals import goal_table
from benchmarks.report.markdown import fill, number, table, versions
from benchmarks.report.measurements import median_of
from benchmarks.report.peers import peers_parts
from benchmarks.report.results import (
    NATIVE,
    ONE_PROCESS,
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

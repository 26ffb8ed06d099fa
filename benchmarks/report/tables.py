"""Tables of the results: a short one for users, all of them for developers."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.report import results
from benchmarks.report.goals import goal_table, memory_goals, overload_goals, peer_goals, speed_goals
from benchmarks.report.markdown import fill, number, table
from benchmarks.report.measurements import Latency, Measured
from benchmarks.report.peers import peers_text
from benchmarks.report.results import Bench, Memory, Overload, Peers, Soak

ROOT = Path(__file__).parents[2]
SHORT_PAGE = ROOT / "docs" / "performance.md"
LONG_PAGE = ROOT / "benchmarks" / "README.md"
LATENCIES, LATE = ("p50 ms", "p99 ms", "p99.9 ms"), "client late, p99 ms"


def write_pages() -> None:
    """Write the tables of both pages; raises RuntimeError where results or markers are missing."""
    bench, memory = results.read(results.BENCH, Bench), results.read(results.MEMORY, Memory)
    peers, soak = results.read(results.PEERS, Peers), results.read(results.SOAK, Soak)
    overload = results.read(results.OVERLOAD, Overload)
    goals = goal_table(speed_goals(bench), memory_goals(memory), peer_goals(peers))
    parts = {
        "What must be reached": goals,
        **bench_parts(bench),
        "Memory": memory_text(memory),
        "Overload": overload_text(overload),
        "Soak": soak_text(soak),
        "Peers": peers_text(peers),
    }
    fill(SHORT_PAGE, f"{goals}\n\n{measured_on(bench)}")
    fill(LONG_PAGE, page(bench, parts))


def bench_text(found: Bench) -> str:
    """Write every table of the service beside its ceilings."""
    return page(found, {"What must be reached": goal_table(speed_goals(found)), **bench_parts(found)})


def page(found: Bench, parts: dict[str, str]) -> str:
    """Put texts under their titles."""
    return "\n\n".join([measured_on(found), *(f"### {title}\n\n{text}" for title, text in parts.items())])


def bench_parts(found: Bench) -> dict[str, str]:
    """Write each table of the service beside its ceilings, by its title."""
    return {
        "Single events": case_table(found, lambda case: case.events == 1, "to_bare", "over bare uvicorn"),
        "Batches of 10 and 100": case_table(found, is_small, "to_bare", "over bare uvicorn"),
        "Batches of 1 k, 10 k and 100 k": case_table(found, is_large, "to_in_process", "over in process"),
        "The ceilings": ceilings(found),
        "Large and small together": beside_table(found),
        "Several workers": worker_table(found),
        "Latency against offered load": latency_text(found),
    }


def case_table(found: Bench, wanted: Callable[[Measured], bool], ratio: str, title: str) -> str:
    """Write a row for each wanted case of the service."""
    rows = [
        [
            *(case.fmt, f"{case.events:,}", str(case.connections)),
            *(number(turn.requests_per_s), number(turn.events_per_s)),
            *(number(turn.p50_ms), number(turn.p99_ms), number(turn.p999_ms)),
            *(number(turn.cpu_s_per_million_events), f"{turn.peak_mb:.0f}", number(getattr(case, ratio))),
        ]
        for case in found.cases.values()
        for turn in [case.median]
        if case.server == "service" and wanted(case)
    ]
    head = ["format", "events", "connections", "requests/s", "events/s", *LATENCIES, "CPU s / M events", "MB", title]
    return table(head, rows, "l" + "r" * 10)


def is_small(case: Measured) -> bool:
    """Tell whether a batch is one in which HTTP costs more than scoring."""
    return case.events > 1 and case.to_bare is not None


def is_large(case: Measured) -> bool:
    """Tell whether a batch is one in which decoding and scoring cost more than HTTP."""
    return case.events > 1 and case.to_bare is None


def ceilings(found: Bench) -> str:
    """Write the rates without HTTP, and those without scoring."""
    runtime = [
        [f"{name}{', the ceiling' if name == found.in_process.best else ''}", number(value)]
        for name, value in found.in_process.median.items()
    ]
    others = [
        [case.name, number(case.median.requests_per_s), number(case.median.p50_ms), number(case.median.p99_ms)]
        for case in found.cases.values()
        if case.server != "service"
    ]
    head = ["bare uvicorn, plain decoding", "requests/s", "p50 ms", "p99 ms"]
    return "\n\n".join([table(["in process", "events/s"], runtime, "lr"), table(head, others, "lrrr")])


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
            str(one.connections),
            number(one.requests_per_s),
            ", ".join(f"{n:,}" for n in one.requests),
            number(one.busiest),
        ]
        for one in found.workers
    ]
    return table(["connections", "requests/s", "requests of each worker", "largest fraction"], rows, "rrlr")


def latency_text(found: Bench) -> str:
    """Show the figure, and the points of the service's curve."""
    points = [point.median for point in found.latency["service"]]
    rows = [[number(one.offered_per_s), number(one.answered_per_s), *latencies(one)] for one in points]
    head = ["offered/s", "answered/s", *LATENCIES, LATE]
    return f"![Latency against offered load](results/{results.LATENCY_FIGURE.name})\n\n{table(head, rows, 'rrrrrr')}"


def latencies(one: Latency) -> list[str]:
    """Write the cells of LATENCIES and LATE."""
    return [number(value) for value in (one.p50_ms, one.p99_ms, one.p999_ms, one.late_p99_ms)]


def memory_text(memory: Memory) -> str:
    """Show the figure, and the peak."""
    replies = ", ".join(f"{count:,} to the {name} ones" for name, count in memory.replies.items())
    return (
        f"![Memory over time](results/{results.MEMORY_FIGURE.name})\n\n"
        f"`{memory.command}`: {memory.load}. {memory.idle_mb:.0f} MB before the first request, "
        f"{memory.peak_mb:.0f} MB at most; replies: {replies}, each checked."
    )


def overload_text(overload: Overload) -> str:
    """Write the goals, and what the clients got under each behaviour."""
    rows = [
        [
            *(name, behaviour, number(turn.connections), number(turn.accepted_events_per_s)),
            *(number(one.to_capacity(behaviour)), number(turn.accepted_p50_ms), number(turn.accepted_p99_ms)),
            *(number(turn.refused_per_s), number(turn.refused_p50_ms), number(turn.refused_p99_ms)),
            *(number(turn.single_p99_ms), number(turn.singles_refused), number(turn.health_p99_ms)),
            number(turn.client_busy),
        ]
        for name, one in overload.cases.items()
        for behaviour, turn in one.median.items()
    ]
    head = ["case", "load", "connections", "accepted events/s", "over capacity", "accepted p50 ms", "p99 ms"]
    head += ["refused/s", "refused p50 ms", "p99 ms", "single p99 ms", "singles refused", "/health p99 ms", "client"]
    goals, rates = goal_table(overload_goals(overload)), table(head, rows, "ll" + "r" * 12)
    return f"{measured_by(overload)}.\n\n{goals}\n\n{rates}"


def soak_text(soak: Soak) -> str:
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
        f"![Soak](results/{results.SOAK_FIGURE.name})",
        f"{measured_by(soak)}: {soak.load}. "
        f"{soak.minutes:.1f} minutes, {soak.count('reload')} reloads and {soak.count('refused file')} damaged files, "
        f"{soak.count('kill')} workers killed, {soak.count('burst')} bursts. Clients that left: {left}. "
        f"**{soak.failures} requests lost or answered wrongly**, but for {soak.cut_by_kills} in flight in a worker "
        f"that was killed; {len(soak.faults)} faults in all. The log, beyond information: {logged or 'nothing'}.",
        table(["requests", "begun", *outcomes], rows, "lr" + "r" * len(outcomes)),
    ]
    if grown:
        parts.append(table(["process", "minutes", *quarters], grown, "lrrrrr"))
    return "\n\n".join(parts)


def measured_by(run: results.Run) -> str:
    """Say by which command, when and at which commit the numbers were measured."""
    return f"`{run.command}`, {run.started[:10]}, commit {run.commit[:10]}{run.commit[40:]}"


def measured_on(found: Bench) -> str:
    """Say where, when and on what the numbers were measured."""
    machine, packages = found.machine, ", ".join(f"{name} {number}" for name, number in found.versions.items())
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gb:.0f} GB, {found.started[:10]}, commit "
        f"{found.commit[:10]}{found.commit[40:]}, model {found.model}; {packages}; {found.wrk}. `{found.command}`"
    )

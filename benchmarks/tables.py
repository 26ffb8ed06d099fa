"""Tables of the results: a short one into docs/performance.md, all of them into benchmarks/README.md.

    python -m benchmarks.tables

It does not measure: it reads results/bench.json and, where they are there, memory.json, peers.json, soak.json and
overload.json.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import results
from benchmarks.openloop import Latency
from benchmarks.peers.results import OURS
from benchmarks.peers.results import Results as Peers
from benchmarks.peers.table import render
from benchmarks.results import Measured, Memory, Overload, Results, Soak
from training.files import atomic_write

ROOT = Path(__file__).parent.parent
LATENCIES, LATE = ("p50 ms", "p99 ms", "p99.9 ms"), "client late, p99 ms"
START, END = "<!-- bench:start -->", "<!-- bench:end -->"


class Goal(NamedTuple):
    """A number that must be at least, or with `at_most` at most, so much, and what it should better be."""

    what: str
    measured: float
    shown: str
    need: float
    aim: float
    unit: str = ""
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Tell whether the need is met."""
        return self.measured <= self.need if self.at_most else self.measured >= self.need

    def cells(self) -> list[str]:
        """Write the table's row."""
        sign = "≤" if self.at_most else "≥"
        need, aim = (f"{sign} {bound:g}{self.unit}" for bound in (self.need, self.aim))
        return [
            self.what,
            f"**{number(self.measured)}{self.unit}**{'' if self.met else ' (missed)'}",
            self.shown,
            need,
            aim,
        ]


def main() -> int:
    """Write the tables of both pages."""
    found = results.read(results.BENCH, Results)
    memory = results.read(results.MEMORY, Memory) if results.MEMORY.exists() else None
    peers = results.read(results.PEERS, Peers) if results.PEERS.exists() else None
    soak = results.read(results.SOAK, Soak) if results.SOAK.exists() else None
    fill(ROOT / "docs" / "performance.md", goal_table(found, memory, peers) + "\n\n" + measured_on(found))
    overload = results.read(results.OVERLOAD, Overload) if results.OVERLOAD.exists() else None
    fill(ROOT / "benchmarks" / "README.md", whole(found, memory, peers, soak, overload))
    return 0


def fill(page: Path, tables: str) -> None:
    """Put tables between the page's markers; raises SystemExit where it has none."""
    text = page.read_text()
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"{page} has no lines {START} and {END}; put them where the tables are to stand")
    with atomic_write(page) as whole_page:
        whole_page.write_text(f"{before}{start}\n{tables}\n{end}{after}")


def whole(
    found: Results,
    memory: Memory | None = None,
    peers: Peers | None = None,
    soak: Soak | None = None,
    overload: Overload | None = None,
) -> str:
    """Write every table."""
    parts = [
        ("What must be reached", goal_table(found, memory, peers)),
        ("Single events", case_table(found, lambda case: case.events == 1, "to_bare", "over bare uvicorn")),
        ("Batches of 10 and 100", case_table(found, is_small, "to_bare", "over bare uvicorn")),
        ("Batches of 1 k, 10 k and 100 k", case_table(found, is_large, "to_in_process", "over in process")),
        ("The ceilings", ceilings(found)),
        ("Large and small together", beside_table(found)),
        ("Several workers", worker_table(found)),
        ("Latency against offered load", latency_text(found)),
    ]
    if memory:
        parts.append(("Memory", memory_text(memory)))
    if overload:
        parts.append(("Overload", overload_text(overload)))
    if soak:
        parts.append(("Soak", soak_text(soak)))
    if peers:
        parts.append(("Peers", render(peers).strip()))
    return "\n\n".join([measured_on(found), *(f"### {title}\n\n{text}" for title, text in parts)])


def goal_table(found: Results, memory: Memory | None, peers: Peers | None) -> str:
    """Write what must be reached beside what was measured."""
    listed = [*goals(found), *(memory_goals(memory) if memory else []), *(peer_goals(peers) if peers else [])]
    rows = [goal.cells() for goal in listed]
    return table(["", "measured", "", "at least", "aim"], rows, "lrlrr")


def goals(found: Results) -> list[Goal]:
    """Set each goal of speed beside its measurement."""
    cases, ceiling = found.cases, found.in_process.events_per_s

    def ratio(what: str, name: str, field: str, ceiling_rate: str, need: float, aim: float) -> Goal:
        case = cases[name]
        own = rate(case.median.requests_per_s, "requests/s") if case.events == 1 else events_rate(case)
        return Goal(what, getattr(case, field), f"{own} of {ceiling_rate}", need, aim)

    bare = rate(cases["bare-single-32"].median.requests_per_s, "")
    plain, own = events_rate(cases["plain-json-10k"]), rate(ceiling, "")
    listed = [
        ratio("single events, 32 connections, over bare uvicorn", "single-32", "to_bare", bare, 0.5, 0.65),
        ratio("raw, batches of 10 k, over in process", "raw-10k", "to_in_process", own, 0.8, 0.9),
        ratio("raw, batches of 100 k, over in process", "raw-100k", "to_in_process", own, 0.8, 0.9),
        ratio("MessagePack binary, 10 k, over in process", "msgpack-binary-10k", "to_in_process", own, 0.75, 0.9),
        ratio("JSON, 10 k, over plain decoding", "json-10k", "to_plain", plain, 2.3, 3.5)._replace(
            shown=f"{events_rate(cases['json-10k'])} to {plain}"
        ),
    ]
    for beside, need, aim in zip(found.beside, (5, 30), (2, 10), strict=True):
        fmt = cases[beside.batch].fmt
        shown = f"{rate(beside.batch_events_per_s, 'events/s')} beside"
        what = f"single events beside {fmt} of 100 k: 99 % within"
        listed.append(Goal(what, beside.latency.p99_ms, shown, need, aim, " ms", at_most=True))
    return listed


def memory_goals(memory: Memory) -> list[Goal]:
    """Set the goal of memory beside the measurement."""
    shown = f"{memory.idle_mb:.0f} MB idle"
    return [Goal("memory under bodies of 64 MiB", memory.peak_mb, shown, 400, 250, " MB", at_most=True)]


def peer_goals(peers: Peers) -> list[Goal]:
    """Set the goals of being faster than the best peer beside the measurements."""
    listed = []
    kinds = {"single": ("single events", 3, 4), "json_batch": ("JSON, 10 k", 1.8, 2.5)}
    for key, (what, need, aim) in kinds.items():
        ours = peers.peers[OURS].cases.get(key)
        others = {
            peer.name: peer.cases[key] for name, peer in peers.peers.items() if name != OURS and key in peer.cases
        }
        if ours and others:
            best = max(others, key=lambda name: others[name].events_per_s)
            times = ours.events_per_s / others[best].events_per_s
            rates = f"{rate(ours.events_per_s, 'events/s')} to {rate(others[best].events_per_s, 'events/s')}"
            listed.append(Goal(f"{what}, over the best peer, {best}", times, rates, need, aim))
    return listed


def overload_goals(overload: Overload) -> list[Goal]:
    """Set the throughput under overload, and how soon who waits as told hears no, beside their goals."""
    listed = []
    for name, case in overload.cases.items():
        full = number(case.median["capacity"].accepted_events_per_s)
        for behaviour, turn in case.median.items():
            if behaviour != "capacity":
                what = f"{name} at {overload.times} times the load, {behaviour}, over capacity"
                shown = f"{number(turn.accepted_events_per_s)} events/s of {full}"
                listed.append(Goal(what, case.to_capacity(behaviour), shown, 0.9, 0.95))
        if told := case.median.get("after Retry-After"):
            what = f"{name}: 99 % of refusals to who waits as told within"
            shown = f"{told.refused_per_s:.0f}/s refused"
            listed.append(Goal(what, told.refused_p99_ms, shown, 100, 10, " ms", at_most=True))
    return listed


def case_table(found: Results, wanted: Callable[[Measured], bool], ratio: str, title: str) -> str:
    """Write a row for each wanted case of the service's."""
    rows = []
    for case in found.cases.values():
        if case.server == "service" and wanted(case):
            turn = case.median
            rows.append(
                [
                    *(case.fmt, f"{case.events:,}", str(case.connections)),
                    *(number(turn.requests_per_s), number(turn.events_per_s)),
                    *(number(turn.p50_ms), number(turn.p99_ms), number(turn.p999_ms)),
                    *(number(turn.cpu_s_per_million_events), f"{turn.peak_mb:.0f}", number(getattr(case, ratio))),
                ]
            )
    head = ["format", "events", "connections", "requests/s", "events/s", *LATENCIES, "CPU s / M events", "MB", title]
    return table(head, rows, "lrrrrrrrrrr")


def is_small(case: Measured) -> bool:
    """Tell whether a batch is one in which HTTP costs more than scoring."""
    return case.events > 1 and case.to_bare is not None


def is_large(case: Measured) -> bool:
    """Tell whether a batch is one in which decoding and scoring cost more than HTTP."""
    return case.events > 1 and case.to_bare is None


def ceilings(found: Results) -> str:
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
    return "\n\n".join(
        [
            table(["in process", "events/s"], runtime, "lr"),
            table(["bare uvicorn, plain decoding", "requests/s", "p50 ms", "p99 ms"], others, "lrrr"),
        ]
    )


def beside_table(found: Results) -> str:
    """Write the latencies of single events while large batches are scored."""
    rows = [
        [
            *(found.cases[one.batch].fmt, str(one.batch_connections), number(one.batch_events_per_s)),
            *(number(one.latency.offered_per_s), *latencies(one.latency), number(one.latency.max_ms)),
        ]
        for one in found.beside
    ]
    head = ["batches of 100 k", "connections", "events/s", "single requests/s", *LATENCIES, LATE, "max ms"]
    return table(head, rows, "lrrrrrrrr")


def worker_table(found: Results) -> str:
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
    return table(["connections", "requests/s", "requests of each worker", "the busiest's part"], rows, "rrlr")


def latency_text(found: Results) -> str:
    """Show the figure, and the points of the service's curve."""
    rows = [
        [number(one.offered_per_s), number(one.answered_per_s), *latencies(one)]
        for one in (point.median for point in found.latency["service"])
    ]
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
    """Show what each behaviour of clients got of what there is."""
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
    goal_rows = [goal.cells() for goal in overload_goals(overload)]
    return "\n\n".join(
        [
            f"`{overload.command}`, {overload.started[:10]}, commit {overload.commit[:10]}{overload.commit[40:]}.",
            table(["", "measured", "", "at least", "aim"], goal_rows, "lrlrr"),
            table(head, rows, "ll" + "r" * 12),
        ]
    )


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
        f"`{soak.command}`, {soak.started[:10]}, commit {soak.commit[:10]}{soak.commit[40:]}: {soak.load}. "
        f"{soak.minutes:.1f} minutes, {soak.count('reload')} reloads and {soak.count('refused file')} damaged files, "
        f"{soak.count('kill')} workers killed, {soak.count('burst')} bursts. Clients that left: {left}. "
        f"**{soak.failures} requests lost or answered wrongly**, but for {soak.cut_by_kills} in flight in a worker "
        f"that was killed; {len(soak.faults)} faults in all. The log, beyond information: {logged or 'nothing'}.",
        table(["requests", "begun", *outcomes], rows, "lr" + "r" * len(outcomes)),
    ]
    if grown:
        parts.append(table(["process", "minutes", *quarters], grown, "lrrrrr"))
    return "\n\n".join(parts)


def measured_on(found: Results) -> str:
    """Say where, when and on what the numbers were measured."""
    machine, packages = found.machine, ", ".join(f"{name} {number}" for name, number in found.versions.items())
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gb:.0f} GB, {found.started[:10]}, commit "
        f"{found.commit[:10]}{found.commit[40:]}, model {found.model}; {packages}; {found.wrk}. `{found.command}`"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    """Write a table of Markdown; `sides` has l or r for each column."""
    rule = ["---:" if side == "r" else "---" for side in sides]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def events_rate(case: Measured) -> str:
    """Write a case's events per second."""
    return rate(case.median.events_per_s, "events/s")


def rate(per_s: float, unit: str) -> str:
    """Write a rate in thousands or millions."""
    text = f"{per_s / 1e6:.2f} M" if per_s >= 1e6 else f"{per_s / 1e3:.1f} k"
    return f"{text} {unit}".strip()


def number(value: float) -> str:
    """Write a number with the digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.1 else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())

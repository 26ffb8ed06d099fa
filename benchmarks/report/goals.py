"""Numbers that must be reached, beside what was measured."""

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.report.markdown import number, rate, table
from benchmarks.report.measurements import AS_TOLD, CAPACITY, Measured
from benchmarks.report.results import OURS, Bench, Memory, Overload, Peers


class Goal(NamedTuple):
    """A number that must be at least, or with `at_most` at most, `need`, and should better be `aim`."""

    what: str
    measured: float
    shown: str
    need: float
    aim: float
    unit: str = ""
    at_most: bool = False

    def cells(self) -> list[str]:
        """Write the table's row."""
        met = self.measured <= self.need if self.at_most else self.measured >= self.need
        need, aim = (f"{'≤' if self.at_most else '≥'} {bound:g}{self.unit}" for bound in (self.need, self.aim))
        measured = f"**{number(self.measured)}{self.unit}**{'' if met else ' (missed)'}"
        return [self.what, measured, self.shown, need, aim]


def goal_table(*goals: Iterator[Goal]) -> str:
    """Write a row for each goal."""
    rows = [goal.cells() for some in goals for goal in some]
    return table(["", "measured", "", "at least", "aim"], rows, "lrlrr")


def speed_goals(found: Bench) -> Iterator[Goal]:
    """Compare the service with its ceilings."""
    cases, ceiling = found.cases, found.in_process.events_per_s

    def events_rate(case: Measured) -> str:
        return rate(case.median.events_per_s, "events/s")

    def ratio(what: str, name: str, ceiling_per_s: float, need: float, aim: float) -> Goal:
        case, own = cases[name], cases[name].median
        if case.events == 1:
            shown = f"{rate(own.requests_per_s, 'requests/s')} of {rate(ceiling_per_s)}"
            return Goal(what, case.to_bare or 0, shown, need, aim)
        return Goal(what, case.to_in_process or 0, f"{events_rate(case)} of {rate(ceiling_per_s)}", need, aim)

    bare = cases["bare-single-32"].median.requests_per_s
    yield ratio("single events, 32 connections, over bare uvicorn", "single-32", bare, 0.5, 0.65)
    yield ratio("raw, batches of 10 k, over in process", "raw-10k", ceiling, 0.8, 0.9)
    yield ratio("raw, batches of 100 k, over in process", "raw-100k", ceiling, 0.8, 0.9)
    yield ratio("MessagePack binary, 10 k, over in process", "msgpack-binary-10k", ceiling, 0.75, 0.9)
    own, plain = cases["json-10k"], cases["plain-json-10k"]
    shown = f"{events_rate(own)} to {events_rate(plain)}"
    yield Goal("JSON, 10 k, over plain decoding", own.to_plain or 0, shown, 2.3, 3.5)
    for beside, need, aim in zip(found.beside, (5, 30), (2, 10), strict=True):
        what = f"single events beside {cases[beside.batch].fmt} of 100 k: 99 % within"
        shown = f"{rate(beside.batch_events_per_s, 'events/s')} beside"
        yield Goal(what, beside.latency.p99_ms, shown, need, aim, " ms", at_most=True)


def memory_goals(found: Memory) -> Iterator[Goal]:
    """Compare the peak of the memory with its limit."""
    shown = f"{found.idle_mb:.0f} MB idle"
    yield Goal("memory under bodies of 64 MiB", found.peak_mb, shown, 400, 250, " MB", at_most=True)


def peer_goals(found: Peers) -> Iterator[Goal]:
    """Compare the service with the best peer."""
    kinds = {"single": ("single events", 3, 4), "json_batch": ("JSON, 10 k", 1.8, 2.5)}
    for key, (what, need, aim) in kinds.items():
        rates = {name: peer.cases[key].events_per_s for name, peer in found.peers.items() if key in peer.cases}
        ours = rates.pop(OURS, None)
        if ours is not None and rates:
            best = max(rates, key=rates.__getitem__)
            shown = f"{rate(ours, 'events/s')} to {rate(rates[best], 'events/s')}"
            yield Goal(f"{what}, over the best peer, {found.peers[best].name}", ours / rates[best], shown, need, aim)


def overload_goals(found: Overload) -> Iterator[Goal]:
    """Compare the throughput under overload with the capacity, and the latency of refusals with its limit."""
    for name, case in found.cases.items():
        full = number(case.median[CAPACITY].accepted_events_per_s)
        for behaviour, turn in case.median.items():
            if behaviour != CAPACITY:
                what = f"{name} at {found.times} times the load, {behaviour}, over capacity"
                shown = f"{number(turn.accepted_events_per_s)} events/s of {full}"
                yield Goal(what, case.to_capacity(behaviour), shown, 0.9, 0.95)
        if told := case.median.get(AS_TOLD):
            what = f"{name}: 99 % of refusals within, clients wait for Retry-After"
            yield Goal(what, told.refused_p99_ms, f"{told.refused_per_s:.0f}/s refused", 100, 10, " ms", at_most=True)

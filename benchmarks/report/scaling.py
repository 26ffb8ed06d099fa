"""Tables of the capacity of one core, the cores for event rates, and the predictions of the simulation."""

import math

import msgspec

from benchmarks.report.markdown import number, table
from benchmarks.report.measurements import FormatCost, Loaded
from benchmarks.report.results import Scaling

RATES_HZ = {"100 kHz": 1e5, "1 MHz": 1e6, "40 MHz": 4e7}
FILL = 0.6
"""Target utilisation of cores; above it, latency grows, and there is no reserve for the failure of a core."""
ALLOWED = 1.25
"""Maximum factor between a predicted and a measured 99th percentile."""


def scaling_parts(found: Scaling) -> dict[str, str]:
    """Return tables of capacities, requirements, the check of the simulation, and its predictions for many workers."""
    return {
        "What one core does": cost_table(found),
        "Cores and network": need_table(found),
        "Predicted and measured": check_text(found),
        "Many workers": farm_table(found),
    }


def cost_table(found: Scaling) -> str:
    """Return a row for each format."""
    rows = [
        [
            *(kind_of(cost), number(cost.case.median.events_per_s)),
            *(number(cost.case.median.cpu_s_per_million_events), number(cost.request_bytes)),
            *(number(cost.response_bytes), number(8 * bytes_per_event(cost) * cost.case.median.events_per_s / 1e6)),
        ]
        for cost in found.formats.values()
    ]
    head = ["request", "events/s", "CPU µs / event", "bytes / event", "of response", "Mbit/s of one core"]
    return table(head, rows, "lrrrrr")


def need_table(found: Scaling) -> str:
    """Return the cores and the network bandwidth for each event rate."""
    rows = [
        [
            kind_of(cost),
            *(f"{math.ceil(hz / (FILL * cost.case.median.events_per_s)):,}" for hz in RATES_HZ.values()),
            *(number(8 * bytes_per_event(cost) * hz / 1e9) for hz in RATES_HZ.values()),
        ]
        for cost in found.formats.values()
    ]
    head = ["request", *(f"cores, {name}" for name in RATES_HZ), *(f"Gbit/s, {name}" for name in RATES_HZ)]
    return f"Cores that are busy for {FILL:g} of the time, and payload with heads.\n\n{table(head, rows, 'lrrrrrr')}"


def check_text(found: Scaling) -> str:
    """Return the figure, a row for each load, and the service times used for the predictions."""
    rows = [check_row(one) for one in found.checks]
    head = [
        "workers",
        "load",
        "requests/s",
        "p50 ms",
        "predicted",
        "p99 ms",
        "predicted",
        "ratio",
        "client late, p99 ms",
    ]
    times = [
        [str(n_workers), str(place + 1), *map(number, msgspec.structs.astuple(one))]
        for n_workers, workers in found.service_times.items()
        for place, one in enumerate(workers)
    ]
    note = (
        f"{found.request} in each request. Medians over {len(found.checks[0].runs)} runs; the ratio, of the 99th "
        f"percentiles of a run, is to be within a factor of {ALLOWED:g}."
    )
    measured = ["workers", "worker", "behind another: mean ms", "p99 ms", "after idling: mean ms", "p99 ms"]
    return "\n\n".join(
        [
            "![Latency against load, measured and predicted](../benchmarks/results/scaling.png)",
            table(head, rows, "rrrrrrrrr"),
            note,
            table(measured, times, "rrrrrr"),
        ]
    )


def check_row(one: Loaded) -> list[str]:
    """Return the cells of a load."""
    latency, (p50_ms, p99_ms) = one.measured, one.predicted_ms
    ratio = number(one.ratio) + ("" if 1 / ALLOWED <= one.ratio <= ALLOWED else " (missed)")
    values = (latency.offered_per_s, latency.p50_ms, p50_ms, latency.p99_ms, p99_ms)
    return [str(one.workers), number(one.load), *map(number, values), ratio, number(latency.late_p99_ms)]


def farm_table(found: Scaling) -> str:
    """Write the highest load of each number of workers behind each balancer."""
    workers = list(dict.fromkeys(farm.workers for farm in found.farms))
    balancers = dict.fromkeys(farm.balancer for farm in found.farms)
    loads = {(farm.balancer, farm.workers): farm.load for farm in found.farms}
    rows = [[name, *(number(loads[name, n_workers]) for n_workers in workers)] for name in balancers]
    note = f"The highest load at which 99 % are answered within {found.times_service:g} times the mean service time."
    head = ["each request goes to the worker", *(f"{n_workers} worker{'s' * (n_workers > 1)}" for n_workers in workers)]
    return f"{note}\n\n{table(head, rows, 'l' + 'r' * len(workers))}"


def kind_of(cost: FormatCost) -> str:
    """Name a format with the size of its requests."""
    return f"{cost.case.fmt}, {cost.case.events:,} in a request"


def bytes_per_event(cost: FormatCost) -> float:
    """Add up both directions."""
    return cost.request_bytes + cost.response_bytes

"""Tables of the service and its ceilings."""

from collections.abc import Sequence

from benchmarks.report.markdown import number, table
from benchmarks.report.measurements import CaseResult, CaseRun, Latency, median_of
from benchmarks.report.results import Bench

LATENCIES, LATE = ("p50 ms", "p99 ms", "p99.9 ms"), "client late, p99 ms"
RATES = ("requests/s", "events/s", *LATENCIES, "CPU s / M events", "MB")


def bench_parts(found: Bench) -> dict[str, str]:
    """Return all tables of the service and its ceilings."""
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
    """Return a row for each case of the service, with its rate over that of a ceiling."""
    rows = []
    for case in cases:
        over = case.median.requests_per_s / (found.ceiling(case, ceiling) or float("nan"))
        rows.append([case.fmt, f"{case.events:,}", str(case.connections), *rates(case.median), number(over)])
    title = "over bare uvicorn" if ceiling == "bare" else f"over {ceiling}"
    return table(["format", "events", "connections", *RATES, title], rows, "l" + "r" * 10)


def rates(run: CaseRun) -> list[str]:
    """Return the cells of RATES."""
    memory = "—" if run.peak_mb is None else f"{run.peak_mb:.0f}"
    values = (run.requests_per_s, run.events_per_s, run.p50_ms, run.p99_ms, run.p999_ms, run.cpu_s_per_million_events)
    return [*map(number, values), memory]


def ceilings(found: Bench) -> str:
    """Return tables of the rates without HTTP and without scoring."""
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
    """Return a table of the latencies of single events while large batches are scored."""
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
    """Return a table of the requests of each worker."""
    rows = [
        [
            *(str(one.connections), number(one.requests_per_s)),
            *(", ".join(map("{:,}".format, one.requests)), number(one.busiest)),
        ]
        for one in found.workers
    ]
    return table(["connections", "requests/s", "requests of each worker", "largest fraction"], rows, "rrlr")


def latency_text(found: Bench) -> str:
    """Return the figure and a table of the points of the service's curve."""
    points = map(median_of, found.latency["service"])
    rows = [[number(one.offered_per_s), number(one.answered_per_s), *latencies(one)] for one in points]
    head = ["offered/s", "answered/s", *LATENCIES, LATE]
    return f"![Latency against offered load](results/latency.png)\n\n{table(head, rows, 'rrrrrr')}"


def latencies(one: Latency) -> list[str]:
    """Return the cells of LATENCIES and LATE."""
    return [number(value) for value in (one.p50_ms, one.p99_ms, one.p999_ms, one.late_p99_ms)]

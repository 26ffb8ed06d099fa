"""Figures of a benchmark, as PNG: latency against offered load, memory over time.

It does not know how they were measured.
"""

from pathlib import Path

from benchmarks.results import Memory, Point
from training.files import atomic_write
from training.plots import BACKGROUND_COLOUR, SIGNAL_COLOUR, figure, label, save

NAMES = {"service": "service", "bare": "uvicorn alone, fixed reply"}
COLOURS = {"service": SIGNAL_COLOUR, "bare": BACKGROUND_COLOUR}
PERCENTILES = {"p50_ms": ("median", "-"), "p99_ms": ("99 %", "--"), "p999_ms": ("99.9 %", ":")}


def plot_latency(curves: dict[str, list[Point]], path: Path) -> None:
    """Plot three percentiles of the latency of single events against the rate at which they are sent."""
    made, (ax,) = figure()
    for server, points in curves.items():
        rates = [point.median.offered_per_s / 1e3 for point in points]
        for field, (name, line) in PERCENTILES.items():
            values = [getattr(point.median, field) for point in points]
            ax.plot(
                rates, values, line, marker="o", markersize=3, color=COLOURS[server], label=f"{NAMES[server]}, {name}"
            )
    ax.set_yscale("log")
    ax.set_xlim(left=0)
    label(ax, "offered load [1000 requests/s]", "latency from when a request was due [ms]")
    ax.legend(fontsize=10, frameon=False, ncols=len(curves), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    with atomic_write(path) as whole:
        save(made, whole)


def plot_memory(memory: Memory, path: Path) -> None:
    """Plot what the service holds, and the most that it has held, over time."""
    made, (ax,) = figure()
    minutes = [sample.seconds / 60 for sample in memory.samples]
    ax.plot(minutes, [sample.peak_mb for sample in memory.samples], "--", color=BACKGROUND_COLOUR, label="peak so far")
    ax.plot(minutes, [sample.resident_mb for sample in memory.samples], color=SIGNAL_COLOUR, label="resident")
    ax.axhline(memory.idle_mb, color="black", linestyle=":", linewidth=1, label="before the first request")
    ax.set_ylim(bottom=0)
    ax.set_xlim(left=0)
    label(ax, "time [minutes]", "memory of the service [MB]")
    ax.legend(fontsize=12, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    with atomic_write(path) as whole:
        save(made, whole)

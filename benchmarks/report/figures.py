"""Figures as PNG: latency against offered load, memory over time, a soak."""

from pathlib import Path

import numpy as np

from benchmarks.report.measurements import Point
from benchmarks.report.results import Memory, Soak
from training.evaluation.style import BACKGROUND_COLOUR, SIGNAL_COLOUR, figure, label, save
from training.files import atomic_write

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


EVENTS = {
    "reload": ("#999999", ":"),
    "refused file": ("#7b3294", "--"),
    "burst": ("#e6ab02", "-."),
    "kill": ("#c51b7d", "-"),
}


def plot_soak(soak: Soak, path: Path) -> None:
    """Plot memory, descriptors, latency and rate over time, with what was done to the service."""
    made, axes = figure(columns=2, rows=2)
    memory, latency, descriptors, rate = axes
    workers = [name for name in soak.processes if name != "parent"]
    for name, samples in soak.processes.items():
        minutes = [one.second / 60 for one in samples]
        place = workers.index(name) if name in workers else None
        colour, shown = ("black", name) if place is None else (f"C{place}", f"worker {place + 1}")
        memory.plot(minutes, [one.resident_mb for one in samples], color=colour, linewidth=1.2, label=shown)
        descriptors.plot(minutes, [one.descriptors for one in samples], color=colour, linewidth=1.2)
    minutes = [second.second / 60 for second in soak.seconds]
    latency.plot(minutes, [second.p50_ms or np.nan for second in soak.seconds], color=BACKGROUND_COLOUR, label="median")
    latency.plot(minutes, [second.p99_ms or np.nan for second in soak.seconds], color=SIGNAL_COLOUR, label="99 %")
    latency.set_yscale("log")
    for outcome, colour in {"answered": BACKGROUND_COLOUR, "refused": SIGNAL_COLOUR}.items():
        counts = [second.outcomes.get(outcome, 0) for second in soak.seconds]
        if any(counts):
            rate.plot(minutes, counts, color=colour, label=outcome)
    for ax, name in (
        (memory, "resident memory [MB]"),
        (descriptors, "open descriptors"),
        (latency, "latency of small requests [ms]"),
        (rate, "small requests [1/s]"),
    ):
        label(ax, "time [minutes]", name)
        ax.set_xlim(0, soak.minutes)
        if ax is not latency:
            ax.set_ylim(bottom=0)
        for event in soak.events:
            colour, line = EVENTS[event.what]
            ax.axvline(event.second / 60, color=colour, linestyle=line, linewidth=0.9, zorder=0)
    for what, (colour, line) in EVENTS.items():
        descriptors.plot([], [], color=colour, linestyle=line, label=what)
    for ax in axes:
        ax.legend(fontsize=10, frameon=False, ncols=6, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    with atomic_write(path) as whole:
        save(made, whole)

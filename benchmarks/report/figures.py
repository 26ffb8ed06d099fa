"""PNG figures of the results: latency against offered load, memory over time, a soak."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import results
from benchmarks.report.measurements import median_of
from benchmarks.report.results import Bench, Memory, Result, Scaling, Soak
from training.evaluation.style import BACKGROUND_COLOUR, COLOURS, SIGNAL_COLOUR, figure, label, save, style
from training.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Name, colour and marker.
SERVERS = {
    "service": ("service", SIGNAL_COLOUR, "o"),
    "bare": ("uvicorn alone, fixed response", BACKGROUND_COLOUR, "D"),
}
PERCENTILES = {"p50_ms": ("median", "-"), "p99_ms": ("99 %", "--"), "p999_ms": ("99.9 %", ":")}
EVENTS = {
    "reload": ("0.6", ":"),
    "refused file": (COLOURS[2], "--"),
    "burst": (COLOURS[5], "-."),
    "kill": (COLOURS[3], "-"),
}
# Colour, lines of median and 99 %, and fill of the points, by workers.
WORKERS = {1: (BACKGROUND_COLOUR, "-", "--", "full"), 2: (SIGNAL_COLOUR, "-.", ":", "none")}


@style()
def plot_latency(bench: Bench) -> Figure:
    """Plot three percentiles of the latency of single events against the rate at which they are sent."""
    made, (ax,) = figure()
    for server, curve in bench.latency.items():
        points = [median_of(runs) for runs in curve]
        rates = [point.offered_per_s / 1e3 for point in points]
        name, colour, marker = SERVERS[server]
        for field, (percentile, line) in PERCENTILES.items():
            values = [getattr(point, field) for point in points]
            ax.plot(rates, values, line, marker=marker, markersize=4, color=colour, label=f"{name}, {percentile}")
    ax.set_yscale("log")
    ax.set_xlim(left=0)
    label(ax, "offered load [1000 requests/s]", "latency from due time [ms]")
    _legend(ax, columns=len(bench.latency))
    return made


@style()
def plot_memory(memory: Memory) -> Figure:
    """Plot the current and the peak memory of the service over time."""
    made, (ax,) = figure()
    minutes = [sample.seconds / 60 for sample in memory.samples]
    ax.plot(minutes, [sample.peak_mb for sample in memory.samples], "--", color=BACKGROUND_COLOUR, label="peak so far")
    ax.plot(minutes, [sample.resident_mb for sample in memory.samples], color=SIGNAL_COLOUR, label="resident")
    ax.axhline(memory.idle_mb, color="black", linestyle=":", linewidth=1, label="before the first request")
    ax.set_ylim(bottom=0)
    ax.set_xlim(left=0)
    label(ax, "time [minutes]", "memory of the service [MB]")
    _legend(ax, columns=3)
    return made


@style()
def plot_soak(soak: Soak) -> Figure:
    """Plot memory, descriptors, latency and rate over time, with the actions on the service."""
    made, axes = figure(columns=2, rows=2)
    memory, latency, descriptors, rate = axes
    workers = [name for name in soak.processes if name != "parent"]
    for name, samples in soak.processes.items():
        minutes = [one.second / 60 for one in samples]
        place = workers.index(name) if name in workers else None
        colour = "black" if place is None else COLOURS[place % len(COLOURS)]
        shown = "supervisor" if place is None else "each worker" if place == 0 else None
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
    names = ("resident memory [MB]", "latency of small requests [ms]", "open descriptors", "small requests [1/s]")
    for ax, name in zip(axes, names, strict=True):
        label(ax, "time [minutes]", name)
        ax.set_xlim(0, soak.minutes)
        if ax is not latency:
            ax.set_ylim(bottom=0)
        for event in [
            one for one in soak.events if one.what in EVENTS
        ]:  # without attacks, of which one is always running
            colour, line = EVENTS[event.what]
            ax.axvline(event.second / 60, color=colour, linestyle=line, linewidth=0.9, zorder=0)
    for what, (colour, line) in EVENTS.items():
        descriptors.plot([], [], color=colour, linestyle=line, label=what)
    for ax in axes:
        _legend(ax, columns=6)
    return made


@style()
def plot_scaling(scaling: Scaling) -> Figure:
    """Plot the latencies of one and two workers against load: measured points and predicted lines."""
    made, (ax,) = figure()
    for workers, (colour, *lines, fill) in WORKERS.items():
        name = f"{workers} worker{'s' * (workers > 1)}"
        curve = [one for one in scaling.curve if one.workers == workers]
        checks = [one for one in scaling.checks if one.workers == workers]
        loads, measured_at = [one.load for one in curve], [one.load for one in checks]
        for (field, marker), line in zip({"p50_ms": "o", "p99_ms": "s"}.items(), lines, strict=True):
            percentile, _ = PERCENTILES[field]
            predicted = [getattr(one, field) for one in curve]
            measured = [getattr(one.measured, field) for one in checks]
            ax.plot(loads, predicted, line, color=colour, label=f"{name}, {percentile}, predicted")
            points = f"{name}, {percentile}, measured"
            ax.plot(measured_at, measured, marker, color=colour, fillstyle=fill, label=points)
    ax.set_yscale("log")
    ax.set_xlim(0, 1)
    label(ax, "load, as a fraction of the capacity", "latency from due time [ms]")
    _legend(ax, columns=2)
    return made


def _legend(ax: Axes, columns: int) -> None:
    ax.legend(fontsize=10, frameon=False, ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0))


PLOTS: dict[type[Result], tuple[str, Callable[[Any], Figure]]] = {
    Bench: ("latency.png", plot_latency),
    Memory: ("memory.png", plot_memory),
    Soak: ("soak.png", plot_soak),
    Scaling: ("scaling.png", plot_scaling),
}


def draw(found: Result) -> None:
    """Draw the figure of a result beside its file, if it has one."""
    if type(found) in PLOTS:
        name, plot = PLOTS[type(found)]
        with atomic_write(results.FOLDER / name) as whole:
            save(plot(found), whole)

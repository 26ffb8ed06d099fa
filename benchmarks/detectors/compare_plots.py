"""Figures of a comparison: how well every detector tells signal from background, and the best on each signal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from benchmarks.detectors.entries import VIEWS, Entry, Knowledge
from benchmarks.detectors.standings import Standing
from training.evaluation.plots import BACKGROUND_COLOUR, SIGNAL_COLOUR, figure, label, save

Floats = NDArray[np.float64]

OURS, OTHERS = SIGNAL_COLOUR, BACKGROUND_COLOUR
# By what an entry knows: those that know more than the background stand apart from the rest at sight.
COLOURS = {Knowledge.EXPOSED: "#7b3294", Knowledge.SUPERVISED: "#222222", Knowledge.KNOWN_DIRECTION: "#888888"}
MARKERS = ("o", "D", "s", "^", "v", "P", "X")
RULE = "#cccccc"
# With fewer background events left a curve shows noise; `max_significance_improvement` has the second limit as well.
LEAST_LEFT_REJECTION = 10
LEAST_LEFT_IMPROVEMENT = 100


def plot_aucs(standings: Sequence[Standing], path: Path) -> None:
    """Plot the AUC of every entry on one sample: a line a detector, best first in its class, and a dot a view."""
    lines: list[tuple[str, list[Standing]]] = []
    for knowledge in Knowledge:
        by_name: dict[str, list[Standing]] = {}
        for one in sorted(standings, key=lambda one: -one.auc):
            if one.entry.knowledge == knowledge:
                by_name.setdefault(one.entry.name, []).append(one)
        if by_name:
            lines += [(knowledge, []), *by_name.items()]
    made, ax = _lines([title for title, _ in lines], height=0.36)
    for height, (_, members) in enumerate(lines):
        if not members:
            ax.get_yticklabels()[height].set_fontweight("bold")
            ax.axhline(height - 0.5, color=RULE, linewidth=1)
        for one in members:
            _dot(ax, one, height, "o", OURS if one.entry.ours else OTHERS)
    ax.set_xlabel(f"AUC on {standings[0].sample}", fontsize=14)
    _legend(
        made,
        [
            Line2D([], [], color=OURS, marker="o", linestyle="", label="this project"),
            Line2D([], [], color=OTHERS, marker="o", linestyle="", label="others"),
            Line2D([], [], color="k", marker="o", linestyle="", label="mapped features"),
            Line2D([], [], color="k", marker="o", linestyle="", markerfacecolor="white", label="raw features"),
            Line2D([], [], color="k", linewidth=2, label="statistical error"),
            Line2D([], [], color="k", linewidth=7, alpha=0.25, label="range over seeds"),
        ],
        columns=3,
    )
    save(made, path)


def plot_samples(standings: Sequence[Standing], leaders: Sequence[Entry], path: Path) -> None:
    """Plot the AUC of a few entries on every sample: a line a sample, and a dot an entry."""
    samples = list(dict.fromkeys(one.sample for one in standings))
    made, ax = _lines(samples, height=0.9)
    for height in range(1, len(samples)):
        ax.axhline(height - 0.5, color=RULE, linewidth=1)
    for one in standings:
        if one.entry in leaders:
            place = leaders.index(one.entry)
            shift = (place - (len(leaders) - 1) / 2) * 0.8 / len(leaders)
            _dot(ax, one, samples.index(one.sample) + shift, MARKERS[place], _colour(one.entry))
    ax.set_xlabel("AUC", fontsize=14)
    marks = [
        Line2D([], [], color=_colour(entry), marker=marker, markerfacecolor=_fill(entry, _colour(entry)), linestyle="")
        for entry, marker in zip(leaders, MARKERS, strict=False)
    ]
    _legend(made, marks, columns=2, labels=[_title(entry) for entry in leaders])
    save(made, path)


def plot_curves(sample: str, curves: Mapping[Entry, tuple[Floats, Floats]], background: int, path: Path) -> None:
    """Plot rejection and significance improvement of a few entries on a sample of so many background events.

    A curve is (signal efficiency, background efficiency), each (points,), drawn where enough background is left.
    """
    made, (rejection, improvement) = figure(columns=2)
    styles: dict[tuple[Knowledge, bool], int] = {}
    lines = []
    for entry, (signal, kept) in curves.items():
        again = styles.setdefault((entry.knowledge, entry.ours), 0)
        styles[entry.knowledge, entry.ours] += 1
        look: dict[str, Any] = {"color": _colour(entry), "linestyle": ("-", "--")[again], "linewidth": 1.8}
        some, many = (kept * background >= least for least in (LEAST_LEFT_REJECTION, LEAST_LEFT_IMPROVEMENT))
        lines += rejection.plot(signal[some], 1 / kept[some], **look)
        improvement.plot(signal[many], signal[many] / np.sqrt(kept[many]), **look)
    chance = np.linspace(1e-2, 1, 500)
    lines += rejection.plot(chance, 1 / chance, "k:", linewidth=1)
    improvement.plot(chance, np.sqrt(chance), "k:", linewidth=1)
    label(rejection, r"signal efficiency $\epsilon_S$", r"background rejection $1/\epsilon_B$")
    label(improvement, r"signal efficiency $\epsilon_S$", r"significance improvement $\epsilon_S/\sqrt{\epsilon_B}$")
    for ax in (rejection, improvement):
        ax.set_yscale("log")
        ax.set_xlim(0, 1)
        ax.set_title(sample, fontsize=13)
    improvement.set_ylim(bottom=0.1)
    _legend(made, lines, columns=2, labels=[*map(_title, curves), "chance"])
    save(made, path)


def _lines(titles: Sequence[str], height: float) -> tuple[Figure, Axes]:
    """Return a figure with a titled line at 0, 1, ... from the top down, each of that height in inches."""
    made = Figure(figsize=(11, 2.2 + height * len(titles)), layout="constrained")
    ax = made.subplots()
    ax.set_yticks(range(len(titles)), titles, fontsize=12)
    ax.set_ylim(len(titles) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", direction="in", top=True, labelsize=12)
    ax.grid(axis="x", color="#eeeeee")
    ax.set_axisbelow(True)
    return made, ax


def _legend(made: Figure, handles: list[Line2D], columns: int, labels: Sequence[str] | None = None) -> None:
    """Put a legend above the axes."""
    names = [str(handle.get_label()) for handle in handles] if labels is None else labels
    made.legend(handles, names, loc="outside upper center", ncols=columns, fontsize=11.5, frameon=False)


def _dot(ax: Axes, one: Standing, height: float, marker: str, colour: str) -> None:
    """Draw the mean AUC with its statistical error, over the range of its seeds."""
    mean, values = one.mean("AUC"), one.values("AUC")
    assert mean is not None
    ax.plot([min(values), max(values)], [height] * 2, color=colour, linewidth=7, alpha=0.25, solid_capstyle="butt")
    ax.errorbar(mean.value, height, xerr=mean.error, color=colour, elinewidth=2)
    fill = _fill(one.entry, colour)
    ax.plot(mean.value, height, color=colour, marker=marker, markersize=8, markerfacecolor=fill, zorder=3)


def _title(entry: Entry) -> str:
    """Return how a legend names an entry: with the view where it does not follow from the name, and what it knows."""
    view = f", {entry.sees}" if entry.sees in VIEWS and not entry.ours else ""
    return f"{entry.name}{view} ({entry.knowledge.name.lower().replace('_', ' ')})"


def _colour(entry: Entry) -> str:
    return COLOURS.get(entry.knowledge, OURS if entry.ours else OTHERS)


def _fill(entry: Entry, colour: str) -> str:
    return "white" if entry.sees == "raw" else colour

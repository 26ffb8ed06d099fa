"""Figures of a comparison: the AUC of every detector on every sample, and curves of the best."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from benchmarks.detectors.detectors import VIEWS, Knowledge, Line
from benchmarks.detectors.results import Result, rank
from training.evaluation.figures import OF_ROC
from training.evaluation.style import BACKGROUND_COLOUR, SIGNAL_COLOUR, figure, label, save

Floats = NDArray[np.float64]

OURS, OTHERS = SIGNAL_COLOUR, BACKGROUND_COLOUR
# Lines that know more than background are told apart from the rest at sight.
COLOURS = {Knowledge.EXPOSED: "#7b3294", Knowledge.SUPERVISED: "#222222", Knowledge.KNOWN_DIRECTION: "#888888"}


def plot_aucs(results: Sequence[Result], path: Path) -> None:
    """Plot the AUC of every detector: a row a detector, the best mean first in its class; a dot a sample."""
    ranked = rank(results)
    rows: list[tuple[str, Line | None]] = []
    for knowledge in Knowledge:
        lines = [line for line in ranked if line.knowledge == knowledge]
        rows += [(knowledge, None), *((_title(line), line) for line in lines)] if lines else []
    made = Figure(figsize=(11, 1.8 + 0.3 * len(rows)), layout="constrained")
    ax = made.subplots()
    ax.set_yticks(range(len(rows)), [title for title, _ in rows], fontsize=12)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", direction="in", top=True, labelsize=12)
    ax.grid(axis="x", color="#eeeeee")
    ax.set_axisbelow(True)
    for height, (_, line) in enumerate(rows):
        if line is None:
            ax.get_yticklabels()[height].set_fontweight("bold")
            ax.axhline(height - 0.5, color="#cccccc", linewidth=1)
            continue
        values = list(ranked[line].values())
        ax.plot(values, [height] * len(values), "|", color=_colour(line), markersize=9, alpha=0.7)
        ax.plot(np.mean(values), height, "o", color=_colour(line), markersize=8)
    ax.set_xlabel("AUC", fontsize=14)
    handles = [
        Line2D([], [], color=OURS, marker="o", linestyle="", label="this project, mean of its samples"),
        Line2D([], [], color=OTHERS, marker="o", linestyle="", label="others, mean of their samples"),
        Line2D([], [], color="k", marker="|", linestyle="", label="one sample"),
    ]
    made.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=11.5, frameon=False)
    save(made, path)


def plot_curves(sample: str, curves: Mapping[Line, tuple[Floats, Floats]], background_events: int, path: Path) -> None:
    """Plot rejection and significance improvement of a few detectors on a sample.

    A curve is (signal efficiency, background efficiency), each (points,), drawn where enough background is left.
    """
    made, (rejection, improvement) = figure(columns=2)
    drawn: list[Line] = []
    handles = []
    for line, (signal, kept) in curves.items():
        again = any((line.knowledge, line.ours) == (other.knowledge, other.ours) for other in drawn)
        drawn.append(line)
        some, many = (kept * background_events >= least for least, *_ in OF_ROC.values())
        style = "--" if again else "-"
        handles += rejection.plot(signal[some], 1 / kept[some], style, color=_colour(line), label=_title(line))
        improvement.plot(signal[many], signal[many] / np.sqrt(kept[many]), style, color=_colour(line))
    chance = np.linspace(1e-2, 1, 500)
    handles += rejection.plot(chance, 1 / chance, "k:", linewidth=1, label="chance")
    improvement.plot(chance, np.sqrt(chance), "k:", linewidth=1)
    label(rejection, r"signal efficiency $\epsilon_S$", OF_ROC["rejection"][3])
    label(improvement, r"signal efficiency $\epsilon_S$", OF_ROC["improvement"][3])
    for ax in (rejection, improvement):
        ax.set_yscale("log")
        ax.set_xlim(0, 1)
        ax.set_title(sample, fontsize=13)
    improvement.set_ylim(bottom=0.1)
    made.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=11.5, frameon=False)
    save(made, path)


def _title(line: Line) -> str:
    """Return the name of a line, with the view where it does not follow from the name."""
    return f"{line.name}, {line.view}" if line.view in VIEWS and not line.ours else line.name


def _colour(line: Line) -> str:
    return COLOURS.get(line.knowledge, OURS if line.ours else OTHERS)

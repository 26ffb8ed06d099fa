"""Figures of a comparison: the AUC of every detector on every sample, and curves of the best detectors."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.detectors.detectors import Knowledge, Line
from benchmarks.detectors.results import AUC, Result, average, rank
from training.detectors.feature_maps import FEATURE_MAPS
from training.evaluation.figures import plot_roc
from training.evaluation.metrics import Measured
from training.evaluation.style import (
    BACKGROUND_COLOUR,
    SIGNAL_COLOUR,
    figure,
    label,
    legend,
    line_styles,
    rendered,
    style,
)

Floats = NDArray[np.float64]

OURS, OTHERS = (SIGNAL_COLOUR, "o"), (BACKGROUND_COLOUR, "D")
"""Colour and marker."""


@style()
def plot_aucs(results: Sequence[Result], signals: Sequence[str]) -> bytes:
    """Plot the AUC of every detector: one row each, in each class by descending mean over signals."""
    from matplotlib.lines import Line2D

    ranked = rank(results, signals)
    rows: list[tuple[str, Line | None]] = []
    for knowledge in Knowledge:
        lines = [line for line in ranked if line.knowledge == knowledge]
        rows += [(knowledge, None), *((_title(line), line) for line in lines)] if lines else []
    made, (ax,) = figure(width=11, height=1.8 + 0.3 * len(rows))
    ax.set_yticks(range(len(rows)), [title for title, _ in rows], fontsize=12)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", which="both", length=0)
    ax.tick_params(axis="x", labelsize=12)
    ax.grid(axis="x", color="#dddddd", linestyle="-")
    ax.set_axisbelow(True)
    for height, (_, line) in enumerate(rows):
        if line is None:
            ax.get_yticklabels()[height].set_fontweight("bold")
            ax.axhline(height - 0.5, color="#cccccc", linewidth=1)
            continue
        values = [one.auc for one in ranked[line]]
        colour, marker = OURS if line.ours else OTHERS
        ax.plot(values, [height] * len(values), "|", color=colour, markersize=9, alpha=0.7)
        if (mean := average(ranked[line], AUC, signals)) is not None:
            ax.plot(mean.value, height, marker, color=colour, markersize=8)
    ax.set_xlabel("AUC", fontsize=14)
    handles = [
        *(
            Line2D([], [], color=colour, marker=marker, linestyle="", label=f"{name}, mean over signals")
            for name, (colour, marker) in {"this project": OURS, "others": OTHERS}.items()
        ),
        Line2D([], [], color="k", marker="|", linestyle="", label="one sample"),
    ]
    made.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=11.5, frameon=False)
    return rendered(made)


def plot_curves(scores: Mapping[Line, tuple[Floats, Floats]]) -> bytes:
    """Plot rejection and significance improvement of a few detectors: scores of background (n,) and signal (m,)."""
    # The view comes first, because long names are cut at the end.
    named = {", ".join([line.view] * (line.view in FEATURE_MAPS) + [line.name]): some for line, some in scores.items()}
    return rendered(plot_roc(named, "rejection", "improvement"))


@style()
def plot_circuits(aucs: Mapping[str, tuple[Measured, Mapping[float, Measured], Mapping[float, Measured]]]) -> bytes:
    """Plot the AUC of each circuit against shots and against depolarising noise, and the exact one as a band."""
    made, axes = figure(columns=2, sharey=True)
    for (name, (exact, shots, noise)), look in zip(aucs.items(), line_styles(), strict=False):
        for ax, scan in zip(axes, (shots, noise), strict=True):
            ax.axhspan(exact.value - exact.error, exact.value + exact.error, color=look["color"], alpha=0.25)
            values, errors = [one.value for one in scan.values()], [one.error for one in scan.values()]
            ax.errorbar(list(scan), values, errors, label=name, capsize=3, **look)
    for ax, what in zip(axes, ("shots an event", "probability of an error after CZ"), strict=True):
        ax.set_xscale("log")
        label(ax, what, "AUC (band: exact)" if ax is axes[0] else "")
    legend(made, axes[0])
    return rendered(made)


@style()
def plot_searches(
    p_values: Mapping[str, Floats], found: Mapping[str, Mapping[float, tuple[float, float, float]]]
) -> bytes:
    """Plot p-values without signal as cumulative distributions, and significances against the injected signal."""
    made, (left, right) = figure(columns=2, width=8, height=6)
    for (name, values), look in zip(p_values.items(), line_styles(), strict=False):
        text = f"{name}: {len(values)} pseudo-experiments"
        left.ecdf(values, color=look["color"], linestyle=look["linestyle"], label=text)
    left.plot([0, 1], [0, 1], color="0.5", linestyle=":")
    left.set(xlim=(0, 1), ylim=(0, 1))
    left.legend(loc="upper left", fontsize=12)
    label(left, "global p-value without signal", "fraction of pseudo-experiments below")
    for (name, curve), look in zip(found.items(), line_styles(), strict=False):
        low, middle, high = np.transpose(list(curve.values()))
        right.fill_between(list(curve), low, high, color=look["color"], alpha=0.12, linewidth=0)
        right.plot(list(curve), middle, **look, label=name)
    right.axhline(5, color="0.5", linestyle=":")
    right.set_xlim(left=0)
    label(right, "injected $S$ / √$B$ before the selection", r"global significance [$\sigma$]")
    legend(made, right)
    return rendered(made)


def _title(line: Line) -> str:
    """Return the name of a line, with the view if the name does not imply it."""
    return f"{line.name}, {line.view}" if line.view in FEATURE_MAPS and not line.ours else line.name

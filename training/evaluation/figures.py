"""Figures of a training, an evaluation and a report."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.evaluation.explanations import Explanations
from training.evaluation.metrics import ENOUGH_BACKGROUND, auc, roc
from training.evaluation.sculpting import DIJET_MASS_EDGES_GEV, Efficiency, Sculpting, common_edges, histogram
from training.evaluation.style import (
    BACKGROUND_COLOUR,
    GREYS,
    MOST_LINES,
    SIGNAL_COLOUR,
    Style,
    blocks,
    figure,
    label,
    legend,
    legends,
    line_styles,
    panels,
    printable,
    rendered,
    split,
    style,
)
from training.evaluation.window import OF_WINDOW
from training.events.kinematics import AXIS_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)  # warnings go to standard error unless the calling program configures logging

Floats = NDArray[np.float64]
Value = TypeVar("Value")
Scores = tuple[Floats, Floats]  # of background (n,) and signal (m,)

BINS = 50
WINDOW_BINS = 30
# In bins with fewer events an efficiency is not meaningful, and its error bar hides the others.
LEAST_IN_BIN = 20
# With fewer events the error of a ratio exceeds one half.
LEAST_IN_RATIO = 4
# Number of bins of the dijet mass that are drawn as one, by the least number of selected events.
BINS_MERGED = ((2000, 1), (400, 2), (0, 5))

# Quantity eps_S ** s / eps_B ** b -> minimum number of background events of a point, s, b, axis label.
OF_ROC = {
    "rejection": (10, 0.0, 1.0, r"background rejection $1/\epsilon_{B}$"),
    "improvement": (ENOUGH_BACKGROUND, 1.0, 0.5, r"significance improvement $\epsilon_{S}$ / √$\epsilon_{B}$"),
}


def draw(plots: Mapping[str, "Callable[[], Figure] | None"]) -> dict[str, bytes | None]:
    """Draw figures by file name, with a suffix of FORMATS; None stays None.

    A figure that cannot be drawn becomes None, and the reason is logged as a warning.
    """
    drawn: dict[str, bytes | None] = dict.fromkeys(plots)
    for name, plot in plots.items():
        try:
            drawn[name] = None if plot is None else rendered(plot(), Path(name).suffix)
        except Exception as error:  # an error of any kind in a figure must not lose the numbers
            reason = str(error).partition("\n")[0] or type(error).__name__
            _log.warning("%s could not be drawn: %s", name, reason)
    return drawn


def with_pdfs(plots: "Mapping[str, Callable[[], Figure]]", wanted: bool) -> "dict[str, Callable[[], Figure] | None]":
    """Add each figure as PDF; if not `wanted`, add only the name, so that an outdated PDF is removed."""
    return {**plots, **{str(Path(name).with_suffix(".pdf")): plot if wanted else None for name, plot in plots.items()}}


@style()
def plot_learning_curve(losses: Sequence[tuple[float, float]]) -> "Figure":
    """Plot the (training, held-out) loss of each epoch, and mark the best epoch."""
    from matplotlib.ticker import MaxNLocator

    made, (ax,) = figure(width=10, height=6.5)
    epochs = np.arange(1, len(losses) + 1)
    training, held_out = np.array(losses).T
    best = int(np.argmin(held_out))
    ax.plot(epochs, training, "o-", markersize=4, label="training", color=BACKGROUND_COLOUR)
    ax.plot(epochs, held_out, "s--", markersize=4, label="held-out", color=SIGNAL_COLOUR)
    ax.plot(epochs[best], held_out[best], "k*", markersize=15, label=f"best: epoch {best + 1}")
    ax.set_xlim(0.5, len(losses) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    label(ax, "epoch", "loss per event")
    ax.legend()
    return made


@style()
def plot_roc(scores: Mapping[str, Scores], *shown: str) -> "Figure":
    """Plot each quantity of OF_ROC in `shown` against signal efficiency, with a curve for each signal.

    A curve ends where too few background events are left. Many signals are split over several panels, each with the
    other signals in grey.
    """
    groups = split(scores)
    size: Style = {"width": 11, "height": 6.5} if len(groups) == len(shown) == 1 else {"width": 8.5, "height": 6}
    made, found = blocks(len(groups), len(shown), **size)
    for block, group in zip(found, groups, strict=True):
        for ax, quantity in zip(block, shown, strict=True):
            _draw_curves(ax, quantity, group, {name: some for name, some in scores.items() if name not in group})
    legends(made, found)
    return made


@style()
def plot_scores(
    backgrounds: Mapping[str, Floats], signals: Mapping[str, Floats], thresholds: Mapping[str, float]
) -> "Figure":
    """Plot the scores (n,) of each sample in the same bins, the outer of which hold all beyond, and the thresholds."""
    groups = _groups(backgrounds, signals)
    size: Style = {"width": 11, "height": 6.5 if len(groups) == 1 else 4.2}
    made, found = blocks(len(groups), 1, sharex=True, **size)
    edges = common_edges([*backgrounds.values(), *signals.values()], BINS, include=list(thresholds.values()))
    for (ax,), (some_backgrounds, some_signals) in zip(found, groups, strict=True):
        _draw_shapes(ax, some_backgrounds, some_signals, edges)
        ax.set_yscale("log")
        ax.set_xlim(edges[0], edges[-1])
        ax.set_ylabel("fraction of events / bin")
        for threshold in thresholds.values():
            ax.axvline(threshold, color="0.3", linestyle="--", linewidth=1.3)
    (top,), (lowest,) = found[0], found[-1]
    lowest.set_xlabel("anomaly score")
    above = top.get_xaxis_transform()  # names are above the frame, where they hide nothing
    for name, threshold in thresholds.items():
        top.text(threshold, 1.015, printable(name), rotation=30, rotation_mode="anchor", fontsize=14, transform=above)
    legends(made, found)
    return made


@style()
def plot_contributions(explanations: Explanations) -> "Figure":
    """Plot the mean absolute contribution of each feature in each sample, and those of the most anomalous events."""
    means, anomalies = explanations.means, explanations.most_anomalous
    features = list(next(iter(means.values())).contributions)
    sizes = np.array([list(one.contributions.values()) for one in means.values()]).T  # (features, samples)
    signed = np.array([list(one.contributions.values()) for one in anomalies]).T  # (features, events)
    made, (left, right) = figure(columns=2, width=4.2 + 0.35 * len(means), height=7.5)
    of_events = [f"{'signal' if one.is_signal else 'background'} {one.row}" for one in anomalies]
    most = float(np.abs(signed).max()) or 1.0
    grey: Style = {"cmap": "Greys", "vmin": 0}
    both_ways: Style = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
    for ax, values, columns, name, colours in (
        (left, sizes, [printable(name) for name in means], "mean |contribution|", grey),
        (right, signed, of_events, "contribution", both_ways),
    ):
        image = ax.imshow(values, aspect="auto", **colours)
        ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize=12)
        ax.set_yticks(range(len(features)), [printable(feature) for feature in features], fontsize=14)
        ax.tick_params(which="both", length=0)
        made.colorbar(image, ax=ax, label=f"{name} to the score")
    right.set_title("most anomalous events, by row", fontsize=15, loc="left")
    return made


@style()
def plot_efficiencies(
    edges: Floats, efficiencies: Mapping[str, Mapping[str, Efficiency]], nominal: Mapping[str, float], mass: str
) -> "Figure":
    """Plot the efficiency in bins between edges (k + 1,) of a mass, a panel for each sample, beside the nominal one.

    A panel has an Efficiency for each working point, in the order of `nominal`. An efficiency of 0 has no point.
    """
    made, axes = panels(len(efficiencies), width=4.7, height=4.0, sharex=True, sharey=True)
    centres = (edges[:-1] + edges[1:]) / 2
    for place, (ax, (sample, points)) in enumerate(zip(axes, efficiencies.items(), strict=True)):
        for (point, binned), line in zip(points.items(), line_styles(), strict=False):
            events, passed = np.array(binned.events), np.array(binned.passed)
            drawn = (events >= LEAST_IN_BIN) & (passed > 0)  # the line has gaps elsewhere
            value = np.divide(passed, events, out=np.full(len(events), np.nan), where=drawn)
            error = np.abs(np.array([binned.low, binned.high]) - value)
            name = f"{printable(point)}, nominal {nominal[point]:g} (dotted)"
            ax.errorbar(centres, value, error, label=name, **(line | {"linewidth": 1.5}), markersize=5)
            ax.axhline(nominal[point], color=line["color"], linestyle=":", linewidth=1.2)
        if not any(max(binned.events) >= LEAST_IN_BIN for binned in points.values()):
            _say(ax, f"fewer than {LEAST_IN_BIN} events\nin every bin")
        ax.set(yscale="log", xlim=(edges[0], edges[-1]), ylim=(min(nominal.values()) / 20, 1.8))
        ax.set_title(printable(sample), fontsize=15, loc="left")
        if place >= len(efficiencies) - 3:
            ax.set_xlabel(mass)
            ax.tick_params(labelbottom=True)
        if place % 3 == 0:
            ax.set_ylabel("efficiency")
    legend(made, axes[0])
    return made


@style()
def plot_sculpting(shapes: Mapping[str, Sculpting]) -> "Figure":
    """Plot the dijet mass before and after each working point, both of unit area, and their ratio below."""
    columns = 2 if len(shapes) in (2, 4) else min(3, len(shapes))
    rows = -(-len(shapes) // columns)
    made, grid = figure(columns, 2 * rows, width=5.5, height=3.1, height_ratios=[2.4, 1] * rows)
    axes = np.array(grid, object).reshape(rows, 2, columns).swapaxes(1, 2).reshape(-1, 2)  # (panel, (shapes, ratio))
    for ax in axes[len(shapes) :].ravel():
        ax.set_visible(False)
    for (main, ratio), (point, sculpting) in zip(axes, shapes.items(), strict=False):
        _draw_sculpting(main, ratio, printable(point), sculpting)
    return made


@style()
def plot_features(
    backgrounds: Mapping[str, Mapping[str, Floats]],
    signals: Mapping[str, Mapping[str, Floats]],
    labels: Mapping[str, str],
) -> "Figure":
    """Plot each quantity of `labels`, which gives its axis label, in every sample: values (n,), NaN where undefined."""
    groups = _groups(backgrounds, signals)
    made, found = blocks(len(groups), len(labels), width=5.2, height=4.6 if len(groups) == 1 else 3.8)
    for quantity, (place, name) in zip(labels, enumerate(labels.values()), strict=True):
        everything = [values[quantity] for values in (*backgrounds.values(), *signals.values())]
        edges = common_edges(everything, BINS)
        for block, group in zip(found, groups, strict=True):
            some_backgrounds, some_signals = (
                {sample: values[quantity] for sample, values in some.items()} for some in group
            )
            _draw_shapes(block[place], some_backgrounds, some_signals, edges)
            label(block[place], name, "fraction of events / bin")
            block[place].set_ylim(bottom=0)
    legends(made, found)
    return made


@style()
def plot_window(windows: Mapping[str, tuple[Mapping[str, Floats], Mapping[str, Floats]]]) -> "Figure":
    """Plot each quantity of simulated and of published events of the signal window, (n,) each, and their ratio below.

    A row of panels for each class of events, which names it.
    """
    made, grid = figure(len(OF_WINDOW), 2 * len(windows), width=5.0, height=3.0, height_ratios=[2.2, 1] * len(windows))
    rows = np.array(grid, object).reshape(len(windows), 2, len(OF_WINDOW))
    for (kind, (simulated, published)), row in zip(windows.items(), rows, strict=True):
        for (quantity, name), (main, ratio) in zip(OF_WINDOW.items(), row.T, strict=True):
            _draw_agreement(main, ratio, simulated[quantity], published[quantity])
            ratio.set_xlabel(name)
        row[0, 0].set_ylabel(f"{kind}: fraction / bin")
        row[1, 0].set_ylabel("ratio")
    legend(made, rows[0, 0, 0])
    return made


def _groups(
    backgrounds: Mapping[str, Value], signals: Mapping[str, Value]
) -> list[tuple[Mapping[str, Value], Mapping[str, Value]]]:
    """Return backgrounds and signals by panel: all in one, or some signals each beside the first background."""
    if len(backgrounds) + len(signals) <= MOST_LINES:
        return [(backgrounds, signals)]
    first = dict(list(backgrounds.items())[:1])
    alone = split(backgrounds) if len(backgrounds) > 1 else []
    return [*((some, {}) for some in alone), *((first, some) for some in split(signals, MOST_LINES - 1))]


def _draw_curves(ax: "Axes", quantity: str, shown: Mapping[str, Scores], others: Mapping[str, Scores]) -> None:
    """Draw a quantity of OF_ROC for each signal that is shown, and for the others in grey."""
    least, s, b, name = OF_ROC[quantity]
    chance = np.linspace(1e-3, 1, 500)

    def curve(background: Floats, signal: Floats) -> tuple[Floats, Floats]:
        signal_efficiency, kept = roc(background, signal)
        enough = kept * len(background) >= least
        return signal_efficiency[enough], signal_efficiency[enough] ** s / kept[enough] ** b

    for (sample, scores), line in zip(shown.items(), line_styles(), strict=False):
        text = f"{printable(sample)}, AUC {auc(*scores).value:.3f}"
        ax.plot(*curve(*scores), label=text, color=line["color"], linestyle=line["linestyle"])
    for scores in others.values():
        ax.plot(*curve(*scores), color="0.85", linewidth=1.2, zorder=0)
    ax.plot(chance, chance ** (s - b), color="0.5", linestyle=":", linewidth=1.2, label="chance")
    label(ax, r"signal efficiency $\epsilon_{S}$", name)
    ax.set(xlim=(0, 1), yscale="log" if quantity == "rejection" else "linear")
    ax.set_ylim(bottom=1 if quantity == "rejection" else 0)


def _draw_agreement(main: "Axes", ratio: "Axes", simulated: Floats, published: Floats) -> None:
    least, most = np.nanquantile(np.concatenate([simulated, published]), (0.001, 0.999)).tolist()
    edges = np.linspace(least, most, WINDOW_BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    ours, theirs = histogram(simulated, edges), histogram(published, edges)
    shape, reference = ours / len(simulated), theirs / len(published)
    main.stairs(reference, edges, fill=True, color="0.82", label="published")
    points: Style = {"fmt": "o", "color": SIGNAL_COLOUR, "markersize": 4, "linewidth": 1.5}
    main.errorbar(centres, shape, np.sqrt(ours) / len(simulated), label="simulated", **points)
    main.set_ylim(0, 1.15 * max(shape.max(), reference.max()))
    main.tick_params(labelbottom=False)
    enough = (ours >= LEAST_IN_RATIO) & (theirs >= LEAST_IN_RATIO)
    value = shape[enough] / reference[enough]
    ratio.axhline(1, color="0.5", linestyle=":", linewidth=1.5)
    ratio.errorbar(centres[enough], value, value * np.sqrt(1 / ours[enough] + 1 / theirs[enough]), **points)
    ratio.set_ylim(0.6, 1.4)
    for ax in (main, ratio):
        ax.set_xlim(edges[0], edges[-1])


def _draw_sculpting(main: "Axes", ratio: "Axes", point: str, sculpting: Sculpting) -> None:
    merged = next(bins for least, bins in BINS_MERGED if sculpting.selected >= least)
    before, after = (np.reshape(counts, (-1, merged)).sum(axis=1) for counts in (sculpting.before, sculpting.after))
    edges = DIJET_MASS_EDGES_GEV[::merged]
    centres = (edges[:-1] + edges[1:]) / 2
    shape, moved = before / max(before.sum(), 1), after / max(after.sum(), 1)
    main.stairs(shape, edges, fill=True, color="0.82", label=f"before: {sculpting.events:,}")
    some = after > 0
    error = moved[some] / np.sqrt(after[some])
    points: Style = {"fmt": "o", "color": SIGNAL_COLOUR, "markersize": 6, "linewidth": 1.6}
    main.errorbar(centres[some], moved[some], error, label=f"{point}: {sculpting.selected:,}", **points)
    main.set_ylabel(f"fraction / {edges[1] - edges[0]:.0f} GeV")
    main.set_ylim(0, 1.4 * max(shape.max(), np.max(moved[some] + error, initial=1e-3)))
    main.legend(loc="upper right")
    main.tick_params(labelbottom=False)
    enough = (after >= LEAST_IN_RATIO) & (before > 0)
    relative = moved[enough] / shape[enough]
    if enough.any():
        ratio.axhline(1, color="0.5", linestyle=":", linewidth=1.5)
        ratio.errorbar(centres[enough], relative, relative / np.sqrt(after[enough]), **points)
    else:
        _say(ratio, f"fewer than {LEAST_IN_RATIO} events in every bin")
    label(ratio, AXIS_LABELS["mjj"], "after / before")
    ratio.set_ylim(0, np.clip(1.1 * np.max(relative, initial=0), 2, 4))
    for ax in (main, ratio):
        ax.set_xlim(edges[0], edges[-1])


def _draw_shapes(ax: "Axes", backgrounds: Mapping[str, Floats], signals: Mapping[str, Floats], edges: Floats) -> None:
    """Draw each sample's fraction of events by bin: background black or grey, the first filled, signal coloured."""
    lines = [
        *zip(backgrounds.items(), line_styles(GREYS), strict=False),
        *zip(signals.items(), line_styles(), strict=False),
    ]
    most = max(len(values) for (_, values), _ in lines)
    for place, ((name, values), line) in enumerate(lines):
        fractions = histogram(values, edges) / len(values)
        if not place:
            ax.stairs(fractions, edges, fill=True, color="0.87")
        fractions[fractions == 0] = np.nan  # a gap instead of a line down to the axis
        depth = 2 + len(values) / most  # small samples, which scatter, lie behind the others
        look = {"color": line["color"], "linestyle": line["linestyle"], "linewidth": 1.7}
        ax.stairs(fractions, edges, baseline=None, label=printable(name), zorder=depth, **look)


def _say(ax: "Axes", text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=14, transform=ax.transAxes)

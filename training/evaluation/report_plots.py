"""The figures of a report, each returned as a PNG: where both are drawn, background is black or grey, signal coloured.

Knows no file, no model and no arithmetic beyond that of its axes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import count
from typing import Any, Literal

import matplotlib.style
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.evaluation.sculpting import DIJET_MASS_EDGES_GEV, Efficiency, Sculpting, histogram

Floats = NDArray[np.float64]
Style = dict[str, Any]
Place = Literal["outside right upper", "outside lower center"]

# Okabe and Ito's palette for colour-blind readers, jfly.uni-koeln.de/color, without its yellow, pale on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
LINES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
MARKERS = "osD^vPX*"
GREYS = ("black", "0.45", "0.65")

LONGEST_NAME = 34
BINS = 50
# In bins with fewer events an efficiency says little, and its error bar hides the others.
LEAST_IN_BIN = 20
# A ratio of fewer events is off by more than half.
LEAST_IN_RATIO = 4
# From how many selected events on so many bins of the dijet mass are drawn as one.
BINS_MERGED = ((2000, 1), (400, 2), (0, 5))

styled = matplotlib.style.context(
    [
        mplhep.styles.ROOT,
        {
            "font.size": 17,
            "legend.fontsize": 14,
            "figure.constrained_layout.use": True,
            "lines.linewidth": 2,
            "xtick.major.size": 8,
            "xtick.minor.size": 4,
            "ytick.major.size": 8,
            "ytick.minor.size": 4,
            "axes.linewidth": 1.3,
            "savefig.dpi": 85,
        },
    ]
)


@styled
def plot_rejection(curves: Mapping[str, tuple[Floats, Floats]]) -> bytes:
    """Plot background rejection against signal efficiency: a curve is (signal, background efficiency), (points,)."""
    made, (ax,) = _figure()
    for (name, (signal, background)), style in zip(curves.items(), _styles(), strict=False):
        ax.plot(signal, 1 / background, label=_text(name), color=style["color"], linestyle=style["linestyle"])
    chance = np.linspace(1e-3, 1, 500)
    ax.plot(chance, 1 / chance, color="0.5", linestyle=":", label="chance")
    ax.set(xlim=(0, 1), yscale="log", xlabel=r"signal efficiency $\epsilon_{S}$")
    ax.set_ylim(1, 2 / min(np.min(background, initial=1e-2) for _, background in curves.values()))
    ax.set_ylabel(r"background rejection $1/\epsilon_{B}$")
    return _png(made, ax)


@styled
def plot_improvement(curves: Mapping[str, tuple[Floats, Floats]]) -> bytes:
    """Plot eps_S / sqrt(eps_B) against signal efficiency: a curve is (signal, background efficiency), (points,)."""
    made, (ax,) = _figure()
    for (name, (signal, background)), style in zip(curves.items(), _styles(), strict=False):
        improvement = signal / np.sqrt(background)
        ax.plot(signal, improvement, label=_text(name), color=style["color"], linestyle=style["linestyle"])
    chance = np.linspace(0, 1, 500)
    ax.plot(chance, np.sqrt(chance), color="0.5", linestyle=":", label="chance")
    ax.set(xlim=(0, 1), xlabel=r"signal efficiency $\epsilon_{S}$")
    ax.set_ylim(bottom=0)
    ax.set_ylabel(r"significance improvement $\epsilon_{S}$ / √$\epsilon_{B}$")
    return _png(made, ax)


@styled
def plot_scores(
    backgrounds: Mapping[str, Floats], signals: Mapping[str, Floats], thresholds: Mapping[str, float]
) -> bytes:
    """Plot the scores (n,) of each sample in the same bins, the outer of which hold all beyond, and the thresholds."""
    made, (ax,) = _figure(width=13, height=7.5)
    edges = common_edges([*backgrounds.values(), *signals.values()], BINS, include=list(thresholds.values()))
    _draw_shapes(ax, backgrounds, signals, edges)
    ax.set(yscale="log", xlabel="anomaly score", ylabel="share of events / bin")
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top * (top / bottom) ** 0.15)  # room for the names of the working points
    for name, threshold in thresholds.items():
        ax.axvline(threshold, color="0.3", linestyle="--", linewidth=1.3)
        ax.text(
            threshold,
            0.985,
            f"{_text(name)} ",
            rotation=90,
            va="top",
            ha="right",
            fontsize=14,
            transform=ax.get_xaxis_transform(),
        )
    return _png(made, ax)


@styled
def plot_efficiencies(
    edges: Floats, efficiencies: Mapping[str, Mapping[str, Efficiency]], promised: Mapping[str, float], label: str
) -> bytes:
    """Plot the efficiency in bins between edges (k + 1,), a panel for each sample, and what is promised for background.

    A panel has an Efficiency for each working point, in the order of `promised`. An efficiency of 0 has no point.
    """
    columns = min(3, len(efficiencies))
    made, axes = _figure(len(efficiencies), columns, width=4.7 * columns, height=4.2, share=True)
    centres = (edges[:-1] + edges[1:]) / 2
    for place, (ax, (sample, points)) in enumerate(zip(axes, efficiencies.items(), strict=True)):
        for (point, binned), style in zip(points.items(), _styles(), strict=False):
            events, passed = np.array(binned.events), np.array(binned.passed)
            drawn = (events >= LEAST_IN_BIN) & (passed > 0)  # a line ends where they are not
            value = np.divide(passed, events, out=np.full(len(events), np.nan), where=drawn)
            error = np.abs(np.array([binned.low, binned.high]) - value)
            name = f"{_text(point)}, $\\epsilon_{{B}}$ = {promised[point]:g} promised (dotted)"
            ax.errorbar(centres, value, error, label=name, **(style | {"linewidth": 1.5}), markersize=5)
            ax.axhline(promised[point], color=style["color"], linestyle=":", linewidth=1.2)
        if not any(max(binned.events) >= LEAST_IN_BIN for binned in points.values()):
            ax.text(0.5, 0.5, f"fewer than {LEAST_IN_BIN} events\nin every bin", ha="center", transform=ax.transAxes)
        ax.set(yscale="log", xlim=(edges[0], edges[-1]), ylim=(min(promised.values()) / 20, 1.8))
        ax.set_title(_text(sample), fontsize=15, loc="left")
        if place >= len(efficiencies) - columns:
            ax.set_xlabel(label)
            ax.tick_params(labelbottom=True)
        if place % columns == 0:
            ax.set_ylabel("efficiency")
    return _png(made, axes[0], "outside lower center", columns=2)


@styled
def plot_sculpting(shapes: Mapping[str, Sculpting]) -> bytes:
    """Plot the dijet mass before and after each working point, both of unit area, and their ratio below."""
    columns = 2 if len(shapes) in (2, 4) else min(3, len(shapes))
    rows = -(-len(shapes) // columns)
    made = Figure(figsize=(5.5 * columns, 6.2 * rows))
    grid = made.subplots(2 * rows, columns, squeeze=False, height_ratios=[2.4, 1] * rows)
    axes = grid.reshape(rows, 2, columns).swapaxes(1, 2).reshape(-1, 2)  # (panel, (shapes, ratio))
    for ax in axes[len(shapes) :].ravel():
        ax.set_visible(False)
    for (main, ratio), (point, sculpting) in zip(axes, shapes.items(), strict=False):
        merged = next(bins for least, bins in BINS_MERGED if sculpting.selected >= least)
        before, after = (np.reshape(counts, (-1, merged)).sum(axis=1) for counts in (sculpting.before, sculpting.after))
        edges = DIJET_MASS_EDGES_GEV[::merged] / 1000
        centres = (edges[:-1] + edges[1:]) / 2
        shape, moved = before / max(before.sum(), 1), after / max(after.sum(), 1)
        main.stairs(shape, edges, fill=True, color="0.82", label=f"before: {sculpting.events:,}")
        some = after > 0
        error = moved[some] / np.sqrt(after[some])
        style: Style = {"fmt": "o", "color": COLOURS[1], "markersize": 6, "linewidth": 1.6}
        main.errorbar(centres[some], moved[some], error, label=f"{_text(point)}: {sculpting.selected:,}", **style)
        width = round(1000 * (edges[1] - edges[0]))
        main.set(ylabel=f"share of events / {width} GeV", xlim=(edges[0], edges[-1]))
        main.set_ylim(0, 1.4 * max(shape.max(), np.max(moved[some] + error, initial=1e-3)))
        main.legend(loc="upper right")
        main.tick_params(labelbottom=False)
        enough = (after >= LEAST_IN_RATIO) & (before > 0)
        relative = moved[enough] / shape[enough]
        ratio.axhline(1, color="0.5", linestyle=":", linewidth=1.5)
        ratio.errorbar(centres[enough], relative, relative / np.sqrt(after[enough]), **style)
        ratio.set(xlim=(edges[0], edges[-1]), xlabel="dijet mass $m_{JJ}$ [TeV]", ylabel="after / before")
        ratio.set_ylim(0, np.clip(1.1 * np.max(relative, initial=0), 2, 4))
    return _png(made)


@styled
def plot_features(
    backgrounds: Mapping[str, Mapping[str, Floats]],
    signals: Mapping[str, Mapping[str, Floats]],
    labels: Mapping[str, str],
) -> bytes:
    """Plot each quantity of `labels`, which gives its axis label, in every sample: values (n,), NaN where undefined."""
    made, axes = _figure(len(labels), min(3, len(labels)), width=15.5, height=4.8)
    for ax, (quantity, label) in zip(axes, labels.items(), strict=True):
        background, signal = (
            {name: values[quantity] for name, values in some.items()} for some in (backgrounds, signals)
        )
        _draw_shapes(ax, background, signal, common_edges([*background.values(), *signal.values()], BINS))
        ax.set(xlabel=label, ylabel="share of events / bin")
        ax.set_ylim(bottom=0)
    return _png(made, axes[0], "outside lower center", columns=4)


@styled
def plot_calibration(ratios: Mapping[str, Mapping[str, tuple[float, float]]], points: Sequence[str]) -> bytes:
    """Plot measured over promised efficiency (value, error) of each background sample at the working points it has."""
    made, (ax,) = _figure()
    ax.axhspan(0.9, 1.1, color="0.9", label="within 10 %")
    ax.axhline(1, color="0.5", linestyle=":", linewidth=1.5)
    places = {point: place for place, point in enumerate(points)}
    for index, ((name, of_points), style) in enumerate(zip(ratios.items(), _styles(), strict=False)):
        x = [places[point] + 0.5 * ((index + 0.5) / len(ratios) - 0.5) for point in of_points]
        value, error = np.array(list(of_points.values())).reshape(-1, 2).T
        ax.errorbar(x, value, error, label=_text(name), **(style | {"linestyle": "none"}), markersize=9, capsize=4)
    everything = [value + sign * error for one in ratios.values() for value, error in one.values() for sign in (-1, 1)]
    ax.set_ylim(max(0.0, min([0.8, *everything]) - 0.05), max([1.2, *everything]) + 0.05)
    ax.set_xticks(range(len(points)), [_text(point) for point in points])
    ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    ax.set(xlim=(-0.5, len(points) - 0.5), xlabel="working point", ylabel=r"$\epsilon_{B}$ measured / promised")
    return _png(made, ax)


def common_edges(samples: Iterable[Floats], bins: int, include: Sequence[float] = ()) -> Floats:
    """Return edges (bins + 1,) of equal bins over the bulk of every sample's values (n,), and over what is included.

    The bulk is what lies between the 0.1 % and 99.9 % quantiles; NaN does not count.
    """
    ends = [float(value) for value in include]
    for values in samples:
        known = values[~np.isnan(values)]
        if len(known):
            ends += np.quantile(known, [0.001, 0.999]).tolist()
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = 0.03 * (high - low) or 0.5  # a threshold does not lie on the frame; one value alone still has a bin
    return np.linspace(low - margin, high + margin, bins + 1)


def _draw_shapes(ax: Axes, backgrounds: Mapping[str, Floats], signals: Mapping[str, Floats], edges: Floats) -> None:
    """Draw each sample's share of events by bin: the first background filled, the others as lines."""
    lines = [
        *((name, values, _background_style(place)) for place, (name, values) in enumerate(backgrounds.items())),
        *((name, values, style) for (name, values), style in zip(signals.items(), _styles(), strict=False)),
    ]
    most = max(len(values) for _, values, _ in lines)
    for place, (name, values, style) in enumerate(lines):
        shares = histogram(values, edges) / len(values)
        if not place:
            ax.stairs(shares, edges, fill=True, color="0.87")
        shares[shares == 0] = np.nan  # a gap instead of a line down to the axis
        line = {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 1.7}
        depth = 2 + len(values) / most  # small samples, which scatter, lie behind the others
        ax.stairs(shares, edges, baseline=None, label=_text(name), zorder=depth, **line)


def _styles() -> Iterator[Style]:
    """Yield a style for each line: all colours, then all again with another line and marker."""
    for place in count():
        line, marker = LINES[place // len(COLOURS) % len(LINES)], MARKERS[place % len(MARKERS)]
        yield {"color": COLOURS[place % len(COLOURS)], "linestyle": line, "marker": marker}


def _background_style(place: int) -> Style:
    return {"color": GREYS[place % len(GREYS)], "linestyle": LINES[place % len(LINES)], "marker": "o"}


def _figure(
    panels: int = 1, columns: int = 1, width: float = 12, height: float = 7.2, share: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure of a width, and a height for each row, in inches, with that many panels in columns."""
    rows = -(-panels // columns)
    made = Figure(figsize=(width, height * rows))
    axes: list[Axes] = made.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel().tolist()
    for ax in axes[panels:]:
        ax.set_visible(False)
    return made, axes[:panels]


def _png(made: Figure, legend_of: Axes | None = None, where: Place = "outside right upper", columns: int = 1) -> bytes:
    """Return a figure as PNG, with the legend of one of its axes outside all of them, where it hides no data."""
    if legend_of is not None:
        handles, names = legend_of.get_legend_handles_labels()
        made.legend(handles, names, loc=where, ncols=columns)
    file = BytesIO()
    made.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _text(name: str) -> str:
    """Return a name as the figures' font can write it, not too long, and never taken for a formula or left out."""
    known = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in name)
    short = known if len(known) <= LONGEST_NAME else f"{known[: LONGEST_NAME - 3]}..."
    escaped = short.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped  # matplotlib hides names that begin so

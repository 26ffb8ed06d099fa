"""The figures of a search."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from training.evaluation.style import (
    BACKGROUND_COLOUR,
    COLOURS,
    SIGNAL_COLOUR,
    Style,
    figure,
    label,
    legend,
    style,
)
from training.search.finding import Finding
from training.search.injection import Injected

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

MASS = "dijet mass $m_{JJ}$ [TeV]"
BAND = "0.88"


@style()
def plot_spectrum(edges_gev: Floats, before: Floats | None, finding: Finding) -> "Figure":
    """Plot a spectrum with its fit, the most significant window and, below, the pulls; `before` the selection in grey.

    The window is not part of the fit. Events of a bin are divided by its width.
    """
    made, (main, pulls) = figure(1, 2, width=11, height=3.9, sharex=True, height_ratios=[2.6, 1])
    edges, widths = edges_gev / 1000, np.diff(edges_gev) / 1000
    centres = np.sqrt(edges[1:] * edges[:-1])
    observed, expected = np.array(finding.observed), np.array(finding.expected)
    if before is not None:
        main.stairs(before / widths, edges, color="0.6", linewidth=1.5, label="before the selection")
    some = observed > 0
    density, error = observed[some] / widths[some], np.sqrt(observed[some]) / widths[some]
    points: Style = {"fmt": "o", "color": "black", "markersize": 5, "linewidth": 1.4}
    main.errorbar(centres[some], density, error, label="accepted events", **points)
    main.plot(centres, expected / widths, color=BACKGROUND_COLOUR, label="fit outside the window")
    pulls.errorbar(centres, finding.pulls, np.where(some, np.sqrt(observed / expected), 1), **points)
    pulls.axhline(0, color=BACKGROUND_COLOUR)
    for ax, name in ((main, "most significant window"), (pulls, None)):
        _shade(ax, finding, name)
    top = max(density.max(), 0 if before is None else (before / widths).max())
    main.set(yscale="log", ylabel="events / TeV", ylim=(0.3 * (density - 0.5 * error).min(), 3 * top))
    drawn = edges[: int(np.flatnonzero(some)[-1]) + 2]  # up to the last event
    main.set_xlim(drawn[0], drawn[-1])
    label(pulls, MASS, "pull")
    shown = np.array(finding.pulls)[: len(drawn) - 1]
    pulls.set_ylim(min(-4, shown.min() - 1.5), max(4, shown.max() + 1.5))
    legend(made, main)
    return made


@style()
def plot_windows(finding: Finding) -> "Figure":
    """Plot the local p-value of every window as a line over its mass range, with lines of significance."""
    made, (ax,) = figure(width=11, height=5.5)
    for window in finding.windows:
        best = window == finding.best
        look: Style = (
            {"color": SIGNAL_COLOUR, "linewidth": 3, "zorder": 3} if best else {"color": "0.55", "linewidth": 0.9}
        )
        ax.plot([window.low_gev / 1000, window.high_gev / 1000], [window.p] * 2, **look)
    bottom = min(1e-3, finding.best.p / 30)
    ax.set(yscale="log", ylim=(bottom, 2))
    _significances(ax, {sigma: p for sigma in range(1, 38) if (p := norm.sf(sigma)) > bottom})
    label(ax, MASS, "local p-value")
    return made


@style()
def plot_toys(statistics: Floats, observed: float) -> "Figure":
    """Plot the test statistic of background-only toys (n,) and that of the data."""
    made, (ax,) = figure(width=11, height=5.5)
    edges = np.linspace(0, 1.06 * max(observed, statistics.max()), 60)
    ax.stairs(np.histogram(statistics, edges)[0], edges, fill=True, color="0.7", label="toys of background alone")
    ax.axvline(observed, color=SIGNAL_COLOUR, label="observed")
    ax.set(yscale="log", xlim=(0, edges[-1]), ylim=(0.5, None))
    label(ax, "test statistic: - ln of the smallest local p-value", "toys / bin")
    legend(made, ax)
    return made


@style()
def plot_injection(curve: Sequence[Injected]) -> "Figure":
    """Plot the expected and the found global significance against the injected signal."""
    made, (ax,) = figure(width=11, height=6)
    strengths = [one.strength for one in curve]
    low, middle, high = np.transpose([one.found for one in curve])
    ax.fill_between(strengths, low, high, color=COLOURS[4], alpha=0.35, linewidth=0, label="found: central 68 %")
    ax.plot(strengths, middle, "o-", color=BACKGROUND_COLOUR, label="found: median")
    ax.plot(strengths, [one.expected for one in curve], "k--", label="expected")
    events = [(one.strength, *one.found_in_events) for one in curve if one.found_in_events]
    if events:
        x, lowest, centre, highest = np.transpose(events)
        error = [centre - lowest, highest - centre]
        name = "found in the background events of the files"
        ax.errorbar(x, centre, error, fmt="s", color=SIGNAL_COLOUR, capsize=4, label=name)
    ax.set(xlim=(0, strengths[-1]), ylim=(-1, None))
    _significances(ax, {sigma: sigma for sigma in range(1, int(ax.get_ylim()[1]) + 1, 2)})
    label(ax, "injected $S$ / √$B$ in the signal region, before the selection", r"global significance [$\sigma$]")
    legend(made, ax)
    return made


def _shade(ax: "Axes", finding: Finding, name: str | None) -> None:
    ax.axvspan(finding.best.low_gev / 1000, finding.best.high_gev / 1000, color=BAND, zorder=0, label=name)


def _significances(ax: "Axes", places: Mapping[int, float]) -> None:
    """Draw a line at the place of each significance on the y axis, with its name at the right."""
    for sigma, y in places.items():
        ax.axhline(y, color="0.8", linestyle=":", linewidth=1.2, zorder=0)
        ax.text(1.005, y, rf"{sigma}$\sigma$", transform=ax.get_yaxis_transform(), va="center", fontsize=13)

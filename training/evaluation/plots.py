"""Figures: what a person should see of a training or an evaluation, as PNG; knows no file format but that."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Blue and orange, which colour-blind readers tell apart.
BACKGROUND_COLOUR = "#1f77b4"
SIGNAL_COLOUR = "#d95f02"


def figure(columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with that grid of axes, legible when projected; no global state of matplotlib is touched."""
    made = Figure(figsize=(7.5 * columns, 5.2 * rows), layout="constrained")
    axes = made.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax in axes:
        ax.tick_params(direction="in", top=True, right=True, which="both", labelsize=12)
    return made, axes


def save(made: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    made.savefig(path, dpi=110, format="png", metadata={"Software": None})


def label(ax: Axes, x: str, y: str) -> None:
    """Name both axes, units included."""
    ax.set_xlabel(x, fontsize=14)
    ax.set_ylabel(y, fontsize=14)


def plot_learning_curve(losses: Sequence[tuple[float, float]], path: Path) -> None:
    """Plot (training, validation) loss of each epoch, the best epoch marked."""
    made, (ax,) = figure()
    epochs = np.arange(1, len(losses) + 1)
    training, validation = np.array(losses).T
    best = int(np.argmin(validation))
    ax.plot(epochs, training, "o-", markersize=3, label="training", color=BACKGROUND_COLOUR)
    ax.plot(epochs, validation, "o-", markersize=3, label="held-out", color=SIGNAL_COLOUR)
    ax.plot(epochs[best], validation[best], "k*", markersize=12, label=f"best: epoch {best + 1}")
    ax.set_yscale("log")
    label(ax, "epoch", "loss per event")
    ax.legend(fontsize=12, frameon=False)
    save(made, path)


def plot_roc(curves: Mapping[str, tuple[Floats, Floats]], path: Path) -> None:
    """Plot background rejection and significance improvement against signal efficiency.

    A curve is (signal efficiency, background efficiency), each (points,). The significance improvement is
    eps_S / sqrt(eps_B); both are drawn only where some background is left.
    """
    made, (rejection, improvement) = figure(columns=2)
    for name, (signal, background) in curves.items():
        some = background > 0
        rejection.plot(signal[some], 1 / background[some], label=name)
        improvement.plot(signal[some], signal[some] / np.sqrt(background[some]), label=name)
    chance = np.linspace(1e-3, 1, 500)
    rejection.plot(chance, 1 / chance, "k:", linewidth=1, label="chance")
    improvement.plot(chance, np.sqrt(chance), "k:", linewidth=1, label="chance")
    rejection.set_yscale("log")
    label(rejection, r"signal efficiency $\epsilon_S$", r"background rejection $1/\epsilon_B$")
    label(improvement, r"signal efficiency $\epsilon_S$", r"significance improvement $\epsilon_S/\sqrt{\epsilon_B}$")
    for ax in (rejection, improvement):
        ax.set_xlim(0, 1)
        ax.legend(fontsize=11, frameon=False)
    save(made, path)


def plot_scores(scores: Mapping[str, tuple[Floats, Floats]], thresholds: Mapping[str, float], path: Path) -> None:
    """Plot the score distributions of each sample, (background (n,), signal (m,)), and the working points."""
    made, axes = figure(columns=len(scores))
    everything = np.concatenate([values for pair in scores.values() for values in pair])
    positive = everything[everything > 0]
    low, high = np.quantile(positive, [0.0005, 0.9995])
    bins = np.geomspace(low, high, 60)
    for ax, (name, (background, signal)) in zip(axes, scores.items(), strict=True):
        # Densities in ln(score), so that equal areas are equal shares on the logarithmic axis.
        for values, colour, what in ((background, BACKGROUND_COLOUR, "background"), (signal, SIGNAL_COLOUR, "signal")):
            weights = np.full(len(values), 1 / (len(values) * np.log(bins[1] / bins[0])))
            ax.hist(values, bins.tolist(), weights=weights, histtype="step", linewidth=1.8, label=what, color=colour)
        for point, threshold in thresholds.items():
            ax.axvline(threshold, color="grey", linestyle="--", linewidth=1)
            ax.text(
                threshold, 0.97, f" {point}", rotation=90, va="top", transform=ax.get_xaxis_transform(), fontsize=10
            )
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_title(name, fontsize=13)
        label(ax, "anomaly score", "events / total / unit of ln(score)")
        ax.legend(fontsize=12, frameon=False, loc="upper left")
    save(made, path)


def plot_comparison(
    samples: Mapping[str, Mapping[str, Floats]], ranges: Mapping[str, tuple[float, float, str]], path: Path
) -> None:
    """Plot each quantity's distribution in every sample over one another: `ranges` gives (low, high, axis label).

    A sample whose name begins with "real" is drawn as points with errors, any other as a line; one whose name ends in
    "signal" has the colour of signal.
    """
    columns = 3
    made, axes = figure(columns, -(-len(ranges) // columns))
    for ax, (quantity, (low, high, title)) in zip(axes, ranges.items(), strict=False):
        bins = np.linspace(low, high, 41)
        width = bins[1] - bins[0]
        for name, values in samples.items():
            colour = SIGNAL_COLOUR if name.endswith("signal") else BACKGROUND_COLOUR
            counts = np.histogram(values[quantity], bins)[0]
            norm = len(values[quantity]) * width
            if name.startswith("real"):
                some = counts > 0
                centres = ((bins[:-1] + bins[1:]) / 2)[some]
                height, error = counts[some] / norm, np.sqrt(counts[some]) / norm
                ax.errorbar(centres, height, error, fmt="o", markersize=4, label=name, color=colour)
            else:
                ax.stairs(counts / norm, bins, label=name, linewidth=1.8, color=colour)
        label(ax, title, "events / total / bin width")
        ax.legend(fontsize=11, frameon=False)
    for ax in axes[len(ranges) :]:
        ax.set_visible(False)
    save(made, path)

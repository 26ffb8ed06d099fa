"""Comparison of simulated with published events in the signal window.

The window is that of Hallin et al., "Classifying Anomalies Through Outer Density Estimation", arXiv:2109.00546, whose
authors distribute the LHC Olympics' R&D events in it as arrays with five quantities of each event and its label.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from training.errors import EventsError
from training.events.kinematics import quantities

Floats = NDArray[np.float64]

WINDOW_GEV = (3300.0, 3700.0)
"""Range of the dijet mass."""

OF_WINDOW = {
    "mjj": "dijet mass $m_{JJ}$ [GeV]",
    "m_lighter": "mass of the lighter jet [GeV]",
    "m_difference": "mass difference of the jets [GeV]",
    "tau21_lighter": r"$\tau_{2}/\tau_{1}$ of the lighter jet",
    "tau21_heavier": r"$\tau_{2}/\tau_{1}$ of the heavier jet",
}
"""The columns of the arrays before the label, with their axis labels; the arrays have masses in TeV."""

MASSES = 3  # the first ones are masses

SMALLEST_P = 0.005
"""Smaller p-values are a disagreement; with ten comparisons of equal samples, one set in twenty has such a value."""

MIN_EVENTS = 20


@dataclass(frozen=True)
class Agreement:
    """A quantity of simulated and published events, by the Kolmogorov-Smirnov test."""

    quantity: str
    simulated: int  # events
    published: int
    distance: float  # largest difference of the cumulative distributions
    where: float  # value at which it is the largest
    p: float  # probability of such a distance, or a larger one, between samples of one distribution
    shift: float  # simulated minus published mean
    shift_error: float

    @property
    def agrees(self) -> bool:
        """Whether the samples are compatible with one distribution."""
        return self.p >= SMALLEST_P


def read_window(paths: Iterable[Path]) -> dict[str, dict[str, Floats]]:
    """Return the quantities of OF_WINDOW of published background and signal, each (n,), masses in GeV.

    A path is an .npy file or a folder of them. Raises EventsError for files that do not hold such events.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.npy")) if path.is_dir() else [path])]
    if not files:
        raise EventsError("--window names a folder without .npy files: name one that has events of the window")
    rows = np.concatenate([_read(file) for file in files])
    masses = np.array([1000.0] * MASSES + [1.0] * (len(OF_WINDOW) - MASSES))
    return {
        kind: dict(zip(OF_WINDOW, (masses * rows[rows[:, -1] == label, :-1]).T, strict=True))
        for kind, label in (("background", 0), ("signal", 1))
    }


def _read(path: Path) -> Floats:
    try:
        with path.open("rb") as file:
            rows: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise EventsError(f"{path} cannot be read as .npy: {error}") from error
    columns = len(OF_WINDOW) + 1
    if rows.ndim != 2 or rows.shape[1] != columns or rows.dtype.kind != "f":
        raise EventsError(
            f"{path} holds {rows.dtype} of shape {rows.shape}, expected numbers (n, {columns}): mjj, "
            "lighter mass and mass difference in TeV, tau21 of the lighter and of the heavier jet, label"
        )
    mjj, label = 1000.0 * rows[:, 0], rows[:, -1]
    if not (np.isfinite(rows).all() and np.isin(label, (0, 1)).all() and _inside(mjj).all()):
        least, most = WINDOW_GEV
        raise EventsError(
            f"{path} holds other values than events of the window: expected finite numbers, mjj of {least / 1000:g} to "
            f"{most / 1000:g} TeV in the first column, and 0 or 1 in the last"
        )
    wide: Floats = rows.astype(np.float64)
    return wide


def in_window(features: NDArray[np.floating]) -> dict[str, Floats]:
    """Return the quantities of OF_WINDOW of those events of features (n, 14) in GeV that lie in the window."""
    of_jets = quantities(features)
    inside = _inside(of_jets["mjj"])
    first_is_lighter = (of_jets["mj1"] <= of_jets["mj2"])[inside]
    one, two = of_jets["tau21j1"][inside], of_jets["tau21j2"][inside]
    return {
        "mjj": of_jets["mjj"][inside],
        "m_lighter": of_jets["m_lighter"][inside],
        "m_difference": (of_jets["m_heavier"] - of_jets["m_lighter"])[inside],
        "tau21_lighter": np.where(first_is_lighter, one, two),
        "tau21_heavier": np.where(first_is_lighter, two, one),
    }


def _inside(mjj: Floats) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (mjj >= WINDOW_GEV[0]) & (mjj <= WINDOW_GEV[1])
    return inside


def compare_in_window(simulated: dict[str, Floats], published: dict[str, Floats]) -> list[Agreement]:
    """Compare each quantity of OF_WINDOW; events that lack it (NaN) are ignored.

    Raises EventsError if either sample has fewer than MIN_EVENTS events.
    """
    return [_agreement(name, _known(simulated[name]), _known(published[name])) for name in OF_WINDOW]


def _known(values: Floats) -> Floats:
    known = values[~np.isnan(values)]
    if len(known) < MIN_EVENTS:
        least, most = WINDOW_GEV
        raise EventsError(
            f"{len(known)} events have a dijet mass of {least:g} to {most:g} GeV, expected at least {MIN_EVENTS}: "
            "add some"
        )
    return known


def _agreement(name: str, simulated: Floats, published: Floats) -> Agreement:
    test = ks_2samp(simulated, published)
    return Agreement(
        quantity=name,
        simulated=len(simulated),
        published=len(published),
        distance=float(test.statistic),
        where=float(test.statistic_location),
        p=float(test.pvalue),
        shift=float(simulated.mean() - published.mean()),
        shift_error=float(
            np.hypot(simulated.std() / np.sqrt(len(simulated)), published.std() / np.sqrt(len(published)))
        ),
    )


def window_table(agreements: Iterable[Agreement]) -> str:
    """Return a table with one line per quantity: distance, p-value, shift of the mean and verdict."""
    lines = [
        f"{'quantity':<14} {'simulated':>9} {'published':>9} {'distance':>9} {'at':>8} {'p':>9} "
        f"{'shift of the mean':>19}"
    ]
    for one in agreements:
        digits = 1 if one.quantity in list(OF_WINDOW)[:MASSES] else 4
        shift = f"{one.shift:+.{digits}f} ± {one.shift_error:.{digits}f}"
        verdict = "agrees" if one.agrees else "does not agree"
        lines.append(
            f"{one.quantity:<14} {one.simulated:>9,} {one.published:>9,} {one.distance:>9.4f} {one.where:>8.4g} "
            f"{one.p:>9.2g} {shift:>19}  {verdict}"
        )
    return "\n".join(lines)

"""The style of all figures: matplotlib's settings, colours, lines, panels, legends and names.

Matplotlib is imported when the first figure is drawn. Every figure has the settings below, independent of the
environment and of the user's matplotlib configuration, and is drawn without a display.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Style = dict[str, Any]
Value = TypeVar("Value")

# Okabe and Ito's palette for colour-blind readers, jfly.uni-koeln.de/color, without its yellow, pale on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
BACKGROUND_COLOUR, SIGNAL_COLOUR = COLOURS[:2]
GREYS = ("black", "0.45", "0.65")
LINES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (10, 2)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = "osD^vPX*"
# Added to mplhep's ROOT style.
SETTINGS = {
    "font.family": ["TeX Gyre Heros", "DejaVu Sans"],  # the second has characters that the first lacks
    "font.size": 17,
    "legend.fontsize": 14,
    "lines.linewidth": 2,
    "axes.linewidth": 1.3,
    **{f"{axis}tick.{kind}.size": size for axis in "xy" for kind, size in (("major", 8), ("minor", 4))},
    "savefig.dpi": 100,
    "pdf.fonttype": 42,  # editable and searchable text, for journals
    "svg.fonttype": "none",
    "svg.hashsalt": "lhc-anomaly",
}

FORMATS = {".png": ("Software",), ".pdf": ("Creator", "Producer", "CreationDate"), ".svg": ("Creator", "Date")}
"""Formats of figures by suffix, with the metadata that matplotlib must not write."""

LONGEST_NAME = 34
SIGNAL_NAME = re.compile(r"(\d+)_(\d+)_(\d+)_([23])prong")
"""Names of the files of the reported signals: masses of W', X and Y in GeV, and the prongs of either decay."""

MOST_LINES = 6
"""Maximum number of lines that are readable in one panel."""


def _import_matplotlib() -> ModuleType:
    """Import matplotlib independent of MPLBACKEND, which may name a notebook backend that is not installed."""
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib as mpl
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend is not None:
        with suppress(ValueError):  # the backend of the user's own figures
            mpl.rcParams["backend"] = backend
    return mpl


@contextmanager
def style() -> Iterator[None]:
    """Apply this module's settings of matplotlib, and restore the user's afterwards; also a decorator."""
    matplotlib = _import_matplotlib()
    import mplhep

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(mplhep.styles.ROOT | SETTINGS)
        yield


@style()
def figure(
    columns: int = 1, rows: int = 1, width: float = 7.5, height: float = 5.2, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, row by row, each with a width and height in inches."""
    from matplotlib.figure import Figure  # needs no window, unlike pyplot

    made = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False, **options).ravel().tolist()


def label(ax: Axes, x: str, y: str) -> None:
    """Label both axes, with units."""
    ax.set(xlabel=x, ylabel=y)


@style()
def rendered(made: Figure, suffix: str = ".png") -> bytes:
    """Return a figure in the format of a suffix of FORMATS: the same bytes each time."""
    file = BytesIO()
    made.savefig(file, format=suffix[1:], metadata=dict.fromkeys(FORMATS[suffix]))
    return file.getvalue()


def save(made: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    path.write_bytes(rendered(made))


def line_styles(colours: Sequence[str] = COLOURS) -> Iterator[Style]:
    """Yield a style for each line; neighbours differ in colour, line and marker, and so also in greyscale."""
    for place in count():
        n = place % len(colours)
        line, marker = LINES[(n + place // len(colours)) % len(LINES)], MARKERS[place % len(MARKERS)]
        yield {"color": colours[n], "linestyle": line, "marker": marker}


def split(items: Mapping[str, Value], most: int = MOST_LINES) -> list[dict[str, Value]]:
    """Split items into groups of similar size, with at most `most` lines each."""
    pairs, groups = list(items.items()), -(-len(items) // most)
    size = -(-len(pairs) // max(groups, 1))
    return [dict(pairs[start : start + size]) for start in range(0, len(pairs), max(size, 1))]


def blocks(groups: int, quantities: int, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with axes for each quantity of each group; the block of a group has at most three columns."""
    columns = min(3, quantities)
    in_block = columns * -(-quantities // columns)
    made, axes = figure(columns, groups * in_block // columns, **options)
    found = [axes[start : start + in_block] for start in range(0, len(axes), in_block)]
    for block in found:
        for ax in block[quantities:]:
            ax.set_visible(False)
    return made, [block[:quantities] for block in found]


def panels(number: int, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure with `number` axes in at most three columns."""
    made, (axes,) = blocks(1, number, **options)
    return made, axes


def legends(made: Figure, found: Sequence[Sequence[Axes]]) -> None:
    """Place the legend of a single block below it, and those of several blocks to their right."""
    if len(found) == 1:
        legend(made, found[0][0])
        return
    made.set_figwidth(made.get_figwidth() + 4)
    for block in found:
        handles, names = block[0].get_legend_handles_labels()
        place: Style = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}
        block[min(3, len(block)) - 1].legend(handles, names, **place)


def legend(made: Figure, ax: Axes) -> None:
    """Place the legend of an axes below all axes, where it hides no data, and increase the figure's height by it."""
    handles, names = ax.get_legend_handles_labels()
    columns = max(1, int(made.get_figwidth() / 4.5))
    made.set_figheight(made.get_figheight() + 0.3 * -(-len(names) // columns))
    made.legend(handles, names, loc="outside lower center", ncols=columns)


def printable(name: str) -> str:
    """Return a name for a figure: printable by the fonts, shortened, and not parsed as a formula or hidden.

    The name of a signal, which has its masses, is written out.
    """
    name = SIGNAL_NAME.sub(r"\1 → \2 + \3 GeV, \4 prongs", name)
    known = "".join(letter if ord(letter) in _letters() else "?" for letter in name)
    short = known if len(known) <= LONGEST_NAME else f"{known[: LONGEST_NAME - 3]}..."
    escaped = short.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped  # matplotlib hides names that begin with _


@cache
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())

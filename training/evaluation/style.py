"""The look of all figures: matplotlib's settings, colours, lines, panels, legends and names.

Matplotlib is imported when the first figure is drawn. Every figure has the settings below, whatever the environment and
the user's configuration of matplotlib say, and is drawn without a display.
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
# Added to mplhep's style of ROOT.
SETTINGS = {
    "font.family": ["TeX Gyre Heros", "DejaVu Sans"],  # the second has the letters that the first lacks
    "font.size": 17,
    "legend.fontsize": 14,
    "lines.linewidth": 2,
    "axes.linewidth": 1.3,
    **{f"{axis}tick.{kind}.size": size for axis in "xy" for kind, size in (("major", 8), ("minor", 4))},
    "savefig.dpi": 100,
    "pdf.fonttype": 42,  # text that journals can edit, and search
    "svg.fonttype": "none",
    "svg.hashsalt": "lhc-anomaly",
}

FORMATS = {".png": ("Software",), ".pdf": ("Creator", "Producer", "CreationDate"), ".svg": ("Creator", "Date")}
"""The formats of figures by suffix, and what matplotlib would write into them that is not of the figure."""

LONGEST_NAME = 34
SIGNAL_NAME = re.compile(r"(\d+)_(\d+)_(\d+)_([23])prong")
"""How the files of the reported signals are named: W', X and Y in GeV, and the prongs of either decay."""

MOST_LINES = 6
"""With more in one panel nobody can follow each."""


def _import_matplotlib() -> ModuleType:
    """Import matplotlib whatever MPLBACKEND names: with a notebook's backend that is not installed, that would fail."""
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib as mpl
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend is not None:
        with suppress(ValueError):  # the user's own figures are drawn with it
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
    from matplotlib.figure import Figure  # knows no window, unlike pyplot's

    made = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False, **options).ravel().tolist()


def label(ax: Axes, x: str, y: str) -> None:
    """Name both axes, units included."""
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
    """Yield a style for each line: neighbours differ in colour, line and marker, so that greyscale tells them apart."""
    for place in count():
        n = place % len(colours)
        line, marker = LINES[(n + place // len(colours)) % len(LINES)], MARKERS[place % len(MARKERS)]
        yield {"color": colours[n], "linestyle": line, "marker": marker}


def split(items: Mapping[str, Value], most: int = MOST_LINES) -> list[dict[str, Value]]:
    """Return what is to be drawn as groups of similar size, of at most so many lines each."""
    pairs, groups = list(items.items()), -(-len(items) // most)
    size = -(-len(pairs) // max(groups, 1))
    return [dict(pairs[start : start + size]) for start in range(0, len(pairs), max(size, 1))]


def blocks(groups: int, quantities: int, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with axes for each quantity of each group, a block of at most three columns a group."""
    columns = min(3, quantities)
    in_block = columns * -(-quantities // columns)
    made, axes = figure(columns, groups * in_block // columns, **options)
    found = [axes[start : start + in_block] for start in range(0, len(axes), in_block)]
    for block in found:
        for ax in block[quantities:]:
            ax.set_visible(False)
    return made, [block[:quantities] for block in found]


def panels(number: int, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of at most three columns with that many axes."""
    made, (axes,) = blocks(1, number, **options)
    return made, axes


def legends(made: Figure, found: Sequence[Sequence[Axes]]) -> None:
    """Put the legend of one block below it, those of several at their right."""
    if len(found) == 1:
        legend(made, found[0][0])
        return
    made.set_figwidth(made.get_figwidth() + 4)
    for block in found:
        handles, names = block[0].get_legend_handles_labels()
        place: Style = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}
        block[min(3, len(block)) - 1].legend(handles, names, **place)


def legend(made: Figure, ax: Axes) -> None:
    """Put the legend of an axes below all of them, where it hides no data, in a figure that grows by its height."""
    handles, names = ax.get_legend_handles_labels()
    columns = max(1, int(made.get_figwidth() / 4.5))
    made.set_figheight(made.get_figheight() + 0.3 * -(-len(names) // columns))
    made.legend(handles, names, loc="outside lower center", ncols=columns)


def printable(name: str) -> str:
    """Return a name as the fonts can write it, not too long, and never taken for a formula or left out.

    A signal that is named by its masses has them in words.
    """
    name = SIGNAL_NAME.sub(r"\1 → \2 + \3 GeV, \4 prongs", name)
    known = "".join(letter if ord(letter) in _letters() else "?" for letter in name)
    short = known if len(known) <= LONGEST_NAME else f"{known[: LONGEST_NAME - 3]}..."
    escaped = short.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped  # matplotlib hides names that begin so


@cache
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())

"""The files of a search: one HTML page with all tables and figures, the numbers, and the figures."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from service.model.artefact import Artefact
from training.evaluation.evaluation import TRAINED_ON
from training.evaluation.facts import caution, facts
from training.evaluation.figures import draw, with_pdfs
from training.evaluation.page import filled, pngs
from training.files import write_files
from training.search import plots
from training.search.fit import TERMS
from training.search.scan import LEAST_BESIDE, SMALLEST_P, WIDTHS
from training.search.search import Search
from training.search.spectrum import BIN_RATIO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "search.html"
NUMBERS = "search.json"


def write_search(folder: Path, artefact: Artefact, search: Search, pdf: bool = False) -> None:
    """Write the page, its numbers and its figures into a folder: all of them or none.

    With `pdf` the figures are also written as PDF. A figure that cannot be drawn is left out, with a warning. Raises
    OSError.
    """
    drawn = draw(with_pdfs(_plots(search), pdf))
    page = render(artefact, search, pngs(drawn))
    numbers = json.dumps(asdict(search), indent=1, allow_nan=False) + "\n"
    write_files(folder, {PAGE: page.encode(), NUMBERS: numbers.encode(), **drawn})


def render(artefact: Artefact, search: Search, shown: Mapping[str, bytes]) -> str:
    """Return the page of a search with embedded figures (PNGs by file name), no scripts and all text escaped."""
    return filled(
        Path(__file__).with_name("search.html"),
        shown,
        search=search,
        facts=facts(artefact),
        caution=caution(artefact),
        trained_on=TRAINED_ON,
        terms=TERMS,
        bin_ratio=BIN_RATIO,
        widths=WIDTHS,
        least_beside=LEAST_BESIDE,
        shown_p=shown_p,
        shown_z=shown_z,
    )


def shown_p(p: float) -> str:
    """Return a p-value as text."""
    return f"{p:.2g}" if p > SMALLEST_P else f"below {SMALLEST_P:g}"


def shown_z(p: float, z: float) -> str:
    """Return the significance of a p-value as text, in standard deviations."""
    return f"{z:.1f}" if p > SMALLEST_P else f"beyond {z:.0f}"


def _plots(search: Search) -> "dict[str, Callable[[], Figure]]":
    """Return a function to draw each figure, by file name; figures of the signal only if there is one."""
    edges, closure = np.array(search.edges_gev), search.closure
    return {
        "spectrum.png": lambda: plots.plot_spectrum(edges, np.array(search.before), search.found),
        "windows.png": lambda: plots.plot_windows(search.found),
        "toys.png": lambda: plots.plot_toys(np.array(search.toy_statistics), -np.log(search.found.best.p)),
        **({"closure.png": lambda: plots.plot_spectrum(edges, None, closure)} if closure else {}),
        **({"injection.png": lambda: plots.plot_injection(search.injected)} if search.injected else {}),
    }

"""Figures are legible, the same under every user's settings, and never cost the numbers that they show."""

import logging
import os
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.evaluation.figures import draw, plot_learning_curve, plot_roc, plot_scores, plot_sculpting, with_pdfs
from training.evaluation.sculpting import sculpting
from training.evaluation.style import FORMATS, MOST_LINES, line_styles, printable, rendered
from training.files import write_files

RNG = np.random.default_rng(7)
BACKGROUND, SIGNAL = RNG.exponential(3.0, 3000), RNG.normal(12.0, 3.0, 300)


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect every figure that is saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def collect(figure: Figure, *args: object, **options: object) -> None:
        figures.append(figure)
        save(figure, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", collect)
    return figures


def test_a_figure_is_the_same_under_all_settings() -> None:
    """The user's settings of matplotlib do not change a byte of a figure, and drawing does not change the settings."""
    losses = [(1.0, 1.1), (0.8, 0.9)]
    plain = [rendered(plot_learning_curve(losses), suffix) for suffix in FORMATS]
    assert [content[:5] for content in plain] == [b"\x89PNG\r", b"%PDF-", b"<?xml"]
    with mpl.rc_context({"text.usetex": True, "font.size": 3, "savefig.dpi": 10}):
        before = dict(mpl.rcParams)
        assert [rendered(plot_learning_curve(losses), suffix) for suffix in FORMATS] == plain
        assert dict(mpl.rcParams) == before


@pytest.mark.slow
@pytest.mark.process
def test_the_environment_does_not_matter(tmp_path: Path) -> None:
    """A notebook's MPLBACKEND without its package, and a matplotlibrc that asks for LaTeX, do not stop a figure."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: no_such_backend\n", encoding="utf-8")
    code = (
        "from training.evaluation.figures import *; assert rendered(plot_learning_curve([(1, 2)]))[:4] == b'\\x89PNG'"
    )
    environment = {"MPLBACKEND": "module://no_such_package.backend_inline", "MATPLOTLIBRC": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment, check=True, timeout=120)


def test_a_figure_that_fails_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It costs one warning; the others are written, and an older file of its name, which shows other numbers, goes."""
    (tmp_path / "bad.png").write_bytes(b"old")
    drawn = draw({"bad.png": lambda: plot_learning_curve([]), "good.png": Figure})
    assert drawn == {"bad.png": None, "good.png": rendered(Figure())}
    (warning,) = caplog.records
    assert (warning.levelno, "\n" in warning.getMessage()) == (logging.WARNING, False)
    assert warning.getMessage().startswith("bad.png could not be drawn: ")
    write_files(tmp_path, drawn)
    assert [path.name for path in tmp_path.iterdir()] == ["good.png"]


def test_figures_are_written_as_pdf_where_that_is_wanted(tmp_path: Path) -> None:
    """A PDF beside each PNG; without, one that an earlier call left goes, since it shows other numbers."""
    plots = {"empty.png": Figure}
    write_files(tmp_path, draw(with_pdfs(plots, wanted=True)))
    assert (tmp_path / "empty.pdf").read_bytes().startswith(b"%PDF-")
    write_files(tmp_path, draw(with_pdfs(plots, wanted=False)))
    assert [path.name for path in tmp_path.iterdir()] == ["empty.png"]


def test_every_name_is_in_the_legend(saved: list[Figure]) -> None:
    """Names are shown as text, also where matplotlib would hide them or take them for formulas, and cut if long."""
    shown = {
        "_hidden": " _hidden",
        "$x_1$": r"\$x_1\$",
        "W\u2032 → é": "W\u2032 → é",
        "中\udce9": "??",
        "a" * 50: "a" * 31 + "...",
    }
    rendered(plot_scores(dict.fromkeys(shown, BACKGROUND), {}, {}))
    (legend,) = saved[0].legends
    assert [text.get_text() for text in legend.get_texts()] == list(shown.values())


def test_names_of_working_points_hide_nothing(saved: list[Figure]) -> None:
    """They stand above the frame, at their thresholds, and no tick label runs into the next."""
    thresholds = {"loose": 6.0, "very_tight": 25.0}
    rendered(plot_scores({"background": BACKGROUND}, {"signal": SIGNAL}, thresholds))
    (ax,) = saved[0].axes
    assert {text.get_text(): text.get_position()[0] for text in ax.texts} == thresholds
    frame = ax.get_window_extent()
    assert all(text.get_window_extent().y0 >= frame.y1 for text in ax.texts)
    labels = [one.get_window_extent() for one in ax.get_xticklabels() if one.get_text()]
    within = [one for one in labels if frame.x0 <= (one.x0 + one.x1) / 2 <= frame.x1]
    assert all(one.x1 < other.x0 for one, other in pairwise(within))


def test_equal_scores_have_a_figure() -> None:
    """Scores that are all equal, of whatever sign, can be drawn."""
    for value in (0.0, -3.5):
        equal = np.full(150, value)
        assert rendered(plot_scores({"background": equal}, {"signal": equal}, {})).startswith(b"\x89PNG")


def test_a_ratio_without_events_says_so(saved: list[Figure]) -> None:
    """Where no bin has enough selected events for a ratio, its panel says that, and has no point and no line."""
    masses = 2400.0 + np.random.default_rng(1).exponential(600.0, 3000)
    many, few = (sculpting(masses, np.arange(3000) % every == 0) for every in (2, 1000))
    rendered(plot_sculpting({"loose": many, "very_tight": few}))
    _, _, some, empty = saved[0].axes
    assert [text.get_text() for text in empty.texts] == ["fewer than 4 events in every bin"]
    assert (len(empty.lines), len(empty.collections)) == (0, 0)
    assert (some.texts[:], bool(some.lines)) == ([], True)


def test_curves_end_where_background_is_too_little(saved: list[Figure]) -> None:
    """Rejection needs 10 background events above a threshold, and significance improvement 100."""
    rendered(
        plot_roc({"signal": (BACKGROUND, SIGNAL), "equal": (np.zeros(99), np.zeros(9))}, "rejection", "improvement")
    )
    rejection, improvement = (ax.get_lines()[0].get_xydata() for ax in saved[0].axes)
    assert np.asarray(rejection)[:, 1].max() <= len(BACKGROUND) / 10
    x, y = np.asarray(improvement).T
    assert (len(BACKGROUND) * (x / y) ** 2).min() >= 100 - 1e-6


def test_no_panel_has_more_lines_than_can_be_followed(saved: list[Figure]) -> None:
    """Many samples are split over panels with legends of their own; curves of the others are there in grey, unnamed."""
    signals = {f"signal {number}": SIGNAL + number for number in range(9)}
    backgrounds = {f"background {number}": BACKGROUND for number in range(4)}
    rendered(plot_roc({name: (BACKGROUND, signal) for name, signal in signals.items()}, "rejection"))
    rendered(plot_scores(backgrounds, signals, {"loose": 6.0}))
    curves, scores = ([_names(ax) for ax in figure.axes] for figure in saved)
    assert curves == [[*list(signals)[:5], "chance"], [*list(signals)[5:], "chance"]]
    assert [len(ax.get_lines()) for ax in saved[0].axes] == [len(signals) + 1] * 2
    first = next(iter(backgrounds))
    assert scores == [list(backgrounds), [first, *list(signals)[:5]], [first, *list(signals)[5:]]]
    assert [ax.get_xlabel() for ax in saved[1].axes] == ["", "", "anomaly score"]


def test_lines_of_a_panel_differ_without_colour() -> None:
    """No two of as many lines as a panel has have the same dashes, nor the same marker."""
    looks = list(islice(line_styles(), MOST_LINES))
    for what in ("color", "linestyle", "marker"):
        assert len({str(look[what]) for look in looks}) == MOST_LINES


def test_a_signal_is_named_by_its_masses() -> None:
    """The files of the reported signals have the names of their masses; other names stay as they are."""
    assert printable("3500_500_100_3prong") == "3500 → 500 + 100 GeV, 3 prongs"
    assert printable("3500_500_100_events") == "3500_500_100_events"


def _names(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text().partition(", ")[0] for text in legend.get_texts()]


def test_epochs_are_whole(saved: list[Figure]) -> None:
    """The learning curve has ticks at whole epochs alone."""
    for epochs in (1, 6, 30):
        rendered(plot_learning_curve([(1 / epoch, 1.1 / epoch) for epoch in range(1, epochs + 1)]))
        axis = saved.pop().axes[0].xaxis
        assert axis.get_majorticklocs() == pytest.approx(np.round(axis.get_majorticklocs()))
        assert not any(tick.tick1line.get_visible() for tick in axis.get_minor_ticks())

"""Tables and figures show what the results files hold."""

from pathlib import Path

import pytest

from benchmarks.report import results, tables
from benchmarks.report.figures import plot_latency, plot_memory, plot_soak
from benchmarks.report.goals import Goal
from benchmarks.report.markdown import END, START, fill
from benchmarks.report.results import Bench, Memory, Soak


def test_the_pages_have_the_tables_of_the_shipped_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written anew, both pages are the same byte for byte."""
    pages = {"SHORT_PAGE": tables.SHORT_PAGE, "LONG_PAGE": tables.LONG_PAGE}
    for name, page in pages.items():
        copy = tmp_path / name
        copy.write_bytes(page.read_bytes())
        monkeypatch.setattr(tables, name, copy)
    tables.write_pages()
    for name, page in pages.items():
        assert (tmp_path / name).read_text() == page.read_text()


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """They are rounded to five digits once."""
    found = results.read(results.BENCH, Bench)
    results.write(tmp_path / "bench.json", found)
    assert results.read(tmp_path / "bench.json", Bench) == found


@pytest.mark.parametrize(("text", "words"), [(None, "is missing; measure first"), (b"{}", "holds no results")])
def test_missing_results_are_an_error(tmp_path: Path, text: bytes | None, words: str) -> None:
    """A missing file, and one of something else, are errors that say what to do."""
    path = tmp_path / "bench.json"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(RuntimeError, match=words):
        results.read(path, Bench)


def test_a_goal_that_is_missed_says_so() -> None:
    """Whether it is at least or at most."""
    assert Goal("rate", 0.6, "6 of 10", 0.5, 0.65).cells() == ["rate", "**0.6**", "6 of 10", "≥ 0.5", "≥ 0.65"]
    cells = Goal("memory", 500, "100 MB idle", 400, 250, " MB", at_most=True).cells()
    assert cells[1:] == ["**500 MB** (missed)", "100 MB idle", "≤ 400 MB", "≤ 250 MB"]


def test_tables_go_between_the_markers(tmp_path: Path) -> None:
    """What stands around them stays, and filling twice is filling once."""
    page = tmp_path / "README.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    for _ in range(2):
        fill(page, "new")
        assert page.read_text() == f"before\n{START}\nnew\n{END}\nafter\n"


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    """The error says which lines to put where."""
    page = tmp_path / "README.md"
    page.write_text(f"before\n{START}\nafter\n")
    with pytest.raises(RuntimeError, match="has no lines <!-- bench:start -->"):
        fill(page, "new")
    assert page.read_text() == f"before\n{START}\nafter\n"


@pytest.mark.slow
def test_figures_are_drawn(tmp_path: Path) -> None:
    """All appear as PNG."""
    plot_latency(results.read(results.BENCH, Bench).latency, tmp_path / "latency.png")
    plot_memory(results.read(results.MEMORY, Memory), tmp_path / "memory.png")
    plot_soak(results.read(results.SOAK, Soak), tmp_path / "soak.png")
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")

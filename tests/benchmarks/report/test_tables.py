"""Tables and figures show what the results files hold, and say of which run they are."""

from pathlib import Path

import msgspec
import pytest

from benchmarks.report import results, tables
from benchmarks.report.figures import draw
from benchmarks.report.goals import Goal, goal_table, peer_goals
from benchmarks.report.markdown import END, START, fill
from benchmarks.report.measurements import CaseResult, CaseRun, PeerResult
from benchmarks.report.results import Bench, Memory, Peers


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, Path]:
    """Write tables and figures into copies: each page with its copy."""
    monkeypatch.setattr(tables, "draw", lambda _: None)
    pages = {}
    for name in ("SHORT_PAGE", "LONG_PAGE", "SCALING_PAGE"):
        page, copy = getattr(tables, name), tmp_path / name
        copy.write_bytes(page.read_bytes())
        monkeypatch.setattr(tables, name, copy)
        pages[page] = copy
    return pages


def test_the_pages_have_the_tables_of_the_shipped_results(copies: dict[Path, Path]) -> None:
    """Written anew, the pages are the same byte for byte."""
    tables.write_pages()
    for page, copy in copies.items():
        assert copy.read_text() == page.read_text()


def test_every_table_names_its_commit_and_its_model() -> None:
    """Also where a run is older than the shipped model, or than the code beside it."""
    for kind in tables.SECTIONS:
        found = results.read(kind)
        assert f"commit {found.commit[:10]}" in found.caption
        assert found.model in found.caption
        sections = tables.page(found).split("### ")[1:]
        assert sections
        assert all(found.caption in section.split("\n\n")[1] for section in sections)


def test_runs_share_no_table() -> None:
    """The goals of each run stand under its own caption: others may be of another machine, commit or model."""
    for page in (tables.SHORT_PAGE, tables.LONG_PAGE):
        parts = page.read_text().replace(f"{START}\n", "").replace(f"\n{END}", "").split("\n\n")
        for kind in (Bench, Memory, Peers):
            found = results.read(kind)
            captions = [place for place, part in enumerate(parts) if part.startswith(f"{found.caption}:")]
            assert [parts[place + 1] for place in captions] == [goal_table(found)]


def test_results_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are rounded to five digits once, and hold nothing that is not read."""
    for kind in tables.SECTIONS:
        before = results.file_of(kind).read_bytes()
        found = results.read(kind)
        with monkeypatch.context() as patch:
            patch.setattr(results, "FOLDER", tmp_path)
            results.write(found)
            assert results.file_of(kind).read_bytes() == before


@pytest.mark.parametrize(("text", "words"), [(None, "is missing; measure first"), (b"{}", "holds no results")])
def test_missing_results_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes | None, words: str
) -> None:
    """A missing file, and one of something else, are errors that say what to do."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    if text is not None:
        (tmp_path / "bench.json").write_bytes(text)
    with pytest.raises(RuntimeError, match=words):
        results.read(Bench)


def test_a_goal_that_is_missed_says_so() -> None:
    """Whether it is at least or at most."""
    assert Goal("rate", 0.6, "6 of 10", 0.5, 0.65).cells() == ["rate", "**0.6**", "6 of 10", "≥ 0.5", "≥ 0.65"]
    cells = Goal("memory", 500, "100 MB idle", 400, 250, " MB", at_most=True).cells()
    assert cells[1:] == ["**500 MB** (missed)", "100 MB idle", "≤ 400 MB", "≤ 250 MB"]


def test_peers_are_compared_by_rate_and_by_processor_time() -> None:
    """With the best of them, or with one; a case that one of both does not have is no goal."""

    def case(name: str, events: int, per_s: float, cpu_us: float) -> CaseResult:
        run = CaseRun(per_s, per_s * events, 1.0, 1.0, 1.0, cpu_us / events, None)
        return CaseResult(name, "", "", events, 1, [run])

    def peer(name: str, *cases: CaseResult) -> PeerResult:
        return PeerResult(name, "", {}, None, {one.name: one for one in cases})

    peers = {
        "ours": peer("we", case("single-32", 1, 300, 20.0), case("json-10k", 10_000, 30, 9000.0)),
        "bun": peer("Bun", case("single-32", 1, 200, 40.0), case("single-1", 1, 100, 50.0)),
        "one": peer("One", case("json-10k", 10_000, 20, 12_000.0)),
        "two": peer("Two", case("json-10k", 10_000, 10, 9000.0)),
    }
    goals = list(peer_goals(msgspec.structs.replace(results.read(Peers), peers=peers)))
    assert [(goal.what, goal.measured, goal.at_most) for goal in goals] == [
        ("single-32: processor time over that of Bun", 0.5, True),
        ("json-10k: rate over that of One", 1.5, False),
    ]


def test_tables_go_between_the_markers(tmp_path: Path) -> None:
    """What stands around them stays, filling twice is filling once, and a page without markers is left alone."""
    page = tmp_path / "README.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    for _ in range(2):
        fill(page, "new")
        assert page.read_text() == f"before\n{START}\nnew\n{END}\nafter\n"
    page.write_text(f"before\n{START}\nafter\n")
    with pytest.raises(RuntimeError, match="has no lines <!-- bench:start -->"):
        fill(page, "new")
    assert page.read_text() == f"before\n{START}\nafter\n"


@pytest.mark.slow
def test_figures_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four results have one, as PNG."""
    every = [results.read(kind) for kind in tables.SECTIONS]
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    for found in every:
        draw(found)
    assert {path.name for path in tmp_path.iterdir()} == {"latency.png", "memory.png", "scaling.png", "soak.png"}
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")

"""Tables and figures say what the results file says."""

from pathlib import Path

import msgspec
import pytest

from benchmarks import results, tables
from benchmarks.compare import relate, sum_up_runtime
from benchmarks.figures import plot_latency, plot_memory
from benchmarks.machine import Machine
from benchmarks.openloop import Latency
from benchmarks.results import Beside, Measured, Memory, Point, Results, Sample, Turn, median_of
from benchmarks.workers import Shares

MACHINE = Machine(processor="a processor", cores=2, memory_gb=16.0, system="a system")
LATENCY = Latency(
    offered_per_s=200,
    answered_per_s=199.9,
    requests=2_000,
    p50_ms=0.5,
    p99_ms=1.5,
    p999_ms=3,
    max_ms=9,
    late_p99_ms=0.1,
)


def turn(requests_per_s: float, events: int) -> Turn:
    """Make a turn at a rate."""
    return Turn(requests_per_s, requests_per_s * events, 1.0, 2.0, 3.0, 0.5, 120.0)


def measured(name: str, server: str, fmt: str, events: int, requests_per_s: float) -> Measured:
    """Make a case of three turns around a rate."""
    turns = [turn(part * requests_per_s, events) for part in (0.5, 1.0, 1.1)]
    return Measured(name, server, fmt, events, 32, 100, 200, turns, median_of(turns))


@pytest.fixture(scope="module")
def found() -> Results:
    """Make the results of a run."""
    cases = [
        measured("single-32", "service", "JSON", 1, 12_000),
        measured("bare-single-32", "bare", "JSON", 1, 20_000),
        measured("raw-10", "service", "raw float32", 10, 9_000),
        measured("bare-raw-10", "bare", "raw float32", 10, 18_000),
        measured("raw-10k", "service", "raw float32", 10_000, 350),
        measured("raw-100k", "service", "raw float32", 100_000, 30),
        measured("json-10k", "service", "JSON", 10_000, 150),
        measured("plain-json-10k", "plain", "JSON", 10_000, 50),
        measured("msgpack-binary-10k", "service", "MessagePack, binary", 10_000, 340),
        measured("json-100k", "service", "JSON", 100_000, 12),
    ]
    in_process = sum_up_runtime({"runtime, 256": [3e6, 3.1e6, 1e6], "runtime, 4096": [4e6, 4.1e6, 3.9e6]})
    return Results(
        model="density@0",
        commit="0" * 40 + ", with changes",
        command="make bench",
        wrk="wrk 4",
        started="2030-01-01T00:00:00+00:00",
        minutes=3.0,
        machine=MACHINE,
        versions={"python": "3.11"},
        server_core=0,
        load_core=1,
        events="a sample",
        in_process=in_process,
        cases=relate({case.name: case for case in cases}, in_process.events_per_s),
        beside=[Beside(batch, 2, 3e6, 300, 4, LATENCY) for batch in ("raw-100k", "json-100k")],
        workers=[Shares(4, [300, 100], 200.0)],
        latency={server: [Point([LATENCY], LATENCY)] for server in ("service", "bare")},
    )


@pytest.fixture(scope="module")
def memory() -> Memory:
    """Make the results of watching the memory."""
    samples = [Sample(0, 100, 100), Sample(1, 450, 500)]
    return Memory(
        model="density@0",
        commit="0" * 40,
        command="python -m benchmarks.memory --minutes 1",
        started="2030-01-01T00:00:00+00:00",
        machine=MACHINE,
        versions={},
        load="large and small",
        replies={"large": 5, "small": 50},
        idle_mb=100,
        peak_mb=500,
        samples=samples,
    )


def test_medians_are_of_each_number() -> None:
    """A slow turn does not move the median."""
    assert median_of([turn(1, 1), turn(100, 1), turn(101, 1)]) == turn(100, 1)


def test_ratios_are_of_medians(found: Results) -> None:
    """A single event is set beside the bare server, a batch beside the runtime, and JSON beside plain decoding too."""
    cases = found.cases
    assert cases["single-32"].to_bare == pytest.approx(0.6)
    assert cases["single-32"].to_in_process is None
    assert cases["raw-10"].to_bare == pytest.approx(0.5)
    assert cases["raw-10k"].to_in_process == pytest.approx(3.5 / 4)
    assert cases["json-10k"].to_plain == pytest.approx(3)
    assert cases["raw-10k"].to_bare is None


def test_the_ceiling_is_the_best_way(found: Results) -> None:
    """The runtime's best median is the ceiling, whatever the service does."""
    assert (found.in_process.best, found.in_process.events_per_s) == ("runtime, 4096", 4e6)


def test_results_are_read_as_they_were_written(tmp_path: Path, found: Results) -> None:
    """The file holds every turn, and says the commit in full."""
    results.write(tmp_path / "bench.json", found)
    read = results.read(tmp_path / "bench.json", Results)
    assert read.commit == found.commit
    assert read.cases["json-10k"] == msgspec.structs.replace(found.cases["json-10k"], to_in_process=0.375)
    assert [one.requests_per_s for one in read.cases["single-32"].turns] == [6_000, 12_000, 13_200]


@pytest.mark.parametrize(("text", "words"), [(None, "is missing; measure first"), (b"{}", "holds no results")])
def test_no_results_are_said_to_be_none(tmp_path: Path, text: bytes | None, words: str) -> None:
    """A missing file, and one of something else, are errors that say what to do."""
    path = tmp_path / "bench.json"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(SystemExit, match=words):
        results.read(path, Results)


def test_what_must_be_reached_stands_beside_what_was(found: Results, memory: Memory) -> None:
    """Each row has the measured number, what it is made of, what is needed and what is aimed at."""
    rows = tables.goal_table(found, memory, None).splitlines()
    assert rows[2] == (
        "| single events, 32 connections, over bare uvicorn | **0.6** | 12.0 k requests/s of 20.0 k | ≥ 0.5 | ≥ 0.65 |"
    )
    assert "**3** | 1.50 M events/s to 500.0 k events/s | ≥ 2.3 | ≥ 3.5" in rows[6]
    assert "JSON of 100 k: 99 % within | **1.5 ms** | 3.00 M events/s beside | ≤ 30 ms | ≤ 10 ms" in rows[8]
    assert "**500 MB** (missed) | 100 MB idle | ≤ 400 MB | ≤ 250 MB" in rows[9]


def test_every_case_of_the_service_is_in_a_table(found: Results, memory: Memory) -> None:
    """Single events, small batches and large ones each have their row, and the bare server's stand apart."""
    page = tables.whole(found, memory)
    for row in (
        "| JSON | 1 | 32 | 12,000 | 12,000 | 1 | 2 | 3 | 0.5 | 120 | 0.6 |",
        "| raw float32 | 10 | 32 | 9,000 | 90,000 | 1 | 2 | 3 | 0.5 | 120 | 0.5 |",
        "| raw float32 | 10,000 | 32 | 350 | 3,500,000 | 1 | 2 | 3 | 0.5 | 120 | 0.875 |",
        "| bare-single-32 | 20,000 | 1 | 2 |",
        "| runtime, 4096, the ceiling | 4,000,000 |",
        "| 4 | 200 | 300, 100 | 0.75 |",
    ):
        assert row in page, row


def test_tables_go_between_the_markers(tmp_path: Path) -> None:
    """What stands around them stays, and filling twice is filling once."""
    page = tmp_path / "README.md"
    page.write_text(f"before\n{tables.START}\nold\n{tables.END}\nafter\n")
    for _ in range(2):
        tables.fill(page, "new")
        assert page.read_text() == f"before\n{tables.START}\nnew\n{tables.END}\nafter\n"


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    """The error says which lines to put where."""
    page = tmp_path / "README.md"
    page.write_text(f"before\n{tables.START}\nafter\n")
    with pytest.raises(SystemExit, match="has no lines <!-- bench:start -->"):
        tables.fill(page, "new")
    assert page.read_text() == f"before\n{tables.START}\nafter\n"


def test_figures_are_drawn(tmp_path: Path, found: Results, memory: Memory) -> None:
    """Both appear as PNG."""
    plot_latency(found.latency, tmp_path / "latency.png")
    plot_memory(memory, tmp_path / "memory.png")
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")

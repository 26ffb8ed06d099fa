"""Numbers and tables in Markdown, and the part of a page between two markers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.files import atomic_write

START, END = "<!-- bench:start -->", "<!-- bench:end -->"


def fill(page: Path, text: str) -> None:
    """Put a text between the page's markers; raises RuntimeError where it has none."""
    before, start, rest = page.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise RuntimeError(f"{page} has no lines {START} and {END}; put them where the tables are to stand")
    with atomic_write(page) as whole_page:
        whole_page.write_text(f"{before}{start}\n{text}\n{end}{after}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str = "") -> str:
    """Write a table; `sides` has l or r for each column, l where it ends."""
    rule = ["---:" if side == "r" else "---" for side in sides.ljust(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def rate(per_s: float, unit: str = "") -> str:
    """Write a rate in thousands or millions."""
    text = f"{per_s / 1e6:.2f} M" if per_s >= 1e6 else f"{per_s / 1e3:.1f} k"
    return f"{text} {unit}".strip()


def number(value: float | None) -> str:
    """Write a number with three digits, or as many as its integer part has; what was not measured as a dash."""
    if value is None:
        return "—"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.1 else f"{value:.3f}"


def versions(packages: Mapping[str, str]) -> str:
    """List packages with their versions."""
    return ", ".join(f"{name} {version}" for name, version in packages.items())

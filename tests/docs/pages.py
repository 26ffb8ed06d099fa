"""The pages of the project, and what is in them: console blocks, links, headings."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "deploy" / "README.md",
    *sorted((ROOT / "exported").rglob("*.md")),
]

ANYTHING = "..."
"""What stands for any text in an expected output: timings, hashes, what depends on the processor."""


class Step(NamedTuple):
    """A command of a console block, and what it is expected to print."""

    command: str
    expected: str

    def matches(self, printed: str) -> bool:
        """Tell whether the command printed what the page shows."""
        pattern = re.escape(self.expected.rstrip("\n")).replace(re.escape(ANYTHING), ".*?")
        return re.fullmatch(pattern, printed.rstrip("\n"), re.DOTALL) is not None


def name_of(page: Path) -> str:
    """Give the path of a page from the top of the repository."""
    return str(page.relative_to(ROOT))


def steps(page: Path) -> list[Step]:
    """Give the commands after each `$` of a page's console blocks, in order."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.splitlines(keepends=True)
            end = next(end for end in range(1, len(lines) + 1) if _is_complete("".join(lines[:end])))
            found.append(Step("".join(lines[:end]), "".join(lines[end:])))
    return found


def links(page: Path) -> list[str]:
    """Give the targets of a page's links to files and headings, outside blocks of code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not target.startswith("http")]


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _is_complete(command: str) -> bool:
    """Tell whether bash would not wait for another line: for a closing quote, the end of a document, a next line."""
    parsed = subprocess.run(["bash", "-n", "-c", command], capture_output=True, check=False)
    return parsed.returncode == 0 and not parsed.stderr and not command.endswith("\\\n")

"""The console blocks of the pages are run, and print what the pages show."""

import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, name_of, steps

# Their commands import no torch.
FAST = {"docs/api.md", "docs/operations.md", "docs/client.md", "docs/examples/README.md"}

pytestmark = pytest.mark.process


def pages_with_blocks() -> list[object]:
    """Give each page that has console blocks, those that take long marked."""
    return [
        pytest.param(page, id=name_of(page), marks=[] if name_of(page) in FAST else [pytest.mark.slow])
        for page in PAGES
        if steps(page)
    ]


@pytest.mark.parametrize("page", pages_with_blocks())
def test_console_blocks_are_true(page: Path, new_user: Path, url: str, environment: dict[str, str]) -> None:
    """Every command of a page succeeds and prints what the page says it prints."""
    address = url.removeprefix("http://")
    for step in steps(page):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step.command.replace("localhost:8000", address)],
            cwd=new_user,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"$ {step.command}\n{done.stderr}"
        shown = f"$ {step.command}\nthe page:\n{step.expected}\nprinted:\n{done.stdout}"
        assert step.matches(done.stdout), shown

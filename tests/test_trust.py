"""The page of guarantees names its proofs, and they are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/trust.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| guarantee")]
PROOFS = sorted(set(re.findall(r"`((?:[a-z_]+/)*test_[a-z_]+\.py)(?:::(test_[a-z_0-9]+))?`", PAGE)))


@pytest.mark.parametrize(("file", "name"), PROOFS)
def test_a_proof_is_there(file: str, name: str) -> None:
    """Each test that is named is in the file that is named."""
    text = (ROOT / "tests" / file).read_text()
    assert f"def {name}(" in text if name else "def test_" in text


def test_a_command_is_there() -> None:
    """Each command that is named is a target of the Makefile."""
    commands = re.findall(r"`make ([a-z-]+)`", PAGE)
    assert commands
    for command in commands:
        assert f"\n{command}:" in (ROOT / "Makefile").read_text()


def test_every_guarantee_has_a_proof() -> None:
    """No row of the tables is without a test or a command."""
    assert len(ROWS) > 30
    for row in ROWS:
        assert re.search(r"test_|`make |the command itself", row.rsplit("|", 2)[1]), row

"""The page of guarantees names its proofs, and they are there."""

import re

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/reliability.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| guarantee")]
PROOFS = sorted(set(re.findall(r"`((?:[a-z_]+/)*test_[a-z_]+\.py)(?:::(test_[a-z_0-9]+))?`", PAGE)))


def test_every_proof_is_there() -> None:
    """Each test that is named is in the file that is named."""
    assert len(PROOFS) > 30
    for file, name in PROOFS:
        path = ROOT / "tests" / file
        assert path.exists(), file
        assert (f"def {name}(" if name else "def test_") in path.read_text(), f"{file}::{name}"


def test_every_guarantee_has_a_proof() -> None:
    """No row of the tables is without a test or a command."""
    assert len(ROWS) > 30
    for row in ROWS:
        assert re.search(r"test_|`make |the command itself", row.rsplit("|", 2)[1]), row

"""The list of deliberate faults stays true: each still applies to the code, and each test that it names is there."""

import shlex
from pathlib import Path

import pytest

from tests.mutants.__main__ import FAILED, OUTCOMES, PASSED, Outcome, outcome_of, results, summary
from tests.mutants.fault import Fault
from tests.mutants.faults import PARTS

ROOT = Path(__file__).resolve().parents[2]


def test_every_fault_applies(subtests: pytest.Subtests) -> None:
    """Its text occurs once in its file, and what comes of it is Python, and other code than before."""
    for part in PARTS:
        content = (ROOT / part.file).read_text("utf-8")
        for fault in part.faults:
            with subtests.test(file=part.file, what=fault.what):
                changed = part.changed(fault, content)
                assert changed != content
                compile(changed, part.file, "exec")


def test_every_test_is_there(subtests: pytest.Subtests) -> None:
    """A test that was renamed would notice nothing."""
    for tests in {part.tests_of(fault) for part in PARTS for fault in part.faults}:
        for named in (word for word in shlex.split(tests) if word.startswith("tests/")):
            with subtests.test(named=named):
                path, _, name = named.partition("::")
                assert (
                    f"def {name.partition('[')[0]}(" in (ROOT / path).read_text("utf-8")
                    if name
                    else (ROOT / path).exists()
                )


def test_faults_are_told_apart() -> None:
    """The results name them."""
    named = [(part.file, fault.what) for part in PARTS for fault in part.faults]
    assert len(set(named)) == len(named)


def test_a_timeout_is_not_noticed() -> None:
    """Nor is a death by signal: only a test that fails raises the score, and the results list all others by name."""
    wrong, equivalent = Fault("wrong", "a", "b"), Fault("same", "a", "b", equivalent="a is b")
    faults = {"failed": (wrong, FAILED), "passed": (wrong, PASSED), "late": (wrong, None), "killed": (wrong, -9)}
    outcomes = [
        Outcome("file.py", fault._replace(what=what), outcome_of(fault, status))
        for what, (fault, status) in {**faults, "same": (equivalent, PASSED)}.items()
    ]
    assert [one.outcome for one in outcomes] == list(OUTCOMES)
    assert summary(outcomes) == "1 of 4 faults noticed, a score of 0.25"
    for title, what in (("Unnoticed", "passed"), ("Timed out", "late"), ("Killed", "killed"), ("Equivalent", "same")):
        assert f"## {title}\n\n- `file.py`: {what}" in results(outcomes, 1)

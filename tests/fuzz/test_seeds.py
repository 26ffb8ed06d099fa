"""The fuzzers start from good input, which passes their own checks."""

import random
from pathlib import Path

import pytest

from tests.fuzz import decoders, http, sanitized


@pytest.mark.parametrize("target", decoders.TARGETS)
def test_the_seeds_of_a_target_pass_its_check(target: str) -> None:
    """Every seed is input that the check takes."""
    check = decoders.check_of(target)
    for seed in decoders.seeds(target):
        check(seed)


def test_damaged_rows_and_requests_are_repeatable() -> None:
    """The same seed damages in the same way."""
    assert sanitized.damaged(random.Random(3)) == sanitized.damaged(random.Random(3))
    assert http.made(random.Random(3)) == http.made(random.Random(3))
    assert Path(sanitized.SOURCE).is_file()

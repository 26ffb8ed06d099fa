"""Likely mistakes in files of events are named, and what is as it should be passes without a word."""

import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training import samples
from training.__main__ import main
from training.evaluation.mistakes import LEAST_EVENTS, mistakes
from training.fitting.reference import make_reference

EVENTS = samples.background(2000)
REFERENCE = make_reference(samples.background(5000, seed=1), np.arange(5000, dtype=np.float32))
ALL, TAUS, MASSES = list(range(14)), [4, 5, 6, 11, 12, 13], [3, 10]
MODEL = Path(__file__).parents[3] / "exported" / "autoencoder.onnx"


def taken(*columns: int) -> NDArray[np.float32]:
    """Return the events with the columns of each jet in another order."""
    return EVENTS.reshape(-1, 2, 7)[..., columns].reshape(-1, 14)


def times(factor: float, columns: list[int]) -> NDArray[np.float32]:
    """Return the events with some columns multiplied."""
    changed = EVENTS.copy()
    changed[:, columns] *= np.float32(factor)
    return changed


LARGER, SMALLER = "times larger than expected: are they in another unit", "times smaller than expected: are they "
ORDER = "tau2 is larger than tau1 or tau3 than tau2, expected in none: is the subjettiness in another order?"
WRONG: dict[str, tuple[NDArray[np.float32], str, str]] = {
    "TeV": (times(1 / 1000, ALL), "all features are about ", SMALLER + "in another unit (TeV?)"),
    "MeV": (times(1000, ALL), "all features are about ", LARGER + " (MeV?)"),
    "jets": (np.roll(EVENTS, 7, axis=1), "in 100 % of the events jet 2 has a higher pT than jet 1", "jets exchanged"),
    "reversed": (taken(0, 1, 2, 3, 6, 5, 4), "of the events ", ORDER),
    "two": (taken(0, 1, 2, 3, 4, 6, 5), "of the events ", ORDER),
    "masses": (times(1000, MASSES), "masses are about ", LARGER + "?"),
    "taus": (times(1 / 1300, TAUS), "values of subjettiness are about ", SMALLER + "divided by pT"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_named(name: str) -> None:
    """Each is one line of plain words, with the reference of a model and without."""
    events, begin, end = WRONG[name]
    for reference in (REFERENCE, None):
        [line] = mistakes(events, reference=reference)
        assert "\n" not in line
        assert begin in line
        assert end in line
    assert mistakes(events[: LEAST_EVENTS - 1]) == []


def test_right_events_pass() -> None:
    """Background, heavier signal and degenerate events among others are no mistake; two mistakes are named as two."""
    for events in (EVENTS, samples.signal(2000), np.concatenate([EVENTS, samples.degenerate()])):
        assert mistakes(events, reference=REFERENCE) == mistakes(events) == []
    both = np.roll(times(1 / 1300, TAUS), 7, axis=1)
    assert len(mistakes(both, reference=REFERENCE)) == 2


def test_commands_name_mistakes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`score`, `calibrate` and `train` warn with the name; the shipped model's range holds no such event."""
    wrong = samples.written(tmp_path / "wrong.h5", times(1 / 1000, ALL))
    for status, command, flags in (
        (0, ["score", str(wrong)], ["--out", str(tmp_path / "scores.csv")]),
        (1, ["calibrate", str(MODEL), str(wrong)], ["--model-version", "2", "--out", str(tmp_path / "new.onnx")]),
        (0, ["train", str(wrong)], ["--out", str(tmp_path / "run"), "--epochs", "1"]),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert main([*command, *flags]) == status
        [warning] = [record.getMessage() for record in caplog.records if "another unit" in record.getMessage()]
        assert warning.startswith(f"{wrong}: all features are about ")

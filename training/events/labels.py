"""Labels of events: their values, the label column, and separate files of labels."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import EventsError

LABEL = "label"  # never a feature
BACKGROUND = 0
SIGNAL = 1
EXPECTED_LABEL = "expected 0 (background) or a whole number from 1 to 127 (signal)"

_LIKE_A_LABEL = re.compile(r"label|signal|truth|target|class", re.IGNORECASE)


def invalid_labels(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask of the invalid labels, in the shape of `labels`.

    0 is background; 1, 2, ... are signals: the third black box of the LHC Olympics has two.
    """
    valid: NDArray[np.bool_] = (labels >= BACKGROUND) & (labels <= np.iinfo(np.int8).max) & (np.floor(labels) == labels)
    return ~valid


def likely_label(columns: Iterable[str]) -> str | None:
    """Return the first column whose name suggests labels, such as 'is_signal', or None."""
    return next(filter(_LIKE_A_LABEL.search, columns), None)


def read_labels(path: str | Path, events: int) -> NDArray[np.int8]:
    """Read a text file with one label a line, the format of the published keys of the black boxes: (events,).

    Raises EventsError when the file cannot be read, has an invalid label or a different number of labels.
    """
    try:
        words = Path(path).read_text(encoding="utf-8").split()
        labels = np.array(words, np.float64)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise EventsError(
            f"{path}: cannot be read as labels: {reason}; expected text with one label a line."
        ) from error
    if len(labels) != events:
        raise EventsError(f"{path}: holds {len(labels)} labels, expected {events}: one for each event, in their order.")
    wrong = invalid_labels(labels)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise EventsError(f"{path}: label {place + 1} is {words[place]}, {EXPECTED_LABEL}. Correct it.")
    return labels.astype(np.int8)

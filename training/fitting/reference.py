"""Reference histograms of an artefact: features and anomaly scores of background."""

import numpy as np
from numpy.typing import NDArray

from service.model.reference import Histogram, Reference
from training.events.events import digest

BINS = 50
OUTSIDE = 0.001  # fraction of the sample below the bins, and above


def make_reference(
    background: NDArray[np.float32], scores: NDArray[np.float32], floor: float | None = None
) -> Reference:
    """Return the histograms of background features (m, n) and of their scores (m,).

    `floor` is the least score of an event outside the range of the training.
    """
    features = [histogram(column) for column in background.T]
    return Reference(len(background), digest(background), features, histogram(scores), floor)


def histogram(values: NDArray[np.float32]) -> Histogram:
    """Return counts of values (n,) in equal bins between two quantiles, so that long tails do not widen the bins."""
    low, high = np.quantile(values.astype(np.float64), [OUTSIDE, 1 - OUTSIDE])
    if not low < high:  # all values are equal
        low, high = low - max(abs(low), 1.0), high + max(abs(high), 1.0)
    empty = Histogram(float(low), float(high), [0] * (BINS + 2))
    return Histogram(empty.low, empty.high, empty.count(values).tolist())

"""Reference histograms of a model: features and scores of background, to compare other events with."""

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from service.model.graph import refusal

MAX_BINS = 1_000
Count = Annotated[int, Meta(ge=0, le=2**53)]
Finite = Annotated[float, Meta(ge=-3.5e38, le=3.5e38)]


class Histogram(msgspec.Struct, frozen=True):
    """Counts in equal bins from `low` to `high`, preceded by the count below and followed by the count above."""

    low: Finite
    high: Finite
    counts: Annotated[list[Count], Meta(min_length=3, max_length=MAX_BINS + 2)]

    @property
    def edges(self) -> NDArray[np.float64]:
        """The edges of the bins from low to high, (bins + 1,); a bin holds its lower edge."""
        return np.linspace(self.low, self.high, len(self.counts) - 1)

    def count(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Count other values (n,) in the same bins, with those below and above: (bins + 2,)."""
        counts: NDArray[np.int64] = np.histogram(values, np.array([-np.inf, *self.edges, np.inf]))[0]
        return counts


class Reference(msgspec.Struct, frozen=True):
    """Histograms of a sample of background, of each feature in the model's order and of the anomaly score."""

    events: Annotated[int, Meta(ge=1)]
    sha256: str
    """Digest of the sample's features."""
    features: list[Histogram]
    anomaly_score: Histogram
    floor: Finite | None = None
    """Minimum score of an event outside the range of the training; None for a model without one."""


def check_reference(reference: Reference, n_features: int) -> None:
    """Require a histogram for each feature, each with the reference's number of events and a valid range."""
    if len(reference.features) != n_features:
        raise refusal("reference histograms", str(len(reference.features)), str(n_features))
    for place, histogram in enumerate([*reference.features, reference.anomaly_score]):
        name = f"histogram {place}" if place < n_features else "histogram of the score"
        if (total := sum(histogram.counts)) != reference.events:
            raise refusal(f"events in the reference {name}", str(total), str(reference.events))
        if not histogram.low < histogram.high:
            raise refusal(f"range of the reference {name}", f"{histogram.low} to {histogram.high}", "a rising one")

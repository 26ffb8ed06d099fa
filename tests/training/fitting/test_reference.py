"""Reference histograms hold the sample that they are made of, and are small."""

import msgspec
import numpy as np

from tests.training import samples
from training.events.events import digest
from training.fitting.reference import BINS, histogram, make_reference


def test_the_reference_is_the_sample() -> None:
    """Bins reach from one quantile to another, and what lies beyond is counted at the ends."""
    background = samples.background(20_000)
    scores = np.random.default_rng(1).lognormal(size=20_000).astype(np.float32)
    reference = make_reference(background, scores, 12.5)
    assert (reference.events, reference.sha256, reference.floor) == (20_000, digest(background), 12.5)
    for found, values in zip([*reference.features, reference.anomaly_score], [*background.T, scores], strict=True):
        wide = values.astype(np.float64)
        np.testing.assert_allclose([found.low, found.high], np.quantile(wide, [0.001, 0.999]))
        assert len(found.counts) == BINS + 2
        expected, _ = np.histogram(wide[wide < found.high], np.linspace(found.low, found.high, BINS + 1))
        np.testing.assert_array_equal(found.counts[1:-1], expected)
        assert found.counts[0] == np.count_nonzero(wide < found.low)
        assert found.counts[-1] == np.count_nonzero(wide >= found.high)
    assert len(msgspec.json.encode(reference)) < 16_000


def test_equal_values_have_a_histogram() -> None:
    """Where all values are equal, the bins lie around them."""
    for value in (0.0, -3e-5, 7.0, 1e30):
        found = histogram(np.full(10, value, np.float32))
        assert found.low < np.float32(value) < found.high
        assert (found.counts[0], sum(found.counts), found.counts[-1]) == (0, 10, 0)

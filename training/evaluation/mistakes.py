"""Detection of likely mistakes in an events file: wrong units, jets or subjettiness in the wrong order."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.model.reference import Histogram, Reference
from training.evaluation.validation import PUBLISHED_MOMENTS
from training.events.features import DIJET, FEATURE_NAMES, FeatureSet

LEAST_EVENTS = 20  # with fewer, a typical value is not meaningful
LEAST_FRACTION = 0.01  # of the events in the wrong order
ROUNDING = 1.2  # an optimised axis can leave tau3 above tau2 by a tenth
OTHER_UNIT = 10.0  # a ratio of typical sizes that no physics explains

GROUPS = {
    "momenta": [place for place, name in enumerate(FEATURE_NAMES) if name.startswith("p")],
    "masses": [place for place, name in enumerate(FEATURE_NAMES) if name.startswith("m")],
    "values of subjettiness": [place for place, name in enumerate(FEATURE_NAMES) if name.startswith("tau")],
}

_log = logging.getLogger(__name__)


def warn_of_mistakes(
    path: Path | str, features: NDArray[Any], feature_set: FeatureSet = DIJET, reference: Reference | None = None
) -> None:
    """Log likely mistakes in the features of a file."""
    for mistake in mistakes(features, feature_set, reference):
        _log.warning("%s: %s", path, mistake)


def mistakes(features: NDArray[Any], feature_set: FeatureSet = DIJET, reference: Reference | None = None) -> list[str]:
    """Return likely mistakes in features (n, features), one line each, by comparison with a model's reference.

    Without a reference, features of two jets are compared with the published background, and others are not checked.
    """
    if len(features) < LEAST_EVENTS:
        return []
    wide = np.asarray(features, np.float64)
    if feature_set.of_jets:
        return [*_wrong_order(wide), *_wrong_size(wide, reference)]
    return [] if reference is None else list(_other_units(wide, feature_set, reference))


def _wrong_order(features: NDArray[np.float64]) -> Iterator[str]:
    jets = features.reshape(-1, 2, 7)
    pt = np.hypot(jets[..., 0], jets[..., 1])
    if (fraction := np.mean(pt[:, 1] > pt[:, 0])) > LEAST_FRACTION:
        yield (
            f"in {100 * fraction:.0f} % of the events jet 2 has a higher pT than jet 1, expected in none: are the jets "
            "exchanged, or in another order? j1 is the jet of the highest pT"
        )
    if (fraction := np.mean((jets[..., 5:] > ROUNDING * jets[..., 4:6]).any(axis=(1, 2)))) > LEAST_FRACTION:
        yield (
            f"in {100 * fraction:.0f} % of the events tau2 is larger than tau1 or tau3 than tau2, expected in none: is "
            "the subjettiness in another order? The columns are tau1, tau2, tau3"
        )


def _wrong_size(features: NDArray[np.float64], reference: Reference | None) -> Iterator[str]:
    """Compare the spread of each group of features: the median ratio of interquartile ranges to the expected ones."""
    spread = np.subtract(*np.quantile(features, [0.75, 0.25], axis=0))
    expected = np.array([1.35 * deviation for _, deviation in PUBLISHED_MOMENTS.values()])  # that of a Gaussian
    if reference is not None:
        expected = np.array([_quantile(one, 0.75) - _quantile(one, 0.25) for one in reference.features])
    ratios = {name: float(np.median(spread[places] / expected[places])) for name, places in GROUPS.items()}
    wrong = {name: ratio for name, ratio in ratios.items() if not 1 / OTHER_UNIT < ratio < OTHER_UNIT and ratio > 0}
    mean = np.exp(np.mean(np.log(list(wrong.values())))) if wrong else 1.0
    alike = all(1 / OTHER_UNIT < ratio / mean < OTHER_UNIT for ratio in wrong.values())
    if len(wrong) == len(GROUPS) and alike:
        unit = {-1: " (TeV?)", 1: " (MeV?)"}.get(round(np.log10(mean) / 3), "")
        yield f"all features are about {_times(mean)} than expected: are they in another unit{unit}? Expected are GeV"
        return
    for name, ratio in wrong.items():
        question = "are they in another unit? Expected are GeV"
        if name.endswith("subjettiness") and ratio < 1:
            question = "are they divided by pT, or in another unit? Expected are sums of pT times distance, in GeV"
        yield f"{name} are about {_times(ratio)} than expected: {question}"


def _other_units(features: NDArray[np.float64], feature_set: FeatureSet, reference: Reference) -> Iterator[str]:
    """Compare the spread of each feature with that of the reference."""
    for column, name, unit, expected in zip(
        features.T, feature_set.names, feature_set.units, reference.features, strict=True
    ):
        found = np.subtract(*np.quantile(column, [0.75, 0.25]))
        ratio = float(found / (_quantile(expected, 0.75) - _quantile(expected, 0.25)))
        if ratio > 0 and not 1 / OTHER_UNIT < ratio < OTHER_UNIT:
            shown = f"Expected is {unit}" if unit else "It has none"
            yield f"{name} is about {_times(ratio)} than expected: is it in another unit? {shown}"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times larger" if ratio > 1 else f"{1 / ratio:,.0f} times smaller"


def _quantile(histogram: Histogram, fraction: float) -> float:
    """Return a quantile of a histogram, linear within its bin."""
    below = np.cumsum(histogram.counts)[:-1] / sum(histogram.counts)  # at each edge
    return float(np.interp(fraction, below, histogram.edges))

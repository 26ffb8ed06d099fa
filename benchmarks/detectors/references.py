"""Public detectors with their own defaults, and references that use more than background.

Boosted trees learn the signal itself, and sums of tau21 or tau32 know in which direction signal lies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.stats import skew
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics.pairwise import rbf_kernel

from benchmarks.detectors.tilt import Unit
from training.events.events import FEATURE_NAMES

Floats = NDArray[np.float64]

SUPERVISED_BACKGROUND = 100_000
"""Background events for boosted trees besides their half of a sample; more events did not improve them."""

KERNEL_EVENTS = 8192
"""Number of events whose kernel with all fitted events is in memory at once."""


class PyodDetector(Protocol):
    """The interface of PyOD's detectors."""

    def fit(self, values: Floats) -> Any:
        """Fit to background (n, k)."""

    def decision_function(self, values: Floats) -> Floats:
        """Return the anomaly score of values (m, k): (m,), higher is more anomalous."""


@dataclass(frozen=True)
class PublicDetector:
    """A public detector: its constructor, from a seed, and the number of events that it can be fitted to."""

    make: Callable[[int], PyodDetector]
    unit: Unit = Unit.OTHER  # of its scores
    max_events: int | None = None  # to fit to, drawn by the seed; None for all
    random: bool = False  # whether the detector itself draws numbers

    @property
    def varies(self) -> bool:
        """Whether the scores depend on the seed."""
        return self.random or self.max_events is not None

    def score(self, background: Floats, events: Floats, seed: int) -> Floats:
        """Return the scores of events (m, k) after a fit to background (n, k), both standardised: (m,)."""
        rows = np.random.default_rng(seed).permutation(len(background))[: self.max_events]
        detector = self.make(seed)
        detector.fit(background if self.max_events is None else background[rows])
        return detector.decision_function(events)


class TailProbability:
    """PyOD's ECOD (arXiv:2201.00382) and COPOD (arXiv:2009.09463), each event scored alone.

    PyOD ranks the events of a batch among the training events and one another, so that a score depends on what else is
    scored. These are PyOD's scores of batches of one, in one call; the skewness, whose sign chooses the tail, is that
    of the training events.
    """

    def __init__(self, method: Literal["ecod", "copod"]) -> None:
        self._method = method

    def fit(self, values: Floats) -> None:
        """Store the empirical distribution and the sign of the skewness of each column of background (n, k)."""
        self._sorted = np.sort(values, axis=0)
        self._skewness = np.sign(np.nan_to_num(skew(values, axis=0)))

    def decision_function(self, values: Floats) -> Floats:
        """Return the sum over columns of minus the logarithm of the tail probability of values (m, k): (m,)."""
        columns = range(values.shape[1])
        events = len(self._sorted) + 1  # the scored event is part of the distribution
        below = np.stack([np.searchsorted(self._sorted[:, i], values[:, i], "right") + 1 for i in columns], axis=1)
        above = events - np.stack([np.searchsorted(self._sorted[:, i], values[:, i], "left") for i in columns], axis=1)
        left, right = -np.log(below / events), -np.log(above / events)
        skewed = left * (self._skewness <= 0) + right * (self._skewness >= 0)
        either = np.maximum(left, right) if self._method == "ecod" else (left + right) / 2
        total: Floats = np.maximum(skewed, either).sum(axis=1)
        return total


class KernelPCA:
    """Kernel PCA: the part of an event outside the leading components (Hoffmann, Pattern Recognition 40 (2007) 863).

    The kernel is Gaussian, exp(-|x - y|^2 / k) for events of k quantities. The quantum autoencoder's spectral solution
    is the same with another kernel, a product of cosines, and as many components.
    """

    def __init__(self, components: int) -> None:
        self._components = components

    def fit(self, values: Floats) -> None:
        """Find the leading components of background (n, k)."""
        self._fitted, gram = values, rbf_kernel(values)
        self._rows, self._all = gram.mean(axis=0), gram.mean()
        first = len(values) - self._components
        found, vectors = eigh(
            gram - self._rows - self._rows[:, None] + self._all, subset_by_index=[first, len(values) - 1]
        )
        self._projection = vectors / np.sqrt(found)

    def decision_function(self, values: Floats) -> Floats:
        """Return the squared distance of values (m, k) from their projections: (m,)."""
        parts = np.array_split(values, len(values) // KERNEL_EVENTS + 1)
        return np.concatenate([self._distance(rbf_kernel(part, self._fitted)) for part in parts])

    def _distance(self, gram: Floats) -> Floats:
        mean = gram.mean(axis=1)
        projected = (gram - mean[:, None] - self._rows + self._all) @ self._projection
        distance: Floats = 1.0 - 2.0 * mean + self._all - np.square(projected).sum(axis=1)
        return distance


def pyod(name: str, **settings: Any) -> PyodDetector:
    """Return a detector of PyOD by its class; imported here, for it takes seconds."""
    detector: PyodDetector = getattr(import_module(f"pyod.models.{name.lower()}"), name)(**settings)
    return detector


# By their names in tables, PyOD's unless said otherwise. `max_events` keeps a fit on two cores to minutes.
PUBLIC_DETECTORS: dict[str, PublicDetector] = {
    "isolation forest": PublicDetector(lambda seed: pyod("IForest", random_state=seed), random=True),
    "ECOD": PublicDetector(lambda _: TailProbability("ecod")),
    "COPOD": PublicDetector(lambda _: TailProbability("copod")),
    "HBOS": PublicDetector(lambda _: pyod("HBOS")),
    "PCA": PublicDetector(lambda _: pyod("PCA"), Unit.DISTANCE),
    "kNN": PublicDetector(lambda _: pyod("KNN"), Unit.DISTANCE, max_events=20_000),
    "LOF": PublicDetector(lambda _: pyod("LOF"), Unit.DISTANCE, max_events=20_000),
    "one-class SVM": PublicDetector(lambda _: pyod("OCSVM"), max_events=10_000),
    "kernel PCA, 8 components": PublicDetector(lambda _: KernelPCA(8), Unit.DISTANCE, max_events=2_000),
    "Gaussian mixture, 1 component (its default)": PublicDetector(
        lambda seed: pyod("GMM", random_state=seed), Unit.LOG_DENSITY
    ),
    "Gaussian mixture, 20 components": PublicDetector(
        lambda seed: pyod("GMM", n_components=20, random_state=seed), Unit.LOG_DENSITY, max_events=100_000, random=True
    ),
    "Mahalanobis, robust (MCD)": PublicDetector(
        lambda seed: pyod("MCD", random_state=seed), Unit.SQUARED_DISTANCE, max_events=20_000, random=True
    ),
}


def negative_ratio_sum(features: NDArray[np.float32], prongs: int) -> Floats:
    """Return minus the sum of both jets' tau_N/tau_(N-1), N `prongs`, of features (n, 14) in GeV: (n,).

    A higher score is of jets with that many prongs rather than fewer.
    """

    def column(name: str) -> Floats:
        return features[:, FEATURE_NAMES.index(name)].astype(np.float64)

    ratios = [column(f"tau{prongs}j{jet}") / (column(f"tau{prongs - 1}j{jet}") + 1e-5) for jet in (1, 2)]
    return -(ratios[0] + ratios[1])


def squared_mahalanobis(background: Floats, events: Floats) -> Floats:
    """Return the squared Mahalanobis distance of events (m, k) from background (n, k): (m,)."""
    away = events - background.mean(axis=0)
    distance: Floats = (away @ np.linalg.inv(np.cov(background.T)) * away).sum(axis=1)
    return distance


def boosted_trees(
    training: Floats, events: Floats, background: NDArray[np.int64], signal: NDArray[np.int64], seed: int
) -> Floats:
    """Return scores of events (m, k) by gradient-boosted trees that learn the signal: (m,), an upper limit.

    `background` and `signal` are rows of `events` to learn from, beside training background (n, k). Two classifiers
    learn one half each, and each scores the half that it did not learn.
    """
    rng = np.random.default_rng(seed)
    half = np.arange(len(events)) % 2
    for rows in (background, signal):
        half[rng.permutation(rows)] = np.arange(len(rows)) % 2
    training = rng.permutation(training)[:SUPERVISED_BACKGROUND]
    scores = np.empty(len(events))
    for learned in (0, 1):
        ordinary, searched = (events[rows[half[rows] == learned]] for rows in (background, signal))
        values = np.concatenate([training, ordinary, searched])
        labels = np.repeat([0, 1], [len(values) - len(searched), len(searched)])
        trees = HistGradientBoostingClassifier(random_state=seed).fit(values, labels)
        scores[half != learned] = trees.decision_function(events[half != learned])
    return scores

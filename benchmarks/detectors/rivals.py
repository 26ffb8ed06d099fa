"""Detectors to compare ours with: public ones with their own defaults, and two yardsticks; knows no file.

The public ones see background alone, like ours. The yardsticks know more: boosted trees learn the signal itself, and
the sum of tau21 knows in which direction signal lies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pyod.models.gmm import GMM
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.lof import LOF
from pyod.models.mcd import MCD
from pyod.models.ocsvm import OCSVM
from pyod.models.pca import PCA
from scipy.stats import skew
from sklearn.covariance import EmpiricalCovariance
from sklearn.ensemble import HistGradientBoostingClassifier

from training.events.events import FEATURE_NAMES

Floats = NDArray[np.float64]

# Training background that the boosted trees get beside their half of the test sample: more did not help them.
SUPERVISED_BACKGROUND = 100_000


class Detector(Protocol):
    """What PyOD's detectors have in common."""

    def fit(self, values: Floats) -> Any:
        """Learn background (n, k)."""

    def decision_function(self, values: Floats) -> Floats:
        """Return the anomaly score of values (m, k): (m,), higher is more anomalous."""


@dataclass(frozen=True)
class Rival:
    """A public detector: how to make it from a seed, and what of the background it can afford."""

    make: Callable[[int], Detector]
    most_events: int | None = None  # that it is fitted on, drawn by the seed; None: all
    random: bool = False  # whether the detector itself draws numbers

    @property
    def varies(self) -> bool:
        """Whether another seed gives other scores."""
        return self.random or self.most_events is not None

    def score(self, background: Floats, events: Floats, seed: int) -> Floats:
        """Return the scores of events (m, k) after a fit to background (n, k), both standardised: (m,)."""
        rows = np.random.default_rng(seed).permutation(len(background))[: self.most_events]
        detector = self.make(seed)
        detector.fit(background if self.most_events is None else background[rows])
        return detector.decision_function(events)


class Mahalanobis:
    """The squared Mahalanobis distance by scikit-learn's covariance, with the surface of a PyOD detector."""

    def fit(self, values: Floats) -> None:
        """Take mean and covariance from background (n, k)."""
        self._covariance = EmpiricalCovariance().fit(values)

    def decision_function(self, values: Floats) -> Floats:
        """Return the squared distance of values (m, k): (m,)."""
        distance: Floats = self._covariance.mahalanobis(values)
        return distance


class TailProbability:
    """PyOD's ECOD (arXiv:2201.00382) and COPOD (arXiv:2009.09463), each event scored as if it came alone.

    PyOD ranks the events of a batch among the training events and one another, so that a score depends on what else is
    scored, and the signal of a test sample hides itself. This is what PyOD gives for batches of one, at once; only the
    skewness, whose sign chooses the tail, is that of the training events alone.
    """

    def __init__(self, method: Literal["ecod", "copod"]) -> None:
        self._method = method

    def fit(self, values: Floats) -> None:
        """Take the empirical distribution and the sign of the skewness of each column of background (n, k)."""
        self._sorted = np.sort(values, axis=0)
        self._skewness = np.sign(np.nan_to_num(skew(values, axis=0)))

    def decision_function(self, values: Floats) -> Floats:
        """Return the sum over columns of minus the logarithm of the tail probability of values (m, k): (m,)."""
        columns = range(values.shape[1])
        events = len(self._sorted) + 1  # the event to score is one of its own distribution
        below = np.stack([np.searchsorted(self._sorted[:, i], values[:, i], "right") + 1 for i in columns], axis=1)
        above = events - np.stack([np.searchsorted(self._sorted[:, i], values[:, i], "left") for i in columns], axis=1)
        left, right = -np.log(below / events), -np.log(above / events)
        skewed = left * (self._skewness <= 0) + right * (self._skewness >= 0)
        either = np.maximum(left, right) if self._method == "ecod" else (left + right) / 2
        total: Floats = np.maximum(skewed, either).sum(axis=1)
        return total


# By the name that tables give them, PyOD's unless said otherwise. The caps are what two cores score in minutes.
RIVALS: dict[str, Rival] = {
    "isolation forest": Rival(lambda seed: IForest(random_state=seed), random=True),
    "ECOD": Rival(lambda _: TailProbability("ecod")),
    "COPOD": Rival(lambda _: TailProbability("copod")),
    "HBOS": Rival(lambda _: HBOS()),
    "PCA": Rival(lambda _: PCA()),
    "kNN": Rival(lambda _: KNN(), most_events=20_000),
    "LOF": Rival(lambda _: LOF(), most_events=20_000),
    "one-class SVM": Rival(lambda _: OCSVM(), most_events=10_000),
    "Gaussian mixture, 1 component (its default)": Rival(lambda seed: GMM(random_state=seed)),
    "Gaussian mixture, 20 components": Rival(
        lambda seed: GMM(n_components=20, random_state=seed), most_events=100_000, random=True
    ),
    "Mahalanobis (scikit-learn)": Rival(lambda _: Mahalanobis()),
    "Mahalanobis, robust (MCD)": Rival(lambda seed: MCD(random_state=seed), most_events=20_000, random=True),
}


def tau21_sum(features: NDArray[np.float32]) -> Floats:
    """Return minus the sum of both jets' tau2/tau1, of features (n, 14) in GeV: (n,), higher is more two-pronged."""
    taus = [features[:, FEATURE_NAMES.index(name)].astype(float) for name in ("tau2j1", "tau1j1", "tau2j2", "tau1j2")]
    return -(taus[0] / (taus[1] + 1e-5) + taus[2] / (taus[3] + 1e-5))


def boosted_trees(
    training: Floats, events: Floats, background: NDArray[np.int64], signal: NDArray[np.int64], seed: int
) -> Floats:
    """Return scores of events (m, k) by gradient-boosted trees that know the signal: (m,), a ceiling for any detector.

    `background` and `signal` are rows of `events` to learn from, beside training background (n, k). Two classifiers
    learn a half each, and each scores what the other learned: no event is scored by one that saw it.
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

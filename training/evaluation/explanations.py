"""Contributions of the features to scores, averaged over samples and for the most anomalous events."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.model.explanation import Explainer, ExplanationError
from service.model.scorer import Scorer
from training.evaluation.samples import Sample, Scored, by_class

EXPLAINED_EVENTS = 200
MOST_ANOMALOUS = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeanContributions:
    """The mean absolute contribution of each feature, over evenly spaced events of one class of a sample."""

    events: int
    contributions: dict[str, float]  # by feature


@dataclass(frozen=True)
class Anomaly:
    """An event and the contributions of its features to its score."""

    row: int  # in its file
    is_signal: bool
    anomaly_score: float
    contributions: dict[str, float]  # by feature

    @property
    def largest(self) -> list[tuple[str, float]]:
        """The three features with the largest absolute contributions."""
        return sorted(self.contributions.items(), key=lambda one: -abs(one[1]))[:3]


@dataclass(frozen=True)
class Explanations:
    """Contributions; those of an event add up to its score minus the reference score (service.model.explanation)."""

    reference_score: float
    means: dict[str, MeanContributions]  # by sample, background first
    most_anomalous: list[Anomaly]  # of the first sample, the most anomalous first


def explain(scorer: Scorer, samples: Sequence[Sample]) -> Explanations | None:
    """Explain scores of every background and signal; log a warning and return None if the model does not allow it.

    Each of the EXPLAINED_EVENTS events of a class takes some thousand scores.
    """
    try:
        explainer = Explainer(scorer)
    except ExplanationError as error:
        _log.warning("the report does not explain scores: %s", error)
        return None
    names = scorer.artefact.metadata.feature_names
    backgrounds, signals = by_class(samples)
    shown = {**{f"{name} background": one for name, one in backgrounds.items()}, **signals}
    return Explanations(
        reference_score=float(explainer.reference_score),
        means={name: _means(explainer, scored, names) for name, scored in shown.items()},
        most_anomalous=_most_anomalous(explainer, samples[0], names),
    )


def _means(explainer: Explainer, scored: Scored, names: Sequence[str]) -> MeanContributions:
    evenly = np.linspace(0, len(scored) - 1, min(len(scored), EXPLAINED_EVENTS)).astype(int)
    contributions = explainer.explain(scored.features[evenly]).contributions
    return MeanContributions(len(evenly), _by_feature(names, np.abs(contributions).mean(axis=0, dtype=np.float64)))


def _most_anomalous(explainer: Explainer, sample: Sample, names: Sequence[str]) -> list[Anomaly]:
    classes = [(is_signal, one) for is_signal, one in ((False, sample.background), (True, sample.signal)) if one]
    found = [
        (is_signal, one, place) for is_signal, one in classes for place in np.argsort(-one.scores)[:MOST_ANOMALOUS]
    ]
    found.sort(key=lambda event: -event[1].scores[event[2]])
    found = found[:MOST_ANOMALOUS]
    explanation = explainer.explain(np.stack([one.features[place] for _, one, place in found]))
    return [
        Anomaly(int(one.rows[place]), is_signal, float(one.scores[place]), _by_feature(names, contributions))
        for (is_signal, one, place), contributions in zip(found, explanation.contributions, strict=True)
    ]


def _by_feature(names: Sequence[str], values: NDArray[np.floating]) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))

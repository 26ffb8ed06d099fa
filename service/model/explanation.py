"""Explanations of scores: the contribution of each feature, relative to background events."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from service.model.artefact import GOLDEN_ATOL, GOLDEN_RTOL, ArtefactError, Metadata
from service.model.rows import Frame, as_rows
from service.model.scorer import CHUNK_EVENTS, Scorer

REFERENCE_EVENTS: Final = 8
"""Maximum number of background events that an event is compared with."""

ORDERS: Final = 112
"""Orders of the features for each background event: half are random, and the others are their reverses."""

SEED: Final = 1

MAX_FEATURES: Final = 100
"""Maximum number of features to explain: time grows with their number, memory with its square."""


class ExplanationError(ArtefactError):
    """The scores of the artefact cannot be explained."""


class Explanation(NamedTuple):
    """Scores (n,) and the contributions (n, n_features) of the features to them.

    The contributions of an event add up to its score less the reference score, within the rounding of float32.
    """

    anomaly_scores: NDArray[np.float32]
    reference_score: np.float32
    """The mean score of the reference events."""
    contributions: NDArray[np.float32]


class Explainer:
    """Shapley values of a model's scores, from the scores of mixtures of an event and events of background.

    In a mixture some features have the event's values and the others those of a reference event. Where the features
    change from the one to the other in a certain order, each changes the score by some amount, and all of them together
    by the whole difference. The contribution of a feature is the mean of its changes over orders and reference events:
    the sampling of Castro, Gomez and Tejada (2009), in antithetic pairs (Mitchell et al., arXiv:2104.12199). The orders
    are the same for all events, so that the explanation of an event does not depend on the others in its batch.
    """

    def __init__(self, scorer: Scorer) -> None:
        """Choose the reference events of a model and the orders; raises ExplanationError."""
        n_features = scorer.artefact.n_features
        if n_features > MAX_FEATURES:
            raise ExplanationError(
                f"{scorer.artefact.identity} has {n_features} features, expected at most {MAX_FEATURES} to explain"
            )
        self._scorer, self._network = scorer, scorer.of_network()
        self.reference = reference_events(scorer.artefact.metadata)
        """The reference events (k, n_features)."""
        scores = scorer.score_rows(self.reference).astype(np.float64)
        self.reference_score = np.float32(scores.mean())
        in_order = np.broadcast_to(np.arange(n_features), (len(self.reference), ORDERS // 2, n_features))
        drawn = np.random.default_rng(SEED).permuted(in_order, axis=-1)
        self._orders = np.concatenate([drawn, drawn[..., ::-1]], axis=1)  # (k, ORDERS, n_features)
        # Scores on the way from each reference event to the event: (k, ORDERS, n_features + 1).
        self._path = np.repeat(scores[:, None, None], ORDERS, axis=1).repeat(n_features + 1, axis=2)
        # The features taken from the event in each mixture, the first of which is the event: (n_mixtures, n_features).
        places = self._orders.argsort(axis=-1)[:, :, None, :]
        on_the_way = (places < np.arange(1, n_features)[:, None]).reshape(-1, n_features)
        self._taken = np.concatenate([np.ones((1, n_features), bool), on_the_way])
        # The reference event of each: (n_mixtures,).
        self._mixed_with = np.append(0, np.repeat(np.arange(len(self.reference)), ORDERS * (n_features - 1)))
        self.n_mixtures = len(self._taken)
        """Number of events that are scored to explain one, itself included."""

    def scorer_of(self, event: NDArray[np.float32]) -> Scorer:
        """Return the scorer for mixtures of an event (n_features,): without the range check if the event is in range.

        Most mixtures are unphysical and outside the range of the training, whatever the event is: their scores would
        reflect only that.
        """
        score, of_network = (float(scorer.score_rows(event[None])[0]) for scorer in (self._scorer, self._network))
        return self._network if np.isclose(score, of_network, rtol=GOLDEN_RTOL, atol=GOLDEN_ATOL) else self._scorer

    def mixtures(self, event: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Mix an event (n_features,) with the reference events: n_mixtures rows in blocks, itself first."""
        for start in range(0, self.n_mixtures, CHUNK_EVENTS):
            block = slice(start, start + CHUNK_EVENTS)
            yield np.where(self._taken[block], event, self.reference[self._mixed_with[block]])

    def contributions(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn the scores of its mixtures (n_mixtures,) into the contributions (n_features,) to an event's score."""
        path = self._path.copy()
        path[..., 1:-1] = scores[1:].reshape(path[..., 1:-1].shape)
        path[..., -1] = scores[0]
        changes = np.bincount(self._orders.ravel(), np.diff(path).ravel())
        return (changes / self._orders[..., 0].size).astype(np.float32)

    def explain(self, events: ArrayLike | Frame) -> Explanation:
        """Score and explain `events`, as `Scorer.score` takes them and with its errors, in milliseconds each."""
        rows = as_rows(events, self._scorer.artefact.metadata.feature_names)
        scores, contributions = np.empty(len(rows), np.float32), np.empty(rows.shape, np.float32)
        for place, event in enumerate(rows):
            scorer = self.scorer_of(event)
            of_mixtures = np.concatenate([scorer.score_rows(block) for block in self.mixtures(event)])
            scores[place], contributions[place] = of_mixtures[0], self.contributions(of_mixtures)
        return Explanation(scores, self.reference_score, contributions)


def reference_events(metadata: Metadata) -> NDArray[np.float32]:
    """Find ordinary background (k, n_features) in a model's file: golden events that pass no working point.

    If the file has reference histograms, the events are also inside the range of each: some golden events are
    synthetic. Raises ExplanationError if there are none.
    """
    golden, reference = metadata.golden, metadata.reference
    events, scores = np.array(golden.features, np.float32), np.array(golden.anomaly_scores)
    ordinary = scores <= min((point.threshold for point in metadata.working_points), default=np.inf)
    if reference is not None:
        low, high = np.array([(one.low, one.high) for one in reference.features]).T
        ordinary &= ((events >= low) & (events <= high)).all(axis=1)
    if not ordinary.any():
        raise ExplanationError(
            "the model's file has no golden event of ordinary background to compare with: export the model again"
        )
    places = np.flatnonzero(ordinary)
    evenly = np.linspace(0, len(places) - 1, min(len(places), REFERENCE_EVENTS)).round().astype(np.intp)
    return events[places[evenly]]

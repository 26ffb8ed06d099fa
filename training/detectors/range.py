"""The range of the training events: events outside it are scored as anomalies, whatever the network's score.

Outside the range of its training a network extrapolates, and an extreme event can get a very low score.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from training.detectors.feature_maps import MAX_MOMENTUM_GEV, FeatureMap, Jets
from training.events.features import FeatureSet

# Each jet's quantities as combinations of the logarithms of pT^2, m, tau1, tau2 and tau3: the features themselves, and
# the quantities of all feature maps.
COMBINATIONS = {
    "ln_pt": (0.5, 0.0, 0.0, 0.0, 0.0),
    "ln_m": (0.0, 1.0, 0.0, 0.0, 0.0),
    "ln_tau1": (0.0, 0.0, 1.0, 0.0, 0.0),
    "ln_tau2": (0.0, 0.0, 0.0, 1.0, 0.0),
    "ln_tau3": (0.0, 0.0, 0.0, 0.0, 1.0),
    "ln_m_pt": (-0.5, 1.0, 0.0, 0.0, 0.0),
    "ln_tau1_m": (0.0, -1.0, 1.0, 0.0, 0.0),
    "ln_tau21": (0.0, 0.0, -1.0, 1.0, 0.0),
    "ln_tau32": (0.0, 0.0, 0.0, -1.0, 1.0),
}
# Probability of background beyond a margin; 5e-6 for all edges together.
PROBABILITY_BEYOND = 1e-7
TAIL_EVENTS = 100

# Rounding in float32 moves a logarithm of momenta by less than 1e-5 of this.
LEAST_MARGIN = 0.1
SIGN_MARGIN_GEV = 0.1
LEAST_DEVIATIONS = 0.1


# Columns of a jet: its 7 features, and the logarithms that `Jets.logarithms` returns.
PZ, NOT_NEGATIVE = 2, (3, 4, 5, 6)  # m, tau1, tau2, tau3: below the floor of their logarithms the sign matters
FEATURES, LOGARITHMS = 7, 5


class Range(nn.Module):
    """Edges of the training events' quantities, each with a margin, and the score of events outside.

    An edge is the largest value of a quantity, or of its negative. The score rises linearly over the outer half of the
    margin, from the least to the largest score of the training events, and continues beyond it. Events at an edge, such
    as those that just pass a selection, therefore have the network's score, and no score depends on rounding.
    """

    of_features: Tensor  # (14, edges), weights of the features in each edge's score
    of_logarithms: Tensor  # (10, edges), weights of the logarithms
    offsets: Tensor  # (edges,)
    floor: Tensor  # the least score of an event beyond a margin
    quantities: Tensor  # (24, edges), each edge's quantity as a combination of features and logarithms
    signs: Tensor  # (edges,), whether the edge is on a sign

    def __init__(self, jets: Jets) -> None:
        super().__init__()
        self.jets = jets
        edges = list(_edges())
        quantities = torch.stack([quantity for quantity, _ in edges], dim=1)
        self.register_buffer("quantities", quantities, persistent=False)  # constants of the code
        self.register_buffer("signs", torch.tensor([sign for _, sign in edges]), persistent=False)
        self.register_buffer("of_features", torch.zeros(2 * FEATURES, len(edges)))
        self.register_buffer("of_logarithms", torch.zeros(2 * LOGARITHMS, len(edges)))
        self.register_buffer("offsets", torch.zeros(len(edges)))
        self.register_buffer("floor", torch.zeros(()))

    @property
    def fitted(self) -> bool:
        """Whether the edges are known; until then the score is 0 for all events."""
        return bool(self.of_logarithms.any())

    def fit(self, features: Tensor, scores: Tensor) -> None:
        """Set the edges to those of features (n, 14), and the scores beyond them by the anomaly scores (n,).

        One event in n is expected beyond the largest of n values. The tail beyond it is taken as exponential, with the
        mean excess of the last TAIL_EVENTS (peaks over threshold; Balkema and de Haan, 1974).
        """
        seen = torch.cat([bounded(features), self.jets.logarithms(features)], dim=1)
        largest, excess = _tails(seen @ self.quantities)
        margins = excess.clamp(min=LEAST_MARGIN)
        signs = self.signs.cpu()
        margins[signs] = SIGN_MARGIN_GEV
        edges = torch.where(signs, largest.clamp(min=0.0), largest)
        slopes, offsets = _lines(edges, margins, scores)
        weights = (self.quantities.cpu() * slopes).float()
        self.of_features.copy_(weights[: 2 * FEATURES])
        self.of_logarithms.copy_(weights[2 * FEATURES :])
        self.offsets.copy_(offsets)
        self.floor.fill_(scores.max())

    def forward(self, features: Tensor) -> Tensor:
        """Return the largest score over all edges for features (batch, 14): (batch,)."""
        linear = torch.addmm(self.offsets, bounded(features), self.of_features)
        return torch.addmm(linear, self.jets.logarithms(features), self.of_logarithms).amax(dim=1)


class FeatureRange(nn.Module):
    """The range of arbitrary features; the edges are the least and the largest value of each.

    A margin is at least LEAST_DEVIATIONS of the feature's standard deviation.
    """

    of_features: Tensor  # (n, 2 n), weights of the features in each edge's score
    offsets: Tensor  # (2 n,)
    floor: Tensor  # the least score of an event beyond a margin

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("of_features", torch.zeros(width, 2 * width))
        self.register_buffer("offsets", torch.zeros(2 * width))
        self.register_buffer("floor", torch.zeros(()))

    @property
    def fitted(self) -> bool:
        """Whether the edges are known; until then the score is 0 for all events."""
        return bool(self.of_features.any())

    def fit(self, features: Tensor, scores: Tensor) -> None:
        """Set the edges to those of features (m, n), as `Range.fit` does."""
        seen = bounded(features)
        largest, excess = _tails(torch.cat([seen, -seen], dim=1))
        deviations = seen.double().std(dim=0, correction=0).cpu()
        margins = torch.maximum(excess, LEAST_DEVIATIONS * torch.where(deviations > 0, deviations, 1.0).repeat(2))
        slopes, offsets = _lines(largest, margins, scores)
        self.of_features.copy_(torch.cat([slopes[: len(deviations)].diag(), -slopes[len(deviations) :].diag()], dim=1))
        self.offsets.copy_(offsets)
        self.floor.fill_(scores.max())

    def forward(self, features: Tensor) -> Tensor:
        """Return the largest score over all edges for features (batch, n): (batch,)."""
        return torch.addmm(self.offsets, bounded(features), self.of_features).amax(dim=1)


def range_of(features: FeatureSet, feature_map: FeatureMap) -> Range | FeatureRange:
    """Return the unfitted range of events with these features."""
    if features.of_jets:
        return Range(feature_map if isinstance(feature_map, Jets) else Jets())
    return FeatureRange(len(features.names))


def bounded(features: Tensor) -> Tensor:
    """Return features clipped so that their squares are finite."""
    return features.clamp(-MAX_MOMENTUM_GEV, MAX_MOMENTUM_GEV)


def _tails(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest of values (n, edges) and the margin from its tail, (edges,) in float64."""
    tail = min(TAIL_EVENTS, len(values) // 20)
    largest = values.topk(tail + 1, dim=0).values.cpu().double()  # (tail + 1, edges)
    excess = (largest - largest[-1]).mean(dim=0)
    return largest[0], excess * -math.log(len(values) * PROBABILITY_BEYOND)


def _lines(edges: Tensor, margins: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return slopes and offsets (edges,) of the scores beyond edges with margins, for training scores (n,)."""
    least, most = scores.min().item(), scores.max().item()
    slopes = ((most - least) or 1.0) / (margins / 2)
    return slopes, least - (edges + margins / 2) * slopes


def _edges() -> Iterator[tuple[Tensor, bool]]:
    """Yield each edge's quantity (24,), as weights of features and logarithms, and whether the edge is on a sign."""
    for jet in (0, 1):
        features, logarithms = jet * FEATURES, 2 * FEATURES + jet * LOGARITHMS
        yield from _both_ways({features + PZ: 1.0})
        for combination in COMBINATIONS.values():
            yield from _both_ways({logarithms + column: factor for column, factor in enumerate(combination)})
        for column in NOT_NEGATIVE:
            yield _quantity({features + column: -1.0}), True
    yield from _both_ways({2 * FEATURES: -0.5, 2 * FEATURES + LOGARITHMS: 0.5})  # ln pT of jet 2 over that of jet 1


def _both_ways(factors: dict[int, float]) -> Iterator[tuple[Tensor, bool]]:
    yield _quantity(factors), False
    yield -_quantity(factors), False


def _quantity(factors: dict[int, float]) -> Tensor:
    quantity = torch.zeros(2 * (FEATURES + LOGARITHMS))
    for place, factor in factors.items():
        quantity[place] = factor
    return quantity

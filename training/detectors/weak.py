"""The complete weakly supervised detector as one torch module. Trees score only events that they were not trained on.

    features (batch, 14) -> quantities -> trees of the event's fold -+
                         -> Range ----------------------------------+-> the larger: anomaly score (batch,)

Each operation up to the trees is exact or correctly rounded as defined by IEEE 754, and no sum has more than two terms.
All runtimes and processors therefore compute the same bits, the same fold and the same leaves.
"""

import torch
from torch import Tensor, nn

from training.detectors.feature_maps import Jets
from training.detectors.layers import softplus
from training.detectors.range import Range
from training.detectors.trees import BoostedTrees, Ensemble
from training.detectors.weak_config import WeakConfig
from training.events.features import DIJET, FEATURE_NAMES
from training.events.kinematics import TAU_FLOOR_GEV

PX, MASS_1, MASS_2 = (FEATURE_NAMES.index(name) for name in ("pxj1", "mj1", "mj2"))
EVENTS_AT_ONCE = 4096  # the leaf of each tree for each event is in memory

MAX_CELL_GEV = float(2**20)  # far above any momentum and far below the largest int32


class Raw(nn.Module):
    """The 14 unchanged features."""

    names = FEATURE_NAMES

    def forward(self, features: Tensor) -> Tensor:
        """Return features (batch, 14)."""
        return features


class Dijet(nn.Module):
    """The usual quantities of dijet resonance searches: the masses of both jets, their difference, and both tau21."""

    names = ("m_lighter", "m_heavier", "m_difference", "tau21_lighter", "tau21_heavier")

    def forward(self, features: Tensor) -> Tensor:
        """Return the quantities (batch, 5) of features (batch, 14), with the jets ordered by mass."""
        masses = features[:, MASS_1], features[:, MASS_2]
        tau21 = [features[:, m + 2] / features[:, m + 1].clamp(min=TAU_FLOOR_GEV) for m in (MASS_1, MASS_2)]
        first = masses[0] <= masses[1]
        lighter, heavier = torch.minimum(*masses), torch.maximum(*masses)
        ratios = torch.where(first, tau21[0], tau21[1]), torch.where(first, tau21[1], tau21[0])
        return torch.stack([lighter, heavier, heavier - lighter, *ratios], dim=1)


MAPS: dict[str, type[Raw | Dijet]] = {"dijet": Dijet, "raw": Raw}


def fold_of(features: Tensor, folds: int) -> Tensor:
    """Return the fold of features (batch, 14), which depends on |px| of the first jet: (batch,) int32.

    Folds alternate in cells of 1 GeV of |px|, which carry no physical information.
    """
    return features[:, PX].abs().clamp(max=MAX_CELL_GEV).int() % folds


class WeakScorer(nn.Module):
    """The complete detector, from raw features to the anomaly score."""

    features = DIJET

    def __init__(self, config: WeakConfig, ensemble: Ensemble) -> None:
        super().__init__()
        self.feature_map = MAPS[config.feature_map]()
        self.folds = config.folds
        self.trees = BoostedTrees(ensemble)
        self.range = Range(Jets())

    def fit_range(self, features: Tensor) -> None:
        """Set the range to that of features (n, 14) of all training events."""
        with torch.no_grad():
            parts = torch.split(features, EVENTS_AT_ONCE)
            self.range.fit(features, torch.cat([self._score(part) for part in parts]))

    def forward(self, features: Tensor) -> Tensor:
        """Return -ln of the probability that features (batch, 14), in GeV, come from the reference: (batch,).

        The probability assumes a sample with equal numbers of events from the reference and the window.
        """
        return torch.maximum(self._score(features), self.range(features))

    def _score(self, features: Tensor) -> Tensor:
        return softplus(self.trees(self.feature_map(features), fold_of(features, self.folds)))

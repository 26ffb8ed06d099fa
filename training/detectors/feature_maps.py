"""Feature maps: from raw features to the quantities that a detector uses. All maps but `RawFeatures` need two jets.

Matrix products select, add, scale and shift columns, because ONNX Runtime runs them faster than slices, means over a
few columns, and constants per column or row.
"""

import torch
from torch import Tensor, nn

from training.events.events import FEATURE_NAMES
from training.events.kinematics import MASS_FLOOR_GEV, TAU_FLOOR_GEV

PT_FLOOR_GEV = 1.0
MAX_MOMENTUM_GEV = 1e15  # the square of a larger one could overflow


class FeatureMap(nn.Module):
    """A map of the 14 raw features in GeV to quantities minus an origin; `names` has the quantities in order."""

    names: tuple[str, ...]


class RawFeatures(FeatureMap):
    """The unchanged features, of two jets or any others."""

    names = FEATURE_NAMES

    def __init__(self, names: tuple[str, ...] = FEATURE_NAMES) -> None:
        super().__init__()
        self.names = names

    def forward(self, features: Tensor, origin: Tensor | float = 0.0) -> Tensor:
        """Return features (batch, n) minus origin (n,)."""
        return features - origin


class Substructure(FeatureMap):
    """Logarithms of mass, subjettiness and its ratios for both jets: independent of azimuth and of mJJ."""

    names = tuple(f"{quantity}j{jet}" for jet in (1, 2) for quantity in ("ln_m", "ln_tau1", "ln_tau21", "ln_tau32"))

    def forward(self, features: Tensor, origin: Tensor | float = 0.0) -> Tensor:
        """Return the mapped features (batch, 8) of features (batch, 14), minus origin (8,)."""
        jets = features.reshape(-1, 2, 7)  # (batch, jet, (px, py, pz, m, tau1, tau2, tau3))
        ln_m = jets[..., 3].clamp(min=MASS_FLOOR_GEV).log()
        ln_tau1, ln_tau2, ln_tau3 = jets[..., 4:].clamp(min=TAU_FLOOR_GEV).log().unbind(-1)
        return torch.stack([ln_m, ln_tau1, ln_tau2 - ln_tau1, ln_tau3 - ln_tau2], dim=-1).flatten(1) - origin


class Jets(FeatureMap):
    """Logarithms of m/pT, tau1/m, tau21, tau32 and pT for both jets: independent of azimuth and of mJJ."""

    names = tuple(
        f"{quantity}j{jet}" for jet in (1, 2) for quantity in ("ln_m_pt", "ln_tau1_m", "ln_tau21", "ln_tau32", "ln_pt")
    )

    squared: Tensor  # (14, 10), adds px^2 and py^2 of each jet to the first of its five quantities
    taken: Tensor  # (14, 10), copies m, tau1, tau2 and tau3 to the other four
    combined: Tensor  # (10, k), maps the logarithms of the quantities to the k mapped features
    units: Tensor  # (k,), the mapped features of quantities of 1

    def __init__(self) -> None:
        super().__init__()
        floors = torch.tensor([PT_FLOOR_GEV**2, MASS_FLOOR_GEV, *[TAU_FLOOR_GEV] * 3])
        scales = TAU_FLOOR_GEV / floors  # at most 1, so nothing overflows, and one floor serves all quantities
        squared, taken = torch.zeros(7, 5), torch.zeros(7, 5)
        squared[:2, 0] = scales[0]  # px, py
        taken[[3, 4, 5, 6], [1, 2, 3, 4]] = scales[1:]
        combined = torch.tensor(
            [  # ln_m_pt, ln_tau1_m, ln_tau21, ln_tau32, ln_pt
                [-0.5, 0.0, 0.0, 0.0, 0.5],  # pt^2
                [1.0, -1.0, 0.0, 0.0, 0.0],  # m
                [0.0, 1.0, -1.0, 0.0, 0.0],  # tau1
                [0.0, 0.0, 1.0, -1.0, 0.0],  # tau2
                [0.0, 0.0, 0.0, 1.0, 0.0],  # tau3
            ]
        )
        # Constants of the code, not stored in a checkpoint.
        both = torch.eye(2)
        seen = [place for place, name in enumerate(Jets.names) if name in self.names]
        self.register_buffer("squared", torch.kron(both, squared), persistent=False)
        self.register_buffer("taken", torch.kron(both, taken), persistent=False)
        self.register_buffer("combined", torch.kron(both, combined)[:, seen], persistent=False)
        self.register_buffer("units", (-scales.log() @ combined).repeat(2)[seen], persistent=False)

    def logarithms(self, features: Tensor) -> Tensor:
        """Return ln pT^2, ln m, ln tau1, ln tau2 and ln tau3 of both jets, (batch, 10), each plus a constant."""
        bounded = features.clamp(-MAX_MOMENTUM_GEV, MAX_MOMENTUM_GEV)
        quantities = torch.addmm(features @ self.taken, bounded * bounded, self.squared)
        return quantities.clamp(min=TAU_FLOOR_GEV).log()

    def forward(self, features: Tensor, origin: Tensor | float = 0.0) -> Tensor:
        """Return the k mapped features (batch, k) of features (batch, 14), minus origin (k,)."""
        return torch.addmm(self.units - origin, self.logarithms(features), self.combined)


class Ratios(Jets):
    """Logarithms of m/pT, tau21 and tau32 for both jets: independent of azimuth and of the energy scale."""

    names = tuple(f"{quantity}j{jet}" for jet in (1, 2) for quantity in ("ln_m_pt", "ln_tau21", "ln_tau32"))


FEATURE_MAPS: dict[str, type[FeatureMap]] = {
    "raw": RawFeatures,
    "substructure": Substructure,
    "jets": Jets,
    "ratios": Ratios,
}

"""Kinematic quantities of an event, from its features: pT, eta, masses, subjettiness."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Subjettiness can be 0, and a mass 0 or, by rounding, slightly negative. Logarithms use these floors, which are below
# any physical value.
TAU_FLOOR_GEV = 0.1
MASS_FLOOR_GEV = 1.0

# Quantities that distinguish a jet of few prongs with evenly shared momentum, such as the decay of a resonance.
# For two prongs with fractions z and 1 - z, tau1/m is about 2 sqrt(z (1 - z)).
SIMPLE = {"ln_tau1_m": 1.0, "ln_tau21": -1.0, "ln_tau32": -1.0}

# Quantity -> axis label, with unit.
OF_JETS = {
    "pt": "$p_{{T}}$ of jet {jet} [GeV]",
    "eta": r"$\eta$ of jet {jet}",
    "m": "mass of jet {jet} [GeV]",
    "tau1": r"$\tau_{{1}}$ of jet {jet} [GeV]",
    "tau21": r"$\tau_{{2}}/\tau_{{1}}$ of jet {jet}",
    "tau32": r"$\tau_{{3}}/\tau_{{2}}$ of jet {jet}",
}
OF_EVENTS = {
    "mjj": "dijet mass $m_{JJ}$ [GeV]",
    "m_heavier": "mass of the heavier jet [GeV]",
    "m_lighter": "mass of the lighter jet [GeV]",
}
AXIS_LABELS = {f"{name}j{jet}": label.format(jet=jet) for jet in (1, 2) for name, label in OF_JETS.items()} | OF_EVENTS


def quantities(features: NDArray[np.floating]) -> dict[str, Floats]:
    """Return the quantities of AXIS_LABELS for features (n, 14), each (n,), masses and momenta in GeV.

    Undefined quantities are NaN: all quantities of a jet without pT, the dijet mass and the lighter mass of an event
    that lacks a jet, and a ratio with a subjettiness of 0 in the denominator.
    """
    jets = features.astype(np.float64).reshape(-1, 2, 7)  # (n, jet, (px, py, pz, m, tau1, tau2, tau3))
    pt = np.hypot(jets[..., 0], jets[..., 1])
    jets[pt == 0] = np.nan
    pt[pt == 0] = np.nan
    momentum, mass, tau = jets[..., :3], jets[..., 3], jets[..., 4:]
    of_jets = {
        "pt": pt,
        "eta": np.arcsinh(jets[..., 2] / pt),
        "m": mass,
        "tau1": tau[..., 0],
        "tau21": _ratio(tau[..., 1], tau[..., 0]),
        "tau32": _ratio(tau[..., 2], tau[..., 1]),
    }
    of_events = {
        "mjj": dijet_mass(momentum, mass),
        "m_heavier": np.fmax(mass[:, 0], mass[:, 1]),  # with only one jet, the mass of that jet
        "m_lighter": np.minimum(mass[:, 0], mass[:, 1]),
    }
    return {f"{name}j{jet}": values[:, jet - 1] for jet in (1, 2) for name, values in of_jets.items()} | of_events


def ln_simple(features: NDArray[np.floating]) -> dict[str, Floats]:
    """Return the logarithms of SIMPLE for both jets of features (n, 14), each (n,), with floored masses and taus."""
    jets = features.astype(np.float64).reshape(-1, 2, 7)
    ln_mass = np.log(np.maximum(jets[..., 3], MASS_FLOOR_GEV))
    ln_tau1, ln_tau2, ln_tau3 = np.moveaxis(np.log(np.maximum(jets[..., 4:], TAU_FLOOR_GEV)), -1, 0)
    both = {"ln_tau1_m": ln_tau1 - ln_mass, "ln_tau21": ln_tau2 - ln_tau1, "ln_tau32": ln_tau3 - ln_tau2}
    return {f"{name}j{jet}": both[name][:, jet - 1] for jet in (1, 2) for name in SIMPLE}


def dijet_mass(momentum: Floats, mass: Floats) -> Floats:
    """Return the invariant mass of two jets, m^2 = (E1 + E2)^2 - |p1 + p2|^2: (n, 2, 3) and (n, 2) in GeV -> (n,)."""
    energy = np.sqrt((momentum**2).sum(axis=-1) + mass**2)
    squared = energy.sum(axis=1) ** 2 - (momentum.sum(axis=1) ** 2).sum(axis=-1)
    root: Floats = np.sqrt(np.maximum(squared, 0))  # rounding can make it negative for parallel massless jets
    return root


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(below, np.nan), where=below > 0)

"""Jet clustering and the fourteen features, with fastjet."""

from dataclasses import dataclass

import awkward as ak
import fastjet
import numpy as np
from numpy.typing import NDArray

from training.events.events import FEATURE_NAMES

JET_RADIUS = 1.0
# Larger than any distance inside a jet, so that clustering a jet's constituents again returns that one jet.
RECLUSTER_RADIUS = 10.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Objects:
    """Massless reconstructed objects of consecutive events, as flat arrays."""

    counts: NDArray[np.int64]  # (events,) objects in each event
    pt: Floats  # (objects,) GeV
    eta: Floats  # (objects,)
    phi: Floats  # (objects,)

    def __len__(self) -> int:
        return len(self.counts)


def jet_features(objects: Objects, min_leading_pt_gev: float = 0.0) -> Floats:
    """Return the features of the two jets of highest pT in each event: (events, 14), GeV.

    Events whose first jet does not exceed `min_leading_pt_gev` are dropped before the costly part; 0 keeps all events.

    Jets are anti-kT with R = 1.0. tau_N is the N-subjettiness with beta = 1, unnormalised, on kT axes after one pass of
    minimisation (Thaler and Van Tilburg, arXiv:1011.2268 and 1108.2701): the axes that reproduce the published sample
    (docs/training.md, "Decisions of the simulation"). The features of a missing jet are 0.
    """
    particles = _momenta(objects)
    jets, constituents = _leading_two(particles)
    if min_leading_pt_gev > 0:
        px, py = (ak.to_numpy(ak.fill_none(jets[name][:, 0], 0.0)) for name in ("px", "py"))
        high = np.hypot(px, py) > min_leading_pt_gev
        jets, constituents = jets[high], constituents[high]
    taus = _subjettiness(constituents)
    px, py, pz, energy = (ak.to_numpy(ak.fill_none(jets[name], 0.0)) for name in ("px", "py", "pz", "E"))
    mass_squared = energy**2 - px**2 - py**2 - pz**2
    # The sign keeps the rounding of a massless jet as a slightly negative mass, as in the published files.
    mass = np.copysign(np.sqrt(np.abs(mass_squared)), mass_squared)
    features = np.stack([px, py, pz, mass, taus[..., 0], taus[..., 1], taus[..., 2]], axis=-1)  # (events, 2, 7)
    return features.reshape(-1, len(FEATURE_NAMES))


def leading_jet(features: Floats) -> tuple[Floats, Floats]:
    """Return pT in GeV and eta of the first jet, from features (events, 14); a missing jet has 0 and 0."""
    px, py, pz = features[:, 0], features[:, 1], features[:, 2]
    pt = np.hypot(px, py)
    return pt, np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pt), where=pt > 0))


def _momenta(objects: Objects) -> ak.Array:
    """Return the objects as awkward four-momenta: events * var * Momentum4D."""
    return ak.unflatten(
        ak.zip(
            {
                "px": objects.pt * np.cos(objects.phi),
                "py": objects.pt * np.sin(objects.phi),
                "pz": objects.pt * np.sinh(objects.eta),
                "E": objects.pt * np.cosh(objects.eta),
            },
            with_name="Momentum4D",
        ),
        objects.counts,
    )


def _leading_two(particles: ak.Array) -> tuple[ak.Array, ak.Array]:
    """Return the two jets of highest pT, padded with None, and their constituents, padded with empty lists."""
    # The banner would interrupt a progress bar; the README cites FastJet instead.
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)
    clusters = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.antikt_algorithm, JET_RADIUS))
    jets = clusters.inclusive_jets()
    order = ak.argsort(jets.px**2 + jets.py**2, ascending=False)[:, :2]
    constituents = ak.fill_none(ak.pad_none(clusters.constituents()[order], 2, clip=True), [], axis=1)
    return ak.pad_none(jets[order], 2, clip=True), constituents


def _subjettiness(constituents: ak.Array) -> Floats:
    """Return tau1, tau2, tau3 in GeV for each jet from its constituents (events * 2 * var): (events, 2, 3)."""
    jets = ak.flatten(constituents, axis=1)
    taus = np.zeros((len(jets), 3))
    present = ak.to_numpy(ak.num(jets)) > 0
    if present.any():
        definition = fastjet.JetDefinition(fastjet.antikt_algorithm, RECLUSTER_RADIUS)
        clusters = fastjet.ClusterSequence(ak.to_packed(jets[present]), definition)
        taus[present] = clusters.njettiness(
            measure_definition="UnnormalizedMeasure",
            axes_definition="OnePass_KT_Axes",
            njets=[1, 2, 3],
            beta=1.0,
            R0=1.0,
        )
    return taus.reshape(-1, 2, 3)

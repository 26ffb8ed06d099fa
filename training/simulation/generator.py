"""Proton-proton collisions from Pythia 8, as flat arrays of stable particles."""

from dataclasses import dataclass, replace

import awkward as ak
import numpy as np
import pythia8mc
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Both samples: 13 TeV, no multiparton interactions and no pile-up, as the LHC Olympics R&D events were made.
COLLISION_ENERGY_GEV = 13_000.0
COLLISIONS = (f"Beams:eCM = {COLLISION_ENERGY_GEV}", "PartonLevel:MPI = off", "Print:quiet = on", "Random:setSeed = on")

# Emissions below this scale hardly change a jet of 1.2 TeV; those above it come first and are cheap.
VETO_SCALE_GEV = 100.0
PARTON_JET_RADIUS = 1.0

# The largest seed that Pythia accepts.
MAX_SEED = 900_000_000


@dataclass(frozen=True)
class Process:
    """A physics process: its label (0 background, 1 signal), its Pythia settings, and an early veto.

    A collision is vetoed at VETO_SCALE_GEV in the shower, before most of its cost, if its leading parton jet is below
    `min_parton_jet_pt_gev`.
    """

    name: str
    label: int
    settings: tuple[str, ...]
    min_parton_jet_pt_gev: float = 0.0


# One selected event in 1000 has a pTHat below 600 GeV (docs/training.md, "Decisions of the simulation"): the 500 GeV
# of the published sample would take longer without a visible change.
BACKGROUND = Process(
    "background",
    0,
    ("HardQCD:all = on", "HardQCD:nQuarkNew = 5", "PhaseSpace:pTHatMin = 600."),
    min_parton_jet_pt_gev=1000.0,
)

# Another shower: the settings of the published black box 3.
OTHER_SHOWER = (
    "Tune:pp = 10",
    "PDF:pSet = 5",
    "TimeShower:alphaSvalue = 0.16",
    "SpaceShower:alphaSvalue = 0.16",
    "TimeShower:renormMultFac = 2.",
    "SpaceShower:renormMultFac = 2.",
    "TimeShower:factorMultFac = 0.5",
    "SpaceShower:factorMultFac = 0.5",
    "TimeShower:pTmaxMatch = 1",
    "SpaceShower:pTmaxMatch = 1",
)
DRIFTED_BACKGROUND = replace(BACKGROUND, settings=(*BACKGROUND.settings, *OTHER_SHOWER))

# Pythia generates no W or Z lighter than this, independent of the mass setting.
MIN_DAUGHTER_MASS_GEV = 10.0

# Decays of X and Y by number of prongs. X and Y are W and Z with other masses.
DECAYS = {
    2: ("24:onMode = off", "24:onIfAny = -1 2", "24:onIfAny = -3 4", "23:onMode = off", "23:onIfAny = 1 2 3 4"),
    3: ("24:oneChannel = 1 1. 100 -1 2 21", "23:oneChannel = 1 1. 100 1 -1 21"),  # q qbar g, flat in phase space
}


def w_prime(mass_gev: float, x_mass_gev: float, y_mass_gev: float, prongs: int = 2) -> Process:
    """Return the signal W' -> X Y with these masses, where X and Y each decay to `prongs` partons (2 or 3)."""
    return Process(
        "signal",
        1,
        (
            "NewGaugeBoson:ffbar2Wprime = on",
            "PhaseSpace:pTHatMin = 500.",
            f"34:m0 = {mass_gev}",
            f"24:m0 = {x_mass_gev}",
            f"23:m0 = {y_mass_gev}",
            "Wprime:vq = 1e-7",
            "Wprime:aq = 0.",
            "Wprime:vl = 0.",
            "Wprime:al = 0.",
            "Wprime:coup2WZ = 1.",
            *DECAYS[prongs],
        ),
    )


# The signal of the published R&D events.
SIGNAL = w_prime(3500, 500, 100)


@dataclass(frozen=True)
class Particles:
    """Stable particles of consecutive collisions, as flat arrays."""

    counts: NDArray[np.int64]  # (collisions,) particles in each collision
    pdg_id: NDArray[np.int64]  # (particles,)
    charge: Floats  # (particles,) in units of e
    pt: Floats  # (particles,) GeV
    eta: Floats  # (particles,)
    phi: Floats  # (particles,)
    energy: Floats  # (particles,) GeV

    def __len__(self) -> int:
        return len(self.counts)


class PartonJetVeto(pythia8mc.UserHooks):  # type: ignore[misc]  # Pythia has no stubs
    """A veto, during the shower, of collisions that can no longer have a jet of sufficient pT."""

    def __init__(self, min_pt_gev: float) -> None:
        super().__init__()
        self.min_pt_gev = min_pt_gev
        # Anti-kT (-1) on all partons (1), without fjcore, whose banner would interrupt a progress bar.
        self._jets = pythia8mc.SlowJet(-1, PARTON_JET_RADIUS, 0.0, 25.0, 1, 2, None, False)

    def canVetoPT(self) -> bool:
        return True

    def scaleVetoPT(self) -> float:
        return VETO_SCALE_GEV

    def doVetoPT(self, stage: int, event: "pythia8mc.Event") -> bool:
        return self.leading_jet_pt_gev(event) < self.min_pt_gev

    def leading_jet_pt_gev(self, event: "pythia8mc.Event") -> float:
        """Return the pT of the leading jet of the current partons."""
        self._jets.analyze(event)
        return float(self._jets.pT(0)) if self._jets.sizeJet() else 0.0


class Generator:
    """A Pythia 8 instance for one process; the same seed gives the same collisions."""

    def __init__(self, process: Process, seed: int) -> None:
        self._pythia = pythia8mc.Pythia("", False)  # no banner
        for setting in (*COLLISIONS, f"Random:seed = {seed}", *process.settings):
            if not self._pythia.readString(setting):
                raise ValueError(f"Pythia does not know the setting {setting!r} of the {process.name} process")
        if process.min_parton_jet_pt_gev > 0:
            self._veto = PartonJetVeto(process.min_parton_jet_pt_gev)  # Pythia holds no reference to it
            self._pythia.setUserHooksPtr(self._veto)
        if not self._pythia.init():
            raise RuntimeError(f"Pythia could not be initialised for the {process.name} process")

    def collide(self, collisions: int) -> Particles:
        """Generate collisions, fewer if Pythia rejects some, and return their stable particles."""
        particles = self._pythia.nextBatch(collisions).prt
        stable = particles[particles.status > 0]
        counts = ak.to_numpy(ak.num(stable)).astype(np.int64)
        flat = ak.flatten(stable)
        px, py, pz, energy = (ak.to_numpy(flat.p[name]) for name in ("px", "py", "pz", "e"))
        pdg_id = ak.to_numpy(flat.id).astype(np.int64)
        pt = np.hypot(px, py)
        # A particle along the beam has pT 0 and no pseudorapidity; it is not detected, so any large value is suitable.
        eta = np.where(pt > 0, np.arcsinh(pz / np.maximum(pt, 1e-12)), np.copysign(99.0, pz))
        return Particles(counts, pdg_id, self._charge(pdg_id), pt, eta, np.arctan2(py, px), energy)

    def _charge(self, pdg_id: NDArray[np.int64]) -> Floats:
        """Return the charge of each particle, with one look-up in Pythia's tables for each species."""
        species, inverse = np.unique(pdg_id, return_inverse=True)
        charges = np.array([self._pythia.particleData.charge(int(pdg)) for pdg in species], dtype=np.float64)
        return charges[inverse]

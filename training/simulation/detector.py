"""A parametric detector in NumPy: from stable particles to massless particle-flow objects.

It reproduces Delphes 3.4.1 with its default CMS card (de Favereau et al., arXiv:1307.6346): tracking efficiency and
resolution, two calorimeters of finite granularity, and Delphes' own particle flow, one calorimeter after the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.simulation.generator import Particles
from training.simulation.jets import Objects

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ELECTRON, MUON, PHOTON = 11, 13, 22
NEUTRINOS = (12, 14, 16)

# The solenoid, and the volume up to the face of the calorimeters in which it bends tracks.
FIELD_TESLA = 3.8
RADIUS_M = 1.29
HALF_LENGTH_M = 3.0

TRACK_MIN_PT_GEV = 0.1
TRACK_MAX_ETA = 2.5


def reconstruct(particles: Particles, rng: np.random.Generator) -> Objects:
    """Return the reconstructed objects of the particles: tracks, photons and neutral hadrons, massless."""
    event = np.repeat(np.arange(len(particles)), particles.counts)
    species = np.abs(particles.pdg_id)
    electron = species == ELECTRON
    hadron = ~np.isin(species, (ELECTRON, MUON, PHOTON, *NEUTRINOS))
    face_eta, face_phi = _propagate(particles)

    tracked = rng.random(len(species)) < _track_efficiency(particles, electron, species == MUON)
    resolution = np.minimum(_track_resolution(particles, electron, species == MUON)[tracked], 1.0)
    track_pt = _log_normal(particles.pt[tracked], resolution * particles.pt[tracked], rng)
    track_eta, track_phi, track_event = particles.eta[tracked], particles.phi[tracked], event[tracked]
    track_energy = track_pt * np.cosh(track_eta)

    parts = []
    for calorimeter, deposits in ((ECAL, electron | (species == PHOTON)), (HCAL, hadron)):
        cell = np.where(deposits, calorimeter.cell(event, face_eta, face_phi), OUTSIDE)
        track_scale, neutrals = _particle_flow(
            calorimeter, cell, particles.energy, cell[tracked], track_energy, resolution * track_energy, rng
        )
        track_energy = track_energy * track_scale
        parts.append(neutrals)
    parts.append((track_event, track_energy / np.cosh(track_eta), track_eta, track_phi))

    object_event, pt, eta, phi = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(object_event, kind="stable")
    counts = np.bincount(object_event, minlength=len(particles)).astype(np.int64)
    return Objects(counts, pt[order], eta[order], phi[order])


def _propagate(particles: Particles) -> tuple[Floats, Floats]:
    """Return eta and phi of each particle at the calorimeters; charged particles follow a helix."""
    charged = particles.charge != 0
    pt, eta, phi = (values[charged] for values in (particles.pt, particles.eta, particles.phi))
    curvature_m = pt / (0.3 * FIELD_TESLA * np.abs(particles.charge[charged]))
    sinh = np.maximum(np.abs(np.sinh(eta)), 1e-3)  # a track perpendicular to the beam would curl forever
    turn_to_barrel = 2 * np.arcsin(np.minimum(RADIUS_M / (2 * curvature_m), 1.0))
    turn_to_endcap = HALF_LENGTH_M / (curvature_m * sinh)
    turn = np.where(2 * curvature_m > RADIUS_M, np.minimum(turn_to_barrel, turn_to_endcap), turn_to_endcap)
    # Negative after an odd number of half turns, when the point is opposite.
    chord_m = 2 * curvature_m * np.sin(turn / 2)
    face_eta, face_phi = particles.eta.copy(), particles.phi.copy()
    face_eta[charged] = np.arcsinh(curvature_m * turn * np.sinh(eta) / np.maximum(np.abs(chord_m), 1e-6))
    face_phi[charged] = phi - np.sign(particles.charge[charged]) * turn / 2 + np.where(chord_m < 0, np.pi, 0.0)
    return face_eta, face_phi


def _track_efficiency(particles: Particles, electron: Bools, muon: Bools) -> Floats:
    """Return the probability that each particle leaves a track."""
    soft = particles.pt <= 1.0
    central = np.abs(particles.eta) <= 1.5
    hadron = np.where(central, np.where(soft, 0.70, 0.95), np.where(soft, 0.60, 0.85))
    hard = particles.pt > 100.0
    electron_central = np.where(soft, 0.73, np.where(hard, 0.99, 0.95))
    electron_outer = np.where(soft, 0.50, np.where(hard, 0.90, 0.83))
    muon_either = np.where(central, np.where(soft, 0.75, 0.99), np.where(soft, 0.70, 0.98))
    efficiency = np.select(
        [electron & central, electron, muon], [electron_central, electron_outer, muon_either], default=hadron
    )
    in_reach = (particles.pt > TRACK_MIN_PT_GEV) & (np.abs(particles.eta) <= TRACK_MAX_ETA) & (particles.charge != 0)
    return np.where(in_reach, efficiency, 0.0)


def _track_resolution(particles: Particles, electron: Bools, muon: Bools) -> Floats:
    """Return the relative resolution of each track's pT."""
    ring = np.searchsorted([0.5, 1.5], np.abs(particles.eta))

    def resolution(constant: tuple[float, float, float], slope_per_gev: tuple[float, float, float]) -> Floats:
        relative: Floats = np.hypot(np.array(constant)[ring], np.array(slope_per_gev)[ring] * particles.pt)
        return relative

    return np.select(
        [electron, muon],
        [
            resolution((0.03, 0.05, 0.15), (1.3e-3, 1.7e-3, 3.1e-3)),
            resolution((0.01, 0.015, 0.025), (1.0e-4, 1.5e-4, 3.5e-4)),
        ],
        default=resolution((0.06, 0.10, 0.25), (1.3e-3, 1.7e-3, 3.1e-3)),
    )


def _log_normal(mean: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
    """Draw from log-normal distributions with mean `mean` and standard deviation `sigma`; 0 where the mean is 0."""
    positive = np.where(mean > 0, mean, 1.0)
    spread = np.sqrt(np.log1p((sigma / positive) ** 2))
    drawn = positive * np.exp(spread * rng.standard_normal(len(mean)) - spread**2 / 2)
    return np.where(mean > 0, drawn, 0.0)


OUTSIDE = -1  # the cell of a particle that deposits nothing


@dataclass(frozen=True)
class Calorimeter:
    """Rings in eta, each divided into equal cells in phi, with an energy resolution and thresholds."""

    eta_edges: Floats  # (rings + 1,)
    phi_cells: Ints  # (rings,)
    sigma: Callable[[Floats, Floats], Floats]  # (eta, energy in GeV) -> resolution in GeV
    min_energy_gev: float
    min_significance: float  # in units of sigma

    def cell(self, event: Ints, eta: Floats, phi: Floats) -> Ints:
        """Return the number of each point's cell, unique over events, or OUTSIDE."""
        ring = np.searchsorted(self.eta_edges, eta, side="right") - 1
        inside = (ring >= 0) & (ring < len(self.phi_cells))
        ring = np.where(inside, ring, 0)
        column = np.floor(phi / (2 * np.pi) % 1.0 * self.phi_cells[ring]).astype(np.int64) % self.phi_cells[ring]
        return np.where(inside, (event * len(self.phi_cells) + ring) * self.phi_cells.max() + column, OUTSIDE)

    def position(self, cell: Ints) -> tuple[Ints, Ints, Ints]:
        """Return event, ring and column of cells: the inverse of `cell`."""
        rest, column = np.divmod(cell, self.phi_cells.max())
        event, ring = np.divmod(rest, len(self.phi_cells))
        return event, ring, column


def _particle_flow(
    calorimeter: Calorimeter,
    deposit_cell: Ints,
    deposit_energy: Floats,
    track_cell: Ints,
    track_energy: Floats,
    track_sigma: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, tuple[Ints, Floats, Floats, Floats]]:
    """Combine one calorimeter with the tracks that point to it, as Delphes' SimpleCalorimeter does.

    Energies and sigmas are in GeV; cells are OUTSIDE for particles of the other calorimeter. Return the factor on each
    track's energy, and the neutral excess as (event, pt, eta, phi), at random positions within the cells.
    """
    deposited, pointing = deposit_cell != OUTSIDE, track_cell != OUTSIDE
    cells, index = np.unique(np.concatenate([deposit_cell[deposited], track_cell[pointing]]), return_inverse=True)
    from_deposit, from_track = np.split(index, [int(deposited.sum())])
    event, ring, column = calorimeter.position(cells)
    low, high = calorimeter.eta_edges[ring], calorimeter.eta_edges[ring + 1]
    centre = (low + high) / 2

    true_energy: Floats = np.bincount(from_deposit, deposit_energy[deposited], len(cells)).astype(np.float64)
    energy = _log_normal(true_energy, calorimeter.sigma(centre, true_energy), rng)
    sigma = calorimeter.sigma(centre, energy)
    energy[(energy < calorimeter.min_energy_gev) | (energy < calorimeter.min_significance * sigma)] = 0.0

    charged = np.bincount(from_track, track_energy[pointing], len(cells))
    charged_variance = np.bincount(from_track, track_sigma[pointing] ** 2, len(cells))
    excess = np.maximum(energy - charged, 0.0)
    uncertainty = np.sqrt(charged_variance + sigma**2)
    is_neutral = (excess > calorimeter.min_energy_gev) & (excess > calorimeter.min_significance * uncertainty)

    # Without a significant excess, tracks get the weighted mean of their own and the cell's measurement.
    rescaled = ~is_neutral & (charged > 0) & (sigma > 0)
    track_weight = np.divide(sigma**2, sigma**2 + charged_variance, out=np.ones(len(cells)), where=rescaled)
    ratio = np.divide(energy, charged, out=np.ones(len(cells)), where=rescaled)
    scale = np.ones(len(track_energy))
    scale[pointing] = (track_weight + (1 - track_weight) * ratio)[from_track]

    eta = rng.uniform(low, high)[is_neutral]
    phi = (2 * np.pi * (column + rng.random(len(cells))) / calorimeter.phi_cells[ring])[is_neutral]
    return scale, (event[is_neutral], excess[is_neutral] / np.cosh(eta), eta, phi)


def _ecal_sigma(eta: Floats, energy: Floats) -> Floats:
    central = np.sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.40**2)
    endcap = (2.16 + 5.6 * (np.abs(eta) - 2) ** 2) * central
    forward = np.sqrt((0.107 * energy) ** 2 + 2.08**2 * energy)
    return np.select([np.abs(eta) <= 1.5, np.abs(eta) <= 2.5], [(1 + 0.64 * eta**2) * central, endcap], forward)


def _hcal_sigma(eta: Floats, energy: Floats) -> Floats:
    central = np.sqrt((0.05 * energy) ** 2 + 1.5**2 * energy)
    forward = np.sqrt((0.13 * energy) ** 2 + 2.7**2 * energy)
    return np.where(np.abs(eta) <= 3.0, central, forward)


def _rings(*parts: tuple[list[float], int]) -> tuple[Floats, Ints]:
    """Return eta edges and phi cells of rings mirrored at eta 0, from (ascending upper edges, phi cells) outwards."""
    edges = np.array([0.0, *(edge for upper, _ in parts for edge in upper)])
    cells = [phi_cells for upper, phi_cells in parts for _ in upper]
    return np.concatenate([-edges[:0:-1], edges]), np.array([*cells[::-1], *cells], dtype=np.int64)


_FORWARD = [3.125, 3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525, 4.7, 5.0]
ECAL = Calorimeter(
    *_rings(([0.0174 * i for i in range(1, 173)], 360), (_FORWARD, 36)),
    sigma=_ecal_sigma,
    min_energy_gev=0.5,
    min_significance=2.0,
)
HCAL = Calorimeter(
    *_rings(
        ([0.087 * i for i in range(1, 20)], 72),
        ([1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95, *_FORWARD[:-2]], 36),
        (_FORWARD[-2:], 18),
    ),
    sigma=_hcal_sigma,
    min_energy_gev=1.0,
    min_significance=1.0,
)

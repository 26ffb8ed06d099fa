"""The detector bends, smears, loses and keeps what its card says, event by event."""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
import pytest
from numpy.typing import NDArray

from training.simulation.detector import (
    ECAL,
    FIELD_TESLA,
    HALF_LENGTH_M,
    HCAL,
    OUTSIDE,
    RADIUS_M,
    TRACK_MIN_PT_GEV,
    Calorimeter,
    _propagate,
    reconstruct,
)
from training.simulation.generator import Particles
from training.simulation.jets import Objects

PHOTON, MUON, PION, KAON_LONG, NEUTRINOS = 22, 13, 211, 130, (12, -12, 14, -14, 16, -16)
CHARGES = {PHOTON: 0, MUON: -1, PION: 1, -PION: -1, KAON_LONG: 0} | dict.fromkeys(NEUTRINOS, 0)
MASSES_GEV = {MUON: 0.1057, PION: 0.1396, KAON_LONG: 0.4976}

Particle = tuple[int, float, float, float]
"""PDG number, pT in GeV, eta, phi."""
ECAL_CELL_ETA = 0.0174
PARTICLE_FLOW_BIAS = 0.05
"""Delphes' particle flow keeps upward fluctuations of a calorimeter as neutrals: it finds a few percent too much."""
CALORIMETERS = pytest.mark.parametrize("calorimeter", [ECAL, HCAL], ids=["ecal", "hcal"])


def particles(*events: Sequence[Particle]) -> Particles:
    """Return events of (PDG number, pT, eta, phi) as the flat arrays that a generator gives."""
    flat = [particle for event in events for particle in event]
    pdg_id = np.array([pdg for pdg, *_ in flat], dtype=np.int64)
    pt, eta, phi = np.array([kinematics for _, *kinematics in flat], dtype=float).reshape(-1, 3).T
    mass = np.array([MASSES_GEV.get(abs(pdg), 0.0) for pdg in pdg_id.tolist()])
    charge = np.array([CHARGES[pdg] for pdg in pdg_id.tolist()], dtype=float)
    counts = np.array([len(event) for event in events], dtype=np.int64)
    return Particles(counts, pdg_id, charge, pt, eta, phi, np.hypot(pt * np.cosh(eta), mass))


def detected(*events: Sequence[Particle], seed: int = 1) -> Objects:
    """Return what the detector makes of events."""
    return reconstruct(particles(*events), np.random.default_rng(seed))


def energy(objects: Objects) -> NDArray[np.float64]:
    """Return the energy of massless objects."""
    return objects.pt * np.cosh(objects.eta)


def assert_draws(values: NDArray[np.float64], mean: float, spread: float) -> None:
    """Require the mean within five standard errors, and the spread within five of its own."""
    assert values.mean() == pytest.approx(mean, abs=5 * spread / math.sqrt(len(values)))
    assert values.std() == pytest.approx(spread, rel=5 / math.sqrt(2 * len(values)) + 0.02)


def a_jet(rng: np.random.Generator) -> list[Particle]:
    """Draw a jet: charged hadrons, photons and neutral hadrons in their usual shares."""
    species = rng.choice([PION, -PION, PHOTON, KAON_LONG], 60, p=[0.3, 0.3, 0.27, 0.13]).tolist()
    pt = rng.exponential(12.0, 60) + 0.5
    eta, phi = rng.normal(0.4, 0.2, 60), rng.normal(1.0, 0.2, 60)
    return list(zip(species, pt.tolist(), eta.tolist(), phi.tolist(), strict=True))


def test_what_leaves_nothing(subtests: pytest.Subtests) -> None:
    """Neutrinos, tracks below 0.1 GeV and events without particles leave no object."""
    neutrinos: list[Particle] = [(species, 300.0, 0.3, 1.0) for species in NEUTRINOS]
    soft: list[Particle] = [(PION, 0.9 * TRACK_MIN_PT_GEV, 0.3, 0.1 * i) for i in range(60)]
    cases: list[list[list[Particle]]] = [[neutrinos, []], [soft], [], [[], [], []]]
    for events in cases:
        with subtests.test(events=len(events)):
            objects = detected(*events)
            assert objects.counts.tolist() == [0] * len(events)
            assert len(objects.pt) == 0


@pytest.mark.parametrize(
    ("eta", "efficiency", "relative_sigma"),
    [
        (0.3, 0.99, math.hypot(0.01, 50e-4)),
        (1.2, 0.99, math.hypot(0.015, 75e-4)),
        (2.1, 0.98, math.hypot(0.025, 175e-4)),
    ],
)
def test_a_muon_leaves_one_track(eta: float, efficiency: float, relative_sigma: float) -> None:
    """All muons but the inefficiency leave one object, in their direction, with the resolution of the card."""
    events = 4000
    objects = detected(*[[(MUON, 50.0, eta, -2.0)]] * events)
    assert set(objects.counts.tolist()) == {0, 1}
    deviation = math.sqrt(efficiency * (1 - efficiency) / events)
    assert objects.counts.mean() == pytest.approx(efficiency, abs=5 * deviation)
    assert set(objects.eta.tolist()) == {eta}
    assert set(objects.phi.tolist()) == {-2.0}
    assert_draws(objects.pt, 50.0, 50.0 * relative_sigma)


def ecal_sigma(energy_gev: float, eta: float) -> float:
    """Return the resolution of the central ECAL at the centre of the cell around eta, in GeV."""
    centre = ECAL_CELL_ETA * (math.floor(eta / ECAL_CELL_ETA) + 0.5)
    return (1 + 0.64 * centre**2) * math.sqrt((0.008 * energy_gev) ** 2 + 0.11**2 * energy_gev + 0.4**2)


def hcal_sigma(energy_gev: float, _: float = 0.0) -> float:
    """Return the resolution of the central HCAL in GeV."""
    return math.sqrt((0.05 * energy_gev) ** 2 + 1.5**2 * energy_gev)


@pytest.mark.parametrize(
    ("species", "pt", "eta", "calorimeter", "sigma"),
    [
        (PHOTON, 40.0, 0.2, ECAL, ecal_sigma),
        (PHOTON, 200.0, 1.3, ECAL, ecal_sigma),
        (KAON_LONG, 80.0, 0.6, HCAL, hcal_sigma),
    ],
)
def test_a_neutral_particle_deposits_in_its_calorimeter(
    species: int, pt: float, eta: float, calorimeter: Calorimeter, sigma: Callable[[float, float], float]
) -> None:
    """A photon or long-lived kaon is one object in its own cell, with the energy and resolution of its calorimeter."""
    given = particles(*[[(species, pt, eta, 0.5)]] * 3000)
    objects = reconstruct(given, np.random.default_rng(2))
    assert set(objects.counts.tolist()) == {1}
    found, own = (calorimeter.cell(np.arange(3000), of.eta, of.phi) for of in (objects, given))
    np.testing.assert_array_equal(found, own)
    true = float(given.energy[0])
    assert_draws(energy(objects), true, sigma(true, eta))


def test_a_charged_hadron_beyond_the_tracker_is_seen_by_the_calorimeter_alone() -> None:
    """Within |eta| 2.5 most pions have a track of exactly their direction; beyond none has, and the energy is kept."""
    inside, beyond = (detected(*[[(PION, 60.0, eta, 0.3)]] * 2000) for eta in (2.4, 2.8))
    assert np.sum(inside.eta == 2.4) == pytest.approx(0.85 * 2000, abs=5 * math.sqrt(0.85 * 0.15 * 2000))
    assert not np.any(beyond.eta == 2.8)
    assert not np.any(beyond.phi == 0.3)
    assert set(beyond.counts.tolist()) == {1}
    true = 60.0 * math.cosh(2.8)
    assert_draws(energy(beyond), true, hcal_sigma(true))


def test_a_track_and_its_own_deposit_are_one_object() -> None:
    """A charged hadron is not counted twice: its track takes up the deposit, and only a few leave an excess."""
    objects = detected(*[[(PION, 50.0, 0.1, 0.3)]] * 2000)
    assert np.mean(objects.counts == 1) > 0.8
    assert objects.pt.sum() / 2000 == pytest.approx(50.0, rel=PARTICLE_FLOW_BIAS)


def test_energy_is_conserved_on_average() -> None:
    """Energy and momentum of a jet-like set come out within the bias of the particle flow."""
    rng = np.random.default_rng(4)
    jets = particles(*[a_jet(rng) for _ in range(400)])
    objects = reconstruct(jets, rng)
    assert energy(objects).sum() == pytest.approx(jets.energy.sum(), rel=PARTICLE_FLOW_BIAS)
    for angle in (np.cos, np.sin):
        found, expected = (np.sum(of.pt * angle(of.phi)) for of in (objects, jets))
        assert found == pytest.approx(expected, rel=PARTICLE_FLOW_BIAS)


def test_objects_come_back_event_by_event() -> None:
    """Each event gets the objects of its own particles, in the order of events, and none where there is nothing."""
    directions = [[0.5], [], [1.0, 2.0, 3.0], [], [-1.0, -2.0], []]
    objects = detected(*[[(PHOTON, 50.0, 0.2, phi) for phi in event] for event in directions])
    assert objects.counts.tolist() == [1, 0, 3, 0, 2, 0]
    found = np.split(objects.phi, np.cumsum(objects.counts)[:-1])
    for phis, expected in zip(found, directions, strict=True):
        turned = np.sort((phis + np.pi) % (2 * np.pi) - np.pi)
        np.testing.assert_allclose(turned, np.sort(expected), atol=np.deg2rad(1))


def test_a_seed_means_the_same_objects() -> None:
    """The same particles and seed give the same objects, bit for bit; another seed gives others."""
    jets = [a_jet(np.random.default_rng(event)) for event in range(5)]
    one, again, other = detected(*jets, seed=6), detected(*jets, seed=6), detected(*jets, seed=7)
    for field in fields(Objects):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(again, field.name))
    assert not np.array_equal(one.pt, other.pt)


def walk(pt: float, eta: float, phi: float, charge: int, step_m: float = 2e-5) -> tuple[float, float]:
    """Follow a track in small straight steps to the calorimeters' face and return eta and phi of the point."""
    x = y = z = 0.0
    turn_per_m = -charge * 0.3 * FIELD_TESLA / pt
    while math.hypot(x, y) < RADIUS_M and abs(z) < HALF_LENGTH_M:
        phi += turn_per_m * step_m / 2
        x, y, z = x + step_m * math.cos(phi), y + step_m * math.sin(phi), z + step_m * math.sinh(eta)
        phi += turn_per_m * step_m / 2
    return math.asinh(z / math.hypot(x, y)), math.atan2(y, x)


@pytest.mark.parametrize(
    ("pt", "eta"),
    [
        (2.0, 0.4),  # reaches the barrel
        (0.9, -1.0),  # reaches the barrel, much bent
        (5.0, 2.2),  # reaches the end cap
        (0.5, 1.1),  # curls, and reaches the end cap after less than a turn
        (0.3, -0.9),  # curls more than once
    ],
)
@pytest.mark.parametrize("species", [PION, -PION])
def test_tracks_follow_the_helix_step_by_step(pt: float, eta: float, species: int) -> None:
    """Where a track enters the calorimeters is where a slow walk along it arrives."""
    face_eta, face_phi = _propagate(particles([(species, pt, eta, 0.7)]))
    slow_eta, slow_phi = walk(pt, eta, 0.7, CHARGES[species])
    assert face_eta[0] == pytest.approx(slow_eta, abs=2e-3)
    assert (face_phi[0] - slow_phi + np.pi) % (2 * np.pi) - np.pi == pytest.approx(0.0, abs=2e-3)


def test_tracks_bend_against_the_sign_of_their_charge() -> None:
    """A positive particle turns towards smaller phi and a negative one towards larger, by the same angle.

    A photon, however soft, goes straight, and so does a track of a pT without bounds.
    """
    _, face_phi = _propagate(particles([(PION, 5.0, 0.3, 0.7), (-PION, 5.0, 0.3, 0.7)]))
    assert face_phi[0] < 0.7 < face_phi[1]
    assert face_phi[0] + face_phi[1] == pytest.approx(1.4)
    photons = particles([(PHOTON, pt, 1.0, 0.7) for pt in (1e-3, 0.1, 10.0)])
    stiff = particles([(PION, 1e9, eta, 0.7) for eta in (-2.0, 0.0, 0.5, 3.5)])
    for straight, tolerance in ((photons, 0.0), (stiff, 1e-6)):
        np.testing.assert_allclose(_propagate(straight), (straight.eta, straight.phi), rtol=0, atol=tolerance)


def points(count: int = 20_000) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Draw events and directions all over |eta| < 5, with phi of any number of turns and some on edges."""
    rng = np.random.default_rng(8)
    eta, phi = rng.uniform(-5, 5, count), rng.uniform(-10, 10, count)
    phi[:5] = [0.0, -1e-18, np.pi, -np.pi, 2 * np.pi]
    eta[:4] = [-5.0, 0.0, -0.0, np.nextafter(5.0, 0.0)]
    return rng.integers(0, 50, count), eta, phi


@CALORIMETERS
def test_cells_tile_the_detector(calorimeter: Calorimeter) -> None:
    """Each point with |eta| < 5 is in a cell, whose number gives the event, the ring and the column that it lies in.

    No point beyond has a cell, and the rings are mirrored at eta 0.
    """
    event, eta, phi = points()
    cells = calorimeter.cell(event, eta, phi)
    assert not np.any(cells == OUTSIDE)
    found_event, ring, column = calorimeter.position(cells)
    np.testing.assert_array_equal(found_event, event)
    assert np.all((calorimeter.eta_edges[ring] <= eta) & (eta < calorimeter.eta_edges[ring + 1]))
    width = 2 * np.pi / calorimeter.phi_cells[ring]
    offset = (phi - column * width) % (2 * np.pi)
    assert np.all((offset < width * (1 + 1e-9)) | (offset > 2 * np.pi * (1 - 1e-12)))
    assert np.all((column >= 0) & (column < calorimeter.phi_cells[ring]))
    beyond = np.array([-99.0, -5.0001, 5.0, 6.0, 99.0])
    assert np.all(calorimeter.cell(np.zeros(5, np.int64), beyond, np.zeros(5)) == OUTSIDE)
    assert np.all(np.diff(calorimeter.eta_edges) > 0)
    np.testing.assert_allclose(calorimeter.eta_edges, -calorimeter.eta_edges[::-1])
    np.testing.assert_array_equal(calorimeter.phi_cells, calorimeter.phi_cells[::-1])


@CALORIMETERS
def test_cells_are_different(calorimeter: Calorimeter) -> None:
    """Centres of all cells of two events have as many different numbers."""
    rings = np.arange(len(calorimeter.phi_cells))
    ring = np.repeat(rings, calorimeter.phi_cells)
    column = np.concatenate([np.arange(count) for count in calorimeter.phi_cells])
    eta = (calorimeter.eta_edges[ring] + calorimeter.eta_edges[ring + 1]) / 2
    phi = 2 * np.pi * (column + 0.5) / calorimeter.phi_cells[ring]
    numbers = np.concatenate([calorimeter.cell(np.full(len(ring), event), eta, phi) for event in (0, 1)])
    assert len(np.unique(numbers)) == 2 * len(ring)

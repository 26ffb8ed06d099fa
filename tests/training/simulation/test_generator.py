"""Collisions are reproducible, conserve momentum, hold what was asked for, and lose nothing to the early veto."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
import pythia8mc
from numpy.typing import NDArray

from training.events.kinematics import quantities
from training.simulation import generator
from training.simulation.collisions import MAX_LEADING_ETA, MIN_LEADING_PT_GEV
from training.simulation.detector import reconstruct
from training.simulation.generator import (
    BACKGROUND,
    COLLISIONS,
    DRIFTED_BACKGROUND,
    MIN_DAUGHTER_MASS_GEV,
    OTHER_SHOWER,
    SIGNAL,
    Generator,
    Particles,
    PartonJetVeto,
    Process,
    w_prime,
)
from training.simulation.jets import jet_features, leading_jet

BEAM_ENERGY_GEV = 13_000.0
NEUTRINO, PHOTON, PION, PROTON = 12, 22, 211, 2212
GLUON, Z, W, W_PRIME = 21, 23, 24, 34
# How Pythia marks what the hard process and the decays of its resonances give.
RESONANCE, DECAY_PRODUCT = 22, 23


def high_pt(process: Process) -> Process:
    """Raise pTHat so far that a good fraction of collisions is selected, and the veto still has work to do."""
    return replace(process, settings=(*process.settings, "PhaseSpace:pTHatMin = 1000."))


def records(process: Process, seed: int, collisions: int) -> Iterator[list["pythia8mc.Particle"]]:
    """Yield the whole record of each collision, which tells what stable particles no longer do."""
    made = pythia8mc.Pythia("", False)
    for setting in (*COLLISIONS, f"Random:seed = {seed}", *process.settings, "HadronLevel:all = off"):
        assert made.readString(setting)
    assert made.init()
    for _ in range(collisions):
        assert made.next()
        yield list(made.event)


def selected_jets(process: Process, seed: int, collisions: int) -> NDArray[np.float64]:
    """Return the features of the selected events among that many collisions."""
    objects = reconstruct(Generator(process, seed).collide(collisions), np.random.default_rng(seed))
    return jet_features(objects, MIN_LEADING_PT_GEV)


def same(one: Particles, other: Particles) -> bool:
    """Tell whether two sets of collisions are the same bits."""
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Particles))


def joined(collisions: Sequence[Particles]) -> Particles:
    """Put collisions one after the other."""
    columns = ([getattr(part, field.name) for part in collisions] for field in fields(Particles))
    return Particles(*map(np.concatenate, columns))


@pytest.mark.slow
@pytest.mark.parametrize("process", [BACKGROUND, SIGNAL], ids=lambda process: process.name)
def test_a_seed_means_the_same_collisions(process: Process) -> None:
    """The same seed gives the same particles, bit for bit and however they are asked for; another seed gives others."""
    collisions, in_turn = Generator(process, 1).collide(5), Generator(process, 1)
    assert len(collisions) == 5
    assert same(joined([in_turn.collide(2), in_turn.collide(3)]), collisions)
    assert not same(Generator(process, 2).collide(5), collisions)


@pytest.mark.parametrize(
    "process", [pytest.param(BACKGROUND, marks=pytest.mark.slow), SIGNAL], ids=lambda process: process.name
)
def test_the_momentum_of_a_collision_is_that_of_the_beams(process: Process) -> None:
    """Stable particles of each collision add up to (0, 0, 0, 13 TeV) and to the charge of two protons."""
    particles = Generator(process, 7).collide(10)
    event = np.repeat(np.arange(10), particles.counts)
    px, py = particles.pt * np.cos(particles.phi), particles.pt * np.sin(particles.phi)
    momentum = [np.bincount(event, of) for of in (px, py, particles.pt * np.sinh(particles.eta), particles.energy)]
    np.testing.assert_allclose(np.transpose(momentum), [[0, 0, 0, BEAM_ENERGY_GEV]] * 10, atol=1e-4)
    np.testing.assert_allclose(np.bincount(event, particles.charge), 2.0, atol=1e-9)


@pytest.mark.slow
def test_charges_are_those_of_the_species() -> None:
    """Each particle has its own charge in units of e: pions of either sign, protons, photons and neutrinos."""
    particles = Generator(SIGNAL, 1).collide(100)
    for species, charge in ((PION, 1), (-PION, -1), (PROTON, 1), (PHOTON, 0), (NEUTRINO, 0), (-NEUTRINO, 0)):
        charges = particles.charge[particles.pdg_id == species]
        assert len(charges) > 0
        assert set(charges.tolist()) == {charge}


def test_what_pythia_does_not_take_is_named(subtests: pytest.Subtests) -> None:
    """A setting that Pythia does not know is quoted, with its process, and so is a seed beyond its largest.

    It would quietly take its largest seed instead, and two blocks would hold the same events.
    """
    wrong = replace(SIGNAL, settings=(*SIGNAL.settings, "PhaseSpace:pTHatMinimum = 500."))
    for process, seed, quoted in (
        (wrong, 1, r"'PhaseSpace:pTHatMinimum = 500\.' of the signal process"),
        (SIGNAL, generator.MAX_SEED + 1, "900000001"),
    ):
        with subtests.test(quoted), pytest.raises(ValueError, match=quoted):
            Generator(process, seed)


def test_the_default_signal_is_that_of_the_published_events() -> None:
    """The published W' has 3500 GeV, its X 500 GeV, its Y 100 GeV, and each of these decays to two quarks."""
    assert w_prime(3500, 500, 100, prongs=2) == SIGNAL
    assert {"34:m0 = 3500", "24:m0 = 500", "23:m0 = 100"} < set(SIGNAL.settings)


@pytest.mark.slow
@pytest.mark.parametrize("prongs", [2, 3])
def test_resonances_have_their_masses_and_prongs(prongs: int) -> None:
    """Half the W', X and Y lie around the masses asked for; X and Y decay to two quarks, or to two and a gluon."""
    masses: dict[int, list[float]] = {W_PRIME: [], W: [], Z: []}
    for record in records(w_prime(4500, 300, 150, prongs), 5, 40):
        resonances = {particle.idAbs(): particle for particle in record if particle.statusAbs() == RESONANCE}
        for kind, particle in resonances.items():
            masses[kind].append(particle.m())
        for kind in (W, Z):
            products = [
                particle.idAbs()
                for particle in record
                if particle.statusAbs() == DECAY_PRODUCT and record[particle.mother1()].idAbs() == kind
            ]
            assert products.count(GLUON) == prongs - 2
            assert len([product for product in products if 1 <= product <= 5]) == 2
            assert len(products) == prongs
    for kind, mass in ((W_PRIME, 4500), (W, 300), (Z, 150)):
        assert len(masses[kind]) == 40
        assert np.median(masses[kind]) == pytest.approx(mass, rel=0.02)


@pytest.mark.slow
def test_three_prongs_are_seen_in_the_jets() -> None:
    """At equal masses, jets of three prongs need a third axis more than those of two: tau3/tau2 falls, tau2/tau1 rises.

    The mass of the jets is that of X and Y in either case.
    """
    medians: dict[str, list[float]] = {"tau21": [], "tau32": [], "m": []}
    for prongs in (2, 3):
        of_jets = quantities(selected_jets(w_prime(3500, 500, 500, prongs), 1, 100))
        assert len(of_jets["mjj"]) > 60
        for name, found in medians.items():
            found.append(float(np.nanmedian([of_jets[f"{name}j1"], of_jets[f"{name}j2"]])))
    tau21, tau32, mass = medians.values()
    assert tau21[1] > 1.5 * tau21[0]
    assert tau32[1] < 0.95 * tau32[0]
    assert mass == pytest.approx([500.0, 500.0], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("mass_gev", [0.7 * MIN_DAUGHTER_MASS_GEV, 1.5 * MIN_DAUGHTER_MASS_GEV])
def test_pythia_makes_no_lighter_daughter(mass_gev: float) -> None:
    """No X and no Y is lighter than MIN_DAUGHTER_MASS_GEV: a mass below it is not obeyed, one above it is."""
    found = [
        particle.m()
        for record in records(w_prime(3500, mass_gev, mass_gev), 1, 30)
        for particle in record
        if particle.statusAbs() == RESONANCE and particle.idAbs() in (W, Z)
    ]
    assert len(found) == 60
    assert min(found) >= MIN_DAUGHTER_MASS_GEV
    obeyed = abs(np.median(found) / mass_gev - 1) < 0.05
    assert bool(obeyed) is (mass_gev > MIN_DAUGHTER_MASS_GEV)


@pytest.mark.slow
def test_pythia_takes_the_other_shower() -> None:
    """Every setting of the other shower is in force in the end, and some are not those of the default."""
    other, default = (Generator(process, 1)._pythia.settings for process in (DRIFTED_BACKGROUND, BACKGROUND))
    assert other.parm("TimeShower:alphaSvalue") == other.parm("SpaceShower:alphaSvalue") == 0.16
    assert default.parm("TimeShower:alphaSvalue") == default.parm("SpaceShower:alphaSvalue") == 0.1365
    for name, value in (setting.split(" = ") for setting in OTHER_SHOWER):
        assert float(other.output(name, False)) == float(value)


@pytest.mark.slow
def test_the_other_shower_radiates_more() -> None:
    """Under the same seed the collisions are others, and with the larger alpha_s have more particles."""
    default, other = (Generator(process, 1).collide(40) for process in (BACKGROUND, DRIFTED_BACKGROUND))
    assert not same(default, other)
    assert other.counts.mean() > 1.1 * default.counts.mean()


class Recording(PartonJetVeto):
    """Veto nothing, and record what the veto would have judged by."""

    judged: list[float]

    def doVetoPT(self, stage: int, event: "pythia8mc.Event") -> bool:  # noqa: ARG002, N802  Pythia's name and arguments
        """Record the quantity and let the collision go on."""
        self.judged.append(self.leading_jet_pt_gev(event))
        return False


@pytest.mark.slow
@pytest.mark.parametrize("process", [BACKGROUND, DRIFTED_BACKGROUND], ids=["default shower", "other shower"])
def test_the_early_veto_loses_nothing(monkeypatch: pytest.MonkeyPatch, process: Process) -> None:
    """Of collisions left alone, each that is selected in the end would have passed the veto at every stage."""
    monkeypatch.setattr(generator, "PartonJetVeto", Recording)
    monkeypatch.setattr(Recording, "judged", [], raising=False)
    high_pt_generator = Generator(high_pt(process), 11)
    lowest, collisions = [], []
    for _ in range(400):
        Recording.judged.clear()
        collisions.append(high_pt_generator.collide(1))
        lowest.append(min(Recording.judged))
    pt, eta = leading_jet(jet_features(reconstruct(joined(collisions), np.random.default_rng(11))))
    selected = (pt > MIN_LEADING_PT_GEV) & (np.abs(eta) < MAX_LEADING_ETA)
    assert selected.sum() > 100
    assert min(lowest) < BACKGROUND.min_parton_jet_pt_gev, "the veto has collisions to give up"
    assert np.array(lowest)[selected].min() > BACKGROUND.min_parton_jet_pt_gev


@pytest.mark.slow
def test_the_veto_rejects_what_is_too_soft() -> None:
    """With the veto, far more of the collisions that are simulated to the end are selected."""
    shares = []
    for process in (BACKGROUND, replace(BACKGROUND, min_parton_jet_pt_gev=0.0)):
        pt, _ = leading_jet(jet_features(reconstruct(Generator(process, 5).collide(60), np.random.default_rng(5))))
        shares.append(np.mean(pt > MIN_LEADING_PT_GEV))
    assert shares[0] > 3 * shares[1]

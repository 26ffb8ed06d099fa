"""Collisions are reproducible, conserve momentum, and lose nothing to the early veto."""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
import pythia8mc

from training import generator
from training.detector import reconstruct
from training.generator import BACKGROUND, SIGNAL, Generator, Particles, PartonJetVeto, Process
from training.jets import jet_features, leading_jet
from training.simulate import MAX_LEADING_ETA, MIN_LEADING_PT_GEV

BEAM_ENERGY_GEV = 13_000.0
# Hard enough that a decent share is selected, and near enough to the threshold that the veto has work to do.
HARD = replace(BACKGROUND, name="hard", settings=(*BACKGROUND.settings, "PhaseSpace:pTHatMin = 1000."))
NEUTRINO, PHOTON, PION, PROTON = 12, 22, 211, 2212


def same(one: Particles, other: Particles) -> bool:
    """Tell whether two sets of collisions are the same bits."""
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(Particles))


def joined(collisions: Sequence[Particles]) -> Particles:
    """Put collisions one after the other."""
    columns = ([getattr(part, field.name) for part in collisions] for field in fields(Particles))
    return Particles(*map(np.concatenate, columns))


@pytest.mark.parametrize("process", [BACKGROUND, SIGNAL], ids=lambda process: process.name)
def test_a_seed_means_the_same_collisions(process: Process) -> None:
    """The same seed gives the same particles, bit for bit; another seed gives others."""
    collisions = Generator(process, 1).collide(5)
    assert len(collisions) == 5
    assert same(Generator(process, 1).collide(5), collisions)
    assert not same(Generator(process, 2).collide(5), collisions)


def test_collisions_do_not_depend_on_how_they_are_asked_for() -> None:
    """Two and three collisions are the five that come at once."""
    at_once, in_turn = Generator(SIGNAL, 3), Generator(SIGNAL, 3)
    assert same(at_once.collide(5), joined([in_turn.collide(2), in_turn.collide(3)]))


@pytest.mark.parametrize("process", [BACKGROUND, SIGNAL], ids=lambda process: process.name)
def test_the_momentum_of_a_collision_is_that_of_the_beams(process: Process) -> None:
    """Stable particles of each collision add up to (0, 0, 0, 13 TeV) and to the charge of two protons."""
    particles = Generator(process, 7).collide(10)
    event = np.repeat(np.arange(10), particles.counts)
    px, py = particles.pt * np.cos(particles.phi), particles.pt * np.sin(particles.phi)
    momentum = [np.bincount(event, of) for of in (px, py, particles.pt * np.sinh(particles.eta), particles.energy)]
    np.testing.assert_allclose(np.transpose(momentum), [[0, 0, 0, BEAM_ENERGY_GEV]] * 10, atol=1e-4)
    np.testing.assert_allclose(np.bincount(event, particles.charge), 2.0, atol=1e-9)


def test_charges_are_those_of_the_species() -> None:
    """Each particle has its own charge in units of e: pions of either sign, protons, photons and neutrinos."""
    particles = Generator(SIGNAL, 1).collide(100)
    for species, charge in ((PION, 1), (-PION, -1), (PROTON, 1), (PHOTON, 0), (NEUTRINO, 0), (-NEUTRINO, 0)):
        charges = particles.charge[particles.pdg_id == species]
        assert len(charges) > 0
        assert set(charges.tolist()) == {charge}


def test_an_unknown_setting_is_named() -> None:
    """A setting that Pythia does not know is an error that quotes it, and the process that has it."""
    wrong = replace(SIGNAL, settings=(*SIGNAL.settings, "PhaseSpace:pTHatMinimum = 500."))
    with pytest.raises(ValueError, match=r"'PhaseSpace:pTHatMinimum = 500\.' of the signal process"):
        Generator(wrong, 1)


def test_a_seed_beyond_pythias_largest_is_an_error() -> None:
    """Pythia would quietly take its largest seed instead, and two blocks would hold the same events."""
    with pytest.raises(ValueError, match="900000001"):
        Generator(SIGNAL, generator.MAX_SEED + 1)


class Recording(PartonJetVeto):
    """Give up nothing, and note what the veto would have judged by."""

    judged: list[float]

    def doVetoPT(self, stage: int, event: "pythia8mc.Event") -> bool:  # noqa: ARG002, N802  Pythia's name and arguments
        """Note the quantity and let the collision go on."""
        self.judged.append(self.hardest_jet_pt_gev(event))
        return False


def test_the_early_veto_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of collisions left alone, each that is selected in the end would have passed the veto at every stage."""
    monkeypatch.setattr(generator, "PartonJetVeto", Recording)
    monkeypatch.setattr(Recording, "judged", [], raising=False)
    hard = Generator(HARD, 11)
    lowest, collisions = [], []
    for _ in range(400):
        Recording.judged.clear()
        collisions.append(hard.collide(1))
        lowest.append(min(Recording.judged))
    pt, eta = leading_jet(jet_features(reconstruct(joined(collisions), np.random.default_rng(11))))
    selected = (pt > MIN_LEADING_PT_GEV) & (np.abs(eta) < MAX_LEADING_ETA)
    assert selected.sum() > 100
    assert min(lowest) < BACKGROUND.min_parton_jet_pt_gev, "the veto has collisions to give up"
    assert np.array(lowest)[selected].min() > BACKGROUND.min_parton_jet_pt_gev


def test_the_veto_gives_up_what_is_too_soft() -> None:
    """With the veto, far more of the collisions that are simulated to the end are selected."""
    shares = []
    for process in (BACKGROUND, replace(BACKGROUND, min_parton_jet_pt_gev=0.0)):
        pt, _ = leading_jet(jet_features(reconstruct(Generator(process, 5).collide(60), np.random.default_rng(5))))
        shares.append(np.mean(pt > MIN_LEADING_PT_GEV))
    assert shares[0] > 3 * shares[1]

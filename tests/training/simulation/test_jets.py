"""Objects become the jets and the features that a hand, a slow loop and the published sample say they are."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.events.kinematics import quantities
from training.simulation.jets import Objects, jet_features, leading_jet
from training.simulation.particles import Slice

RAW = Path("../shared/lhco/events_anomalydetection_tiny.h5")

Object = tuple[float, float, float]
"""pT in GeV, eta, phi."""

# 5, 50 and 95 % quantiles of the first 1000 published events, of background and of signal.
PUBLISHED = {
    "ptj1": ("1213/1354/1827", "1286/1633/1823"),
    "ptj2": ("1010/1246/1716", "1193/1547/1728"),
    "mj1": ("48/160/530", "98/381/582"),
    "mj2": ("44/154/489", "93/155/522"),
    "tau21j1": (".23/.55/.82", ".08/.31/.61"),
    "tau21j2": (".23/.57/.83", ".07/.29/.68"),
    "tau32j1": (".48/.74/.89", ".31/.64/.82"),
    "tau32j2": (".51/.74/.89", ".39/.66/.87"),
    "mjj": ("2378/3039/4443", "3151/3466/3748"),
}


def objects(*events: Sequence[Object]) -> Objects:
    """Return events of (pT, eta, phi) as the flat arrays that jets are made of."""
    flat = np.array([values for event in events for values in event], dtype=float).reshape(-1, 3)
    return Objects(np.array([len(event) for event in events], dtype=np.int64), *flat.T)


def four_vector(event: Sequence[Object]) -> NDArray[np.float64]:
    """Add up massless objects one at a time: (px, py, pz, m) in GeV."""
    px = py = pz = energy = 0.0
    for pt, eta, phi in event:
        px += pt * math.cos(phi)
        py += pt * math.sin(phi)
        pz += pt * math.sinh(eta)
        energy += pt * math.cosh(eta)
    return np.array([px, py, pz, math.sqrt(energy**2 - px**2 - py**2 - pz**2)])


def subjettiness(event: Sequence[Object], axes: Sequence[tuple[float, float]]) -> float:
    """Sum pT times the distance to the nearest of the axes (eta, phi), in GeV."""
    total = 0.0
    for pt, eta, phi in event:
        distances = [math.hypot(eta - axis_eta, phi - axis_phi) for axis_eta, axis_phi in axes]
        total += pt * min(distances)
    return total


def spray(seed: int, eta: float, phi: float, pt: float) -> list[Object]:
    """Draw forty objects around a direction, of falling pT."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(40, 0.3))
    where = rng.normal(0.0, 0.15, (40, 2))
    return [(pt * share, eta + d_eta, phi + d_phi) for share, (d_eta, d_phi) in zip(shares, where, strict=True)]


def dijet(seed: int) -> list[Object]:
    """Draw an event of two jets, back to back."""
    return spray(2 * seed, 0.4, 0.1 * seed, 1500.0) + spray(2 * seed + 1, -0.6, 0.1 * seed + math.pi, 1300.0)


LEFT: list[Object] = [(700.0, 0.3, 0.2), (400.0, 0.5, 0.1), (50.0, 0.1, 0.5)]
RIGHT: list[Object] = [(900.0, -0.4, 0.2 - math.pi), (450.0, -0.2, 0.3 + math.pi)]


def test_jets_are_the_sums_of_their_objects() -> None:
    """Two back-to-back sets of objects give two jets with the four-vectors of the sums; a third jet is left out."""
    third: list[Object] = [(200.0, -2.0, math.pi / 2)]
    features = jet_features(objects(LEFT + RIGHT, third + LEFT + RIGHT, LEFT + RIGHT + third))
    for jets in features.reshape(3, 2, 7):
        np.testing.assert_allclose(jets[:, :4], [four_vector(RIGHT), four_vector(LEFT)], rtol=1e-9)
    np.testing.assert_allclose(features[1:], features[[0, 0]])


def test_the_jet_of_higher_pt_comes_first() -> None:
    """The order is that of pT, whichever jet the event lists first, and not that of energy or mass."""
    soft_but_energetic: list[Object] = [(600.0, 2.4, 0.0), (600.0, 2.4, 0.5)]
    hard: list[Object] = [(1300.0, 0.0, math.pi)]
    for event in (soft_but_energetic + hard, hard + soft_but_energetic):
        pt = np.hypot(*jet_features(objects(event)).reshape(2, 7)[:, :2].T)
        np.testing.assert_allclose(pt, [1300.0, 1200.0 * math.cos(0.25)])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_axes_as_objects_leave_nothing(count: int) -> None:
    """tau_N of a jet with at most N objects is 0."""
    taus = jet_features(objects(LEFT[:count]))[0, 4:7]
    assert np.all(taus[count - 1 :] < 1e-3), "an axis lies on every object, but for rounding"
    assert np.all(taus[: count - 1] > 1.0)


def test_tau_is_the_slow_sum_over_objects() -> None:
    """Tight pairs, far apart, have axes between the members of each: tau1, tau2 and tau3 follow by hand."""
    pairs: list[list[Object]] = [
        [(500.0, -0.35, 0.01), (500.0, -0.35, -0.01)],
        [(400.0, 0.35, 0.02), (400.0, 0.35, -0.02)],
        [(450.0, 0.0, 0.51), (450.0, 0.0, 0.49)],
    ]
    axes = [(-0.35, 0.0), (0.35, 0.0), (0.0, 0.5)]
    events: list[list[Object]] = [pairs[0], pairs[0] + pairs[1], pairs[0] + pairs[1] + pairs[2]]
    features = jet_features(objects(*events))
    for row, event in enumerate(events):
        np.testing.assert_allclose(features[row, :4], four_vector(event), atol=1e-6)
        assert features[row, 4 + row] == pytest.approx(subjettiness(event, axes[: row + 1]), rel=1e-4)


def test_a_missing_jet_has_features_zero() -> None:
    """One jet leaves zeros for the second, no object leaves zeros for both, and neighbours are not disturbed."""
    features = jet_features(objects([], RIGHT, [], LEFT + RIGHT, []))
    assert features.shape == (5, 14)
    assert not features[[0, 2, 4]].any()
    assert not features[1, 7:].any()
    np.testing.assert_allclose(features[1, :4], four_vector(RIGHT), rtol=1e-9)
    np.testing.assert_array_equal(features[3], jet_features(objects(LEFT + RIGHT))[0])
    for events in (0, 1, 3):
        np.testing.assert_array_equal(jet_features(objects(*[[]] * events)), np.zeros((events, 14)))


def test_an_event_depends_on_its_objects_alone() -> None:
    """An event has the same bits alone and among others.

    Shuffled objects give the same within rounding, and angles may be given any number of turns. More axes leave less.
    """
    events = [dijet(seed) for seed in range(12)]
    features = jet_features(objects(*events))
    for event, expected in zip(events, features, strict=True):
        np.testing.assert_array_equal(jet_features(objects(event))[0], expected)
    rng = np.random.default_rng(3)
    shuffled = [[event[i] for i in rng.permutation(len(event))] for event in events]
    turned = [[(pt, eta, phi - 2 * math.pi) for pt, eta, phi in event] for event in events]
    for same in (shuffled, turned):
        np.testing.assert_allclose(jet_features(objects(*same)), features, rtol=1e-6, atol=1e-4)
    tau1, tau2, tau3 = features.reshape(-1, 7)[:, 4:].T
    assert np.all((tau1 >= tau2) & (tau2 >= tau3) & (tau3 > 0))


def test_a_least_pt_leaves_events_out_and_changes_nothing(subtests: pytest.Subtests) -> None:
    """What is left are the same bits in the same order as without: the events whose first jet has more pT, not as much.

    A least pT of 0 leaves none out, without an object either.
    """
    events = [[(pt * shrink, eta, phi) for pt, eta, phi in dijet(seed)] for seed, shrink in enumerate((1.0, 0.7) * 8)]
    batch = objects([], *events[:5], RIGHT, [], *events[5:])
    everything = jet_features(batch)
    pt, _ = leading_jet(everything)
    of_right = float(pt[6])
    below = float(np.nextafter(of_right, 0.0))
    for least_gev, left in ((0.0, 19), (1.0, 17), (1150.0, 9), (below, 9), (of_right, 8), (1450.0, 8), (5000.0, 0)):
        with subtests.test(least_gev=least_gev):
            expected, found = everything[(pt > least_gev) | (least_gev == 0)], jet_features(batch, least_gev)
            assert (len(found), found.dtype, found.shape) == (left, expected.dtype, expected.shape)
            assert found.tobytes() == expected.tobytes()


def test_pt_and_eta_of_the_leading_jet() -> None:
    """They are those of the momentum, and 0 where there is no jet."""
    features = np.zeros((3, 14))
    features[0, :3] = [300.0, -400.0, 500.0 * math.sinh(-1.7)]
    features[1, :3] = [0.0, 2.0, 0.0]
    pt, eta = leading_jet(features)
    np.testing.assert_allclose(pt, [500.0, 2.0, 0.0])
    np.testing.assert_allclose(eta, [-1.7, 0.0, 0.0], atol=1e-12)


@pytest.fixture(scope="module")
def published() -> NDArray[np.float64]:
    """Return features and label (1000, 15) made from the published particles."""
    if not RAW.exists():
        pytest.skip(f"{RAW} is not here: the 1000 published events are not part of this repository")
    (rows,) = Slice(RAW, "/df", 0, 1000).make()
    return rows.astype(float)


def test_published_particles_give_the_published_quantiles(
    published: NDArray[np.float64], subtests: pytest.Subtests
) -> None:
    """Jets and substructure of 1000 real events have the published quantiles to every printed digit."""
    for label in (0, 1):
        found = quantities(published[published[:, -1] == label, :14])
        for name, expected in PUBLISHED.items():
            with subtests.test(label=label, name=name):
                digits = 2 if name.startswith("tau") else 0
                shown = [
                    f"{one:.{digits}f}".removeprefix("0") for one in np.nanquantile(found[name], [0.05, 0.5, 0.95])
                ]
                assert "/".join(shown) == expected[label]


def test_published_events_are_background_and_signal(published: NDArray[np.float64]) -> None:
    """The labels of the published file arrive: 907 background and 93 signal events, all of the selection."""
    assert np.bincount(published[:, -1].astype(int)).tolist() == [907, 93]
    pt, eta = leading_jet(published)
    assert pt.min() > 1200.0
    assert np.abs(eta).max() < 2.5

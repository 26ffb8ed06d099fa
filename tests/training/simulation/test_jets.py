"""Objects become the jets and the features that a hand, a slow loop and the published sample say they are."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.simulation.jets import Objects, jet_features, leading_jet
from training.simulation.particles import Slice

RAW = Path("../shared/lhco/events_anomalydetection_tiny.h5")

Object = tuple[float, float, float]
"""pT in GeV, eta, phi."""

PT, MASS, TAU21, TAU32, MJJ = "pT", "m", "tau2/tau1", "tau3/tau2", "mJJ"
# 5, 50 and 95 % quantiles of the first 1000 published events: background (0) and signal (1), jets 1 and 2.
PUBLISHED = {
    (0, 0, PT): "1213/1354/1827",
    (0, 1, PT): "1010/1246/1716",
    (1, 0, PT): "1286/1633/1823",
    (1, 1, PT): "1193/1547/1728",
    (0, 0, MASS): "48/160/530",
    (0, 1, MASS): "44/154/489",
    (1, 0, MASS): "98/381/582",
    (1, 1, MASS): "93/155/522",
    (0, 0, TAU21): ".23/.55/.82",
    (0, 1, TAU21): ".23/.57/.83",
    (1, 0, TAU21): ".08/.31/.61",
    (1, 1, TAU21): ".07/.29/.68",
    (0, 0, TAU32): ".48/.74/.89",
    (0, 1, TAU32): ".51/.74/.89",
    (1, 0, TAU32): ".31/.64/.82",
    (1, 1, TAU32): ".39/.66/.87",
    (0, None, MJJ): "2378/3039/4443",
    (1, None, MJJ): "3151/3466/3748",
}
RATIO_OFFSET_GEV = 1e-5
"""Added to the denominator of a ratio of taus, which can be 0."""


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
    """Two back-to-back sets of objects give two jets with the four-vectors of the sums."""
    jets = jet_features(objects(LEFT + RIGHT)).reshape(2, 7)
    np.testing.assert_allclose(jets[0, :4], four_vector(RIGHT), rtol=1e-9)
    np.testing.assert_allclose(jets[1, :4], four_vector(LEFT), rtol=1e-9)


def test_the_jet_of_higher_pt_comes_first() -> None:
    """The order is that of pT, whichever jet the event lists first, and not that of energy or mass."""
    soft_but_energetic: list[Object] = [(600.0, 2.4, 0.0), (600.0, 2.4, 0.5)]
    hard: list[Object] = [(1300.0, 0.0, math.pi)]
    for event in (soft_but_energetic + hard, hard + soft_but_energetic):
        pt = np.hypot(*jet_features(objects(event)).reshape(2, 7)[:, :2].T)
        np.testing.assert_allclose(pt, [1300.0, 1200.0 * math.cos(0.25)])


def test_a_third_jet_is_left_out() -> None:
    """Only the two jets of highest pT become features."""
    third: list[Object] = [(200.0, -2.0, math.pi / 2)]
    np.testing.assert_array_equal(
        jet_features(objects(third + LEFT + RIGHT)), jet_features(objects(LEFT + RIGHT + third))
    )
    np.testing.assert_allclose(jet_features(objects(third + LEFT + RIGHT)), jet_features(objects(LEFT + RIGHT)))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_axes_as_objects_leave_nothing(count: int) -> None:
    """tau_N of a jet with at most N objects is 0."""
    taus = jet_features(objects(LEFT[:count]))[0, 4:7]
    assert np.all(taus[count - 1 :] < 1e-3), "an axis lies on every object, but for rounding"
    assert np.all(taus[: count - 1] > 1.0)


def test_a_symmetric_pair_has_the_distance_times_pt() -> None:
    """tau1 of two equal objects is pT times their distance, wherever between them the axis lies."""
    pair: list[Object] = [(600.0, 0.1, -0.2), (600.0, 0.1, 0.2)]
    tau1, tau2, _ = jet_features(objects(pair))[0, 4:7]
    assert tau1 == pytest.approx(600.0 * 0.4, rel=1e-6)
    assert tau1 == pytest.approx(subjettiness(pair, [(0.1, 0.0)]), rel=1e-6)
    assert tau2 == pytest.approx(0.0, abs=1e-3)


def test_tau_is_the_slow_sum_over_objects() -> None:
    """Two and three tight pairs, far apart, have axes between the members of each: tau2 and tau3 follow by hand."""
    pairs: list[list[Object]] = [
        [(500.0, -0.35, 0.01), (500.0, -0.35, -0.01)],
        [(400.0, 0.35, 0.02), (400.0, 0.35, -0.02)],
        [(450.0, 0.0, 0.51), (450.0, 0.0, 0.49)],
    ]
    axes = [(-0.35, 0.0), (0.35, 0.0), (0.0, 0.5)]
    two, three = pairs[0] + pairs[1], pairs[0] + pairs[1] + pairs[2]
    features = jet_features(objects(two, three))
    np.testing.assert_allclose(features[:, :4], [four_vector(two), four_vector(three)], atol=1e-6)
    assert features[0, 5] == pytest.approx(subjettiness(two, axes[:2]), rel=1e-4)
    assert features[1, 6] == pytest.approx(subjettiness(three, axes), rel=1e-4)


def test_a_missing_jet_has_features_zero() -> None:
    """One jet leaves zeros for the second, no object leaves zeros for both, and neighbours are not disturbed."""
    features = jet_features(objects([], RIGHT, [], LEFT + RIGHT, []))
    assert features.shape == (5, 14)
    assert not features[[0, 2, 4]].any()
    assert not features[1, 7:].any()
    np.testing.assert_allclose(features[1, :4], four_vector(RIGHT), rtol=1e-9)
    np.testing.assert_array_equal(features[3], jet_features(objects(LEFT + RIGHT))[0])


@pytest.mark.parametrize("events", [0, 1, 3])
def test_a_batch_without_any_object_has_features_zero(events: int) -> None:
    """No object in the whole batch, or no event, is no error."""
    features = jet_features(objects(*[[]] * events))
    assert features.shape == (events, 14)
    assert not features.any()


def test_an_event_does_not_depend_on_its_batch() -> None:
    """Features of one event are the same bits alone and among others."""
    events = [dijet(seed) for seed in range(12)]
    together = jet_features(objects(*events))
    for event, features in zip(events, together, strict=True):
        np.testing.assert_array_equal(jet_features(objects(event))[0], features)


@pytest.mark.parametrize(("least_gev", "events_left"), [(0.0, 19), (1.0, 17), (1150.0, 9), (1450.0, 8), (5000.0, 0)])
def test_a_least_pt_leaves_events_out_and_changes_nothing(least_gev: float, events_left: int) -> None:
    """What is left are the same bits in the same order as without: the events whose first jet has more pT."""
    events = [[(pt * shrink, eta, phi) for pt, eta, phi in dijet(seed)] for seed, shrink in enumerate((1.0, 0.7) * 8)]
    batch = objects([], *events[:5], RIGHT, [], *events[5:])
    everything = jet_features(batch)
    pt, _ = leading_jet(everything)
    expected = everything[pt > least_gev] if least_gev > 0 else everything
    left = jet_features(batch, least_gev)
    assert len(left) == events_left
    assert left.dtype == expected.dtype
    assert left.shape == expected.shape
    assert left.tobytes() == expected.tobytes()


def test_a_least_pt_must_be_exceeded() -> None:
    """An event whose first jet has the very pT that was asked for is left out; one rounding step below, it stays."""
    batch = objects(LEFT + RIGHT)
    pt, _ = leading_jet(jet_features(batch))
    assert jet_features(batch, float(pt[0])).shape == (0, 14)
    assert jet_features(batch, float(np.nextafter(pt[0], 0.0))).shape == (1, 14)


def test_the_order_of_objects_does_not_matter() -> None:
    """Shuffled objects give the same features within rounding, and angles may be given any number of turns."""
    events = [dijet(seed) for seed in range(12)]
    rng = np.random.default_rng(3)
    shuffled = [[event[i] for i in rng.permutation(len(event))] for event in events]
    turned = [[(pt, eta, phi - 2 * math.pi) for pt, eta, phi in event] for event in events]
    features = jet_features(objects(*events))
    for same in (shuffled, turned):
        np.testing.assert_allclose(jet_features(objects(*same)), features, rtol=1e-6, atol=1e-4)


def test_subjettiness_falls_with_every_axis() -> None:
    """0 <= tau3 <= tau2 <= tau1 in jets of many objects."""
    jets = jet_features(objects(*[dijet(seed) for seed in range(12)])).reshape(-1, 7)
    assert np.all(jets[:, 4] >= jets[:, 5])
    assert np.all(jets[:, 5] >= jets[:, 6])
    assert np.all(jets[:, 6] > 0)


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
    return Slice(RAW, "/df", 0, 1000).make().astype(np.float64)


def quantity(name: str, jet: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one column of the table from jets (n, 7)."""
    px, py, _, mass, tau1, tau2, tau3 = jet.T
    columns: dict[str, NDArray[np.float64]] = {
        PT: np.hypot(px, py),
        MASS: mass,
        TAU21: tau2 / (tau1 + RATIO_OFFSET_GEV),
        TAU32: tau3 / (tau2 + RATIO_OFFSET_GEV),
    }
    return columns[name]


def dijet_mass(jets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the invariant mass of both jets together, from jets (n, 2, 7)."""
    momentum, mass = jets[..., :3], jets[..., 3]
    energy = np.sqrt((momentum**2).sum(axis=-1) + mass**2).sum(axis=1)
    mass_of_both: NDArray[np.float64] = np.sqrt(energy**2 - (momentum.sum(axis=1) ** 2).sum(axis=-1))
    return mass_of_both


def test_published_particles_give_the_published_quantiles(
    published: NDArray[np.float64], subtests: pytest.Subtests
) -> None:
    """Jets and substructure of 1000 real events have the published quantiles to every printed digit."""
    for (label, jet, name), expected in PUBLISHED.items():
        with subtests.test(label=label, jet=jet, name=name):
            jets = published[published[:, -1] == label, :14].reshape(-1, 2, 7)
            values = dijet_mass(jets) if jet is None else quantity(name, jets[:, jet])
            digits = 2 if name in (TAU21, TAU32) else 0
            found = [f"{value:.{digits}f}".removeprefix("0") for value in np.quantile(values, [0.05, 0.5, 0.95])]
            assert "/".join(found) == expected


def test_published_events_are_background_and_signal(published: NDArray[np.float64]) -> None:
    """The labels of the published file arrive: 907 background and 93 signal events, all of the selection."""
    assert np.bincount(published[:, -1].astype(int)).tolist() == [907, 93]
    pt, eta = leading_jet(published)
    assert pt.min() > 1200.0
    assert np.abs(eta).max() < 2.5

"""Quantities and folds of weak supervision are the same bits everywhere, and folds know nothing of physics."""

import numpy as np
import torch

from tests.training import samples
from training.detectors.weak import MAPS, Dijet, fold_of
from training.events.kinematics import quantities
from training.fitting.export import extreme_events


def test_quantities_are_those_of_their_names() -> None:
    """Jets are in the order of their masses, whichever has the higher pT; no quantity is mJJ."""
    features = np.concatenate([samples.background(500), samples.signal(500)])
    slow = quantities(features)
    first = slow["mj1"] <= slow["mj2"]
    expected = {
        "m_lighter": slow["m_lighter"],
        "m_heavier": slow["m_heavier"],
        "m_difference": slow["m_heavier"] - slow["m_lighter"],
        "tau21_lighter": np.where(first, slow["tau21j1"], slow["tau21j2"]),
        "tau21_heavier": np.where(first, slow["tau21j2"], slow["tau21j1"]),
    }
    assert 0 < first.sum() < len(first)
    assert tuple(expected) == Dijet.names
    found = Dijet()(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, np.stack(list(expected.values()), axis=1), rtol=1e-6)
    np.testing.assert_array_equal(MAPS["raw"]()(torch.from_numpy(features)), features)


def test_quantities_are_rounded_once() -> None:
    """Each is the float32 nearest to the exact value, which any processor gives; extreme events have no NaN."""
    features = samples.background(2000)
    found = Dijet()(torch.from_numpy(features)).numpy()
    wide = features.astype(np.float64)
    one, two = (
        wide[:, 5] / np.maximum(wide[:, 4], np.float32(0.1)),
        wide[:, 12] / np.maximum(wide[:, 11], np.float32(0.1)),
    )
    first = wide[:, 3] <= wide[:, 10]
    np.testing.assert_array_equal(found[:, 2], np.abs(wide[:, 3] - wide[:, 10]).astype(np.float32))
    np.testing.assert_array_equal(found[:, 3], np.where(first, one, two).astype(np.float32))
    assert not np.isnan(Dijet()(torch.from_numpy(extreme_events())).numpy()).any()


def test_folds_are_of_about_one_size_for_any_events() -> None:
    """Background and signal are spread alike; the same event has the same fold, turned about or with other jets not."""
    for features in (samples.background(20_000), samples.signal(20_000)):
        folds = fold_of(torch.from_numpy(features), 5).numpy()
        assert np.abs(np.bincount(folds, minlength=5) / len(folds) - 0.2).max() < 0.015
        changed = features.copy()
        changed[:, 1:] *= 3
        np.testing.assert_array_equal(fold_of(torch.from_numpy(changed), 5), folds)
        np.testing.assert_array_equal(folds, np.floor(np.abs(features[:, 0])) % 5)
    extreme = fold_of(torch.from_numpy(extreme_events()), 5)
    assert ((extreme >= 0) & (extreme < 5)).all()

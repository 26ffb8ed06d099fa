"""Tables decide as scikit-learn's trees do, also where a value is exactly a threshold."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.detectors.trees import MAX_EDGES, BoostedTrees, bin_edges, to_bins
from training.detectors.weak_config import MAX_LEAVES, WeakConfig
from training.fitting.weak import boosting, ensemble, fit_member, fold_edges

EVENTS = 6000


def quantities(events: int = EVENTS, seed: int = 0) -> NDArray[np.float32]:
    """Draw three quantities: one of many ties, one of few values and one of no use."""
    rng = np.random.default_rng(seed)
    drawn = [rng.exponential(100, events).round(), rng.integers(0, 5, events), np.full(events, 7.0)]
    return np.stack([*drawn, rng.normal(size=events)], axis=1).astype(np.float32)


def in_window(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Draw which events are of the window, a few more of them where the quantities are small."""
    excess = 0.3 * (values[:, 0] < 40) * (values[:, 3] < 0)
    return np.random.default_rng(1).random(len(values)) < 0.5 + excess


@pytest.mark.parametrize("leaves", [2, MAX_LEAVES])
def test_tables_decide_as_scikit_learn_does(leaves: int) -> None:
    """Each fold's sum is that of scikit-learn's trees: between, at and next to the edges, and far beyond them."""
    config = WeakConfig(members=2, trees=12, leaves=leaves, leaf_events=5)
    values = quantities()
    folds = np.arange(EVENTS) % 3
    edges, nodes, trained = [], [], []
    for fold in range(3):
        seen = values[folds != fold]
        edges.append(fold_edges(seen))
        bins, window = to_bins(seen, edges[-1]), in_window(values)[folds != fold]
        nodes.append(np.concatenate([fit_member(bins, window, config, seed) for seed in (3, 4)]))
        trained.append([boosting(config, seed).fit(bins, window) for seed in (3, 4)])
    tables = BoostedTrees(ensemble(edges, nodes))
    for fold in range(3):
        cuts = np.sort(np.where(np.isfinite(edges[fold]), edges[fold], 0), axis=1).T
        beyond = np.array([[-3e38] * 4, [3e38] * 4, [np.inf] * 4, [0.0] * 4], np.float32)
        tried = [
            quantities(seed=9),
            cuts,
            np.nextafter(cuts, np.float32(-np.inf)),
            np.nextafter(cuts, np.float32(np.inf)),
        ]
        events = np.concatenate([*tried, beyond])
        found = tables(torch.from_numpy(events), torch.full((len(events),), fold, dtype=torch.int32))
        # The bin of a value is the number of edges below it, counted in float64.
        counted = (events.astype(np.float64)[:, :, None] > edges[fold].astype(np.float64)).sum(axis=2)
        logits = [one.decision_function(counted) - one._baseline_prediction.item() for one in trained[fold]]
        np.testing.assert_allclose(found, np.mean(logits, axis=0), rtol=1e-5, atol=1e-6)


def test_bins_hold_about_as_many_events() -> None:
    """Edges are values of the sample, none is its largest, and a value at an edge is in the bin below."""
    values = quantities(20_000)
    for column, most in zip(values.T, (MAX_EDGES, 4, 0, MAX_EDGES), strict=True):
        edges = bin_edges(column)
        assert len(edges) <= most
        assert np.isin(edges, column).all()
        assert (edges < column.max()).all()
        np.testing.assert_array_equal(to_bins(edges[:, None], edges[None])[:, 0], np.arange(len(edges)))
    assert np.bincount(to_bins(values, fold_edges(values))[:, 3].astype(int)).max() < 2 * 20_000 / MAX_EDGES

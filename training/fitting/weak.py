"""Weak supervision: boosted trees that tell the events of a signal window from those of a reference.

Both have the same background, so any difference that the trees find is due to signal: "classification without labels",
Metodiev, Nachman and Thaler, arXiv:1708.02949, and Collins, Howe and Nachman, arXiv:1902.02634. For such small
fractions of signal, ensembles of boosted trees perform better than networks: Finke et al., arXiv:2309.13111.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from training.detectors.trees import BIN, FEATURE, LEAF, LEFT, NODE_NUMBERS, RIGHT, VALUE, Ensemble, bin_edges
from training.detectors.weak_config import WeakConfig

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

Floats = NDArray[np.float32]
Nodes = NDArray[np.float64]


def fold_edges(quantities: Floats) -> Floats:
    """Return the edges of the bins of quantities (n, k): (k, edges), padded with infinity."""
    edges = [bin_edges(column) for column in quantities.T]
    widest = max(map(len, edges))
    filled = np.full((len(edges), widest), np.inf, np.float32)
    for row, cuts in zip(filled, edges, strict=True):
        row[: len(cuts)] = cuts
    return filled


def boosting(config: WeakConfig, seed: int) -> "HistGradientBoostingClassifier":
    """Return the untrained classifier of a member."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # takes seconds to import

    return HistGradientBoostingClassifier(
        max_iter=config.trees,
        max_leaf_nodes=config.leaves,
        min_samples_leaf=config.leaf_events,
        learning_rate=config.learning_rate,
        max_features=config.split_fraction,
        early_stopping=False,
        random_state=seed,
    )


def fit_member(bins: Floats, in_window: NDArray[np.bool_], config: WeakConfig, seed: int) -> Nodes:
    """Train trees to separate window from reference by bins (n, k); return them as (trees, nodes, NODE_NUMBERS).

    The sum of the trees is ln of the density ratio of window to reference, divided by the number of members.
    """
    with threadpool_limits(1):  # a second thread gains little, and is much slower beside another busy process
        classifier = boosting(config, seed).fit(bins, in_window)
    nodes = np.full((config.trees, 2 * config.leaves - 1, NODE_NUMBERS), np.nan)
    for place, (predictor,) in enumerate(classifier._predictors):  # the only access to a tree's nodes
        _copy(predictor.nodes, nodes[place])
    nodes[..., VALUE] /= config.members
    return nodes


def _copy(tree: NDArray[np.void], nodes: Nodes) -> None:
    """Copy the nodes of a scikit-learn tree into nodes (at least as many, NODE_NUMBERS)."""
    inner = tree["is_leaf"] == 0
    nodes[: len(tree), FEATURE] = np.where(inner, tree["feature_idx"], LEAF)
    nodes[: len(tree), BIN] = np.floor(tree["num_threshold"])  # bins are integers
    nodes[: len(tree), LEFT] = tree["left"]
    nodes[: len(tree), RIGHT] = tree["right"]
    nodes[: len(tree), VALUE] = tree["value"]


def ensemble(edges: list[Floats], nodes: list[Nodes]) -> Ensemble:
    """Return the ensemble, from edges (k, edges) and nodes (trees, nodes, NODE_NUMBERS) of each fold."""
    widest = max(one.shape[1] for one in edges)
    filled = [np.pad(one, ((0, 0), (0, widest - one.shape[1])), constant_values=np.inf) for one in edges]
    return Ensemble(np.stack(filled), np.stack(nodes))

"""Boosted trees as tables, evaluated exactly by products, comparisons and look-ups.

Quantities are binned at float32 edges before training, so that trees compare integers. Each bin of a quantity has a bit
mask of the leaves that it allows; the leaf of an event is the only one that the bins of all its quantities allow
(Lucchese et al., "QuickScorer", SIGIR 2015).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MAX_EDGES = 254  # scikit-learn's trees have at most 255 bins

# The numbers of a node: the compared quantity, the last bin of the left branch, its children and its value.
FEATURE, BIN, LEFT, RIGHT, VALUE = range(5)
NODE_NUMBERS = 5
LEAF = -1  # the quantity of a leaf

# 2 is a primitive root of 37, so the remainders of 1, 2, 4, ..., 2^35 all differ and one operator numbers the leaves.
DIVISOR = 37


@dataclass(frozen=True)
class Ensemble:
    """Bins and trees of each fold; they score the events of that fold."""

    edges: NDArray[np.float32]  # (folds, quantities, edges) ascending, padded with infinity
    nodes: NDArray[np.float64]  # (folds, trees, nodes, NODE_NUMBERS), padded with NaN; the root is node 0


def bin_edges(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return up to MAX_EDGES of the values (n,) as edges of equally filled bins; an edge belongs to the bin below."""
    ranks = np.linspace(0, 1, MAX_EDGES + 2)[1:-1]
    edges: NDArray[np.float32] = np.unique(np.quantile(values, ranks, method="lower"))
    below: NDArray[np.float32] = edges[edges < values.max()]
    return below


def to_bins(quantities: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the bin of each quantity, (n, k): the number of edges (k, edges) that it exceeds."""
    columns = zip(edges, quantities.T, strict=True)
    return np.stack([np.searchsorted(cuts, column).astype(np.float32) for cuts, column in columns], axis=1)


class BoostedTrees(nn.Module):
    """The sum of the trees of an event's fold."""

    edges: Tensor  # (folds, quantities, edges)
    values: Tensor  # (folds * trees * DIVISOR,), value of each leaf, indexed by the remainder of its bit
    places: Tensor  # (folds, trees), index of a tree's first value

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        folds, self.quantities, self.n_edges = ensemble.edges.shape
        self.trees = ensemble.nodes.shape[1]
        tables = [_tables(nodes, self.quantities, self.n_edges + 1) for nodes in ensemble.nodes]
        possible = np.concatenate([possible for possible, _ in tables], axis=1)  # (quantities, folds * bins, trees)
        values = np.concatenate([values.ravel() for _, values in tables])
        self.register_buffer("edges", torch.from_numpy(ensemble.edges))
        for quantity, leaves in enumerate(possible):
            self.register_buffer(f"possible{quantity}", torch.from_numpy(leaves.copy()))
        self.register_buffer("values", torch.from_numpy(values))
        places = DIVISOR * torch.arange(folds * self.trees, dtype=torch.int32)
        self.register_buffer("places", places.reshape(folds, self.trees))

    def forward(self, quantities: Tensor, fold: Tensor) -> Tensor:
        """Return the sum of the trees of fold (batch,) int32 for quantities (batch, k) float32: (batch,)."""
        above = quantities[:, :, None] > self.edges.index_select(0, fold)
        bins = above.float().sum(dim=2).int()
        rows = bins + fold[:, None] * (self.n_edges + 1)
        leaves: Tensor = self.possible0.index_select(0, rows[:, 0])  # type: ignore[operator]
        for quantity in range(1, self.quantities):
            leaves = leaves & getattr(self, f"possible{quantity}").index_select(0, rows[:, quantity])
        places = leaves % DIVISOR + self.places.index_select(0, fold)
        # GatherElements is ten times as fast as Gather for single numbers in ONNX Runtime.
        values = self.values.gather(0, places.flatten().long()).reshape(-1, self.trees)
        # A matrix product, because the order of terms in a sum would depend on the row's position in the batch.
        return (values @ values.new_ones(self.trees, 1)).squeeze(1)


def _tables(nodes: NDArray[np.float64], quantities: int, bins: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the leaves that each bin allows, (quantities, bins, trees), and the leaf values, (trees, DIVISOR).

    `nodes` are those of one fold: (trees, nodes, NODE_NUMBERS).
    """
    possible = np.empty((len(nodes), quantities, bins), np.int32)
    values = np.zeros((len(nodes), DIVISOR), np.float32)
    for tree, one in enumerate(nodes):
        below = _leaves_below(one)
        possible[tree] = below[0]
        for node in np.flatnonzero(one[:, FEATURE] >= 0):
            feature, last_left, left, right = one[node, :VALUE].astype(int)
            possible[tree, feature, : last_left + 1] &= ~below[right]
            possible[tree, feature, last_left + 1 :] &= ~below[left]
        leaves = one[:, FEATURE] == LEAF
        values[tree, below[leaves] % DIVISOR] = one[leaves, VALUE]
    return possible.transpose(1, 2, 0), values


def _leaves_below(nodes: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return a bit mask of the leaves below each node of a tree: (nodes,). Children come after their parent."""
    below = np.zeros(len(nodes), np.int32)
    leaves = np.flatnonzero(nodes[:, FEATURE] == LEAF)
    below[leaves] = 1 << np.arange(len(leaves))
    for node in np.flatnonzero(nodes[:, FEATURE] >= 0)[::-1]:
        below[node] = below[int(nodes[node, LEFT])] | below[int(nodes[node, RIGHT])]
    return below

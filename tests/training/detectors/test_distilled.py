"""A network learns the mean score of autoencoders: from background and what is made of it, and then stands alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.training import samples
from tests.training.fitting.runs import CONFIGS, FEATURES, trained
from training.detectors.distilled import MAX_STRETCH, DistilledDensity, made_of
from training.detectors.scorer import AnomalyScorer
from training.fitting.export import to_onnx
from training.fitting.run import Run

CONFIG = replace(CONFIGS["distilled"], hidden=(64, 32), distillation_steps=800)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a finished run."""
    return trained(tmp_path_factory.mktemp("distilled"), CONFIG)


def ensemble(scorer: AnomalyScorer) -> DistilledDensity:
    """Return the network of a detector."""
    assert isinstance(scorer.network, DistilledDensity)
    return scorer.network


def test_the_network_has_learned_the_mean_of_the_autoencoders(run: Run) -> None:
    """On events that it has not seen, of background and of signal, it orders them as the mean of the members does."""
    scorer = run.best_scorer()
    network = ensemble(scorer)
    assert len(network.members) == CONFIG.members
    events = np.concatenate([samples.background(500, seed=9), samples.signal(500, seed=9)])
    with torch.no_grad():
        values = scorer.standardise(torch.from_numpy(events))
        targets, scores = network.target(values).squeeze(1), network.score(values)
    assert spearmanr(targets, scores).statistic > 0.95
    tilted = AnomalyScorer(replace(CONFIG, simplicity=2.0))
    tilted.load_state_dict({**scorer.state_dict(), "network.simplicity": tilted.state_dict()["network.simplicity"]})
    with torch.no_grad():
        assert not torch.allclose(tilted.network.score(values), scores)


def test_the_members_differ(run: Run) -> None:
    """Members start from other weights, and so have other scores; a mean of equal ones would be none."""
    scorer = run.best_scorer()
    with torch.no_grad():
        values = scorer.standardise(torch.from_numpy(FEATURES[:200]))
        one, other = (member.score(values) for member in ensemble(scorer).ensemble[:2])
    assert not torch.allclose(one, other, rtol=0.05)


def test_made_events_are_of_two_background_events_and_farther_out() -> None:
    """Each made event is a mixture of two events' quantities, stretched by one factor up to MAX_STRETCH."""
    torch.manual_seed(3)
    values = torch.arange(1.0, 41.0).reshape(8, 5)
    made = made_of(values)
    for row, event in enumerate(made):
        ratios = event / values  # (other events, quantities)
        possible = [
            (torch.isclose(ratios[other], stretch) | torch.isclose(ratios[row], stretch)).all()
            for other in range(len(values))
            for stretch in (*ratios[row], *ratios[other])
            if 1.0 <= stretch <= MAX_STRETCH
        ]
        assert any(possible), row
    assert not torch.equal(made, values)


def test_the_exported_graph_has_the_network_alone(run: Run) -> None:
    """The members stay in the checkpoint: the graph's weights are those of scaler, range and the small network."""
    scorer = run.best_scorer()
    weights = sum(np.prod(tensor.dims) for tensor in to_onnx(scorer).graph.initializer)
    network = ensemble(scorer)
    members = sum(parameter.numel() for parameter in network.members.parameters())
    small = sum(parameter.numel() for parameter in network.layers.parameters())
    assert small < weights < small + members / 2

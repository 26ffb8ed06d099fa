"""Scores agree with a slow oracle in any batch, order and thread."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from service.model.artefact import ArtefactError, load_artefact, parse_artefact
from service.model.scorer import CHUNK_EVENTS, VECTOR_EVENTS, Scorer
from tests.artefacts import N_FEATURES, RTOL, metadata, model, oracle, sample_events, with_metadata
from tests.service.model.broken import led_through

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def scorer(model_path: Path) -> Scorer:
    """Score with a good artefact."""
    return Scorer(load_artefact(model_path))


@pytest.mark.parametrize("n_events", [0, 1, 2, 7, CHUNK_EVENTS, CHUNK_EVENTS + 1, 2 * CHUNK_EVENTS + 3])
def test_scores_agree_with_the_oracle(scorer: Scorer, n_events: int) -> None:
    """Any number of events gets the scores of a slow computation, in their order, as float32."""
    events = sample_events(n_events)
    scores = scorer.score(events)
    assert scores.shape == (n_events,)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, oracle(events), rtol=RTOL)


def test_the_score_of_an_event_does_not_depend_on_its_batch(scorer: Scorer) -> None:
    """An event scored alone and among others gets the same score."""
    events = sample_events(50)
    alone = np.concatenate([scorer.score(event[np.newaxis]) for event in events])
    np.testing.assert_allclose(scorer.score(events), alone, rtol=RTOL)
    np.testing.assert_allclose(scorer.score(events[::-1]), alone[::-1], rtol=RTOL)


@pytest.mark.parametrize("path", ["exported/autoencoder.onnx", "exported/exposed/autoencoder.onnx"])
def test_a_shipped_model_scores_an_event_alike_in_any_batch(path: str) -> None:
    """The shipped graphs give an event the same bits alone and among others, of any number and in any order."""
    scorer = Scorer(load_artefact(ROOT / path))
    generator = np.random.default_rng(0)
    golden = np.array(scorer.artefact.metadata.golden.features, np.float32)
    spread = generator.uniform(0.5, 1.5, (CHUNK_EVENTS + 70, golden.shape[1])).astype(np.float32)
    events = np.resize(golden, spread.shape) * spread
    scores = scorer.score(events)
    for n_events in range(1, 71):
        chosen = generator.permutation(len(events))[:n_events]
        np.testing.assert_array_equal(scorer.score(events[chosen]), scores[chosen])


def test_bound_rows_are_scored_as_others_are(scorer: Scorer) -> None:
    """What lies in the bound rows at the time of a call gets the same bits, and keeps them when they change."""
    rows = np.zeros((4 * VECTOR_EVENTS, N_FEATURES), np.float32)
    bound, kept = scorer.bind(rows), []
    for n_events in [1, 2, VECTOR_EVENTS, VECTOR_EVENTS + 1, len(rows) - 1, len(rows), 3]:
        events = sample_events(n_events, seed=n_events)
        rows[:n_events] = events
        kept.append((bound.score(n_events), scorer.score(events)))
    for scores, expected in kept:
        np.testing.assert_array_equal(scores, expected)


def test_memory_order_does_not_change_scores(scorer: Scorer) -> None:
    """Arrays in either order, strided ones and read-only ones are scored alike."""
    events = sample_events(9)
    for arranged in (events.copy(), np.asfortranarray(events)):
        arranged.flags.writeable = False
        np.testing.assert_array_equal(scorer.score(arranged), scorer.score(events))
        np.testing.assert_array_equal(scorer.score(arranged[::2]), scorer.score(events)[::2])


def test_threads_share_a_scorer(scorer: Scorer) -> None:
    """Several threads that score at once each get their own events' scores."""
    batches = [sample_events(CHUNK_EVENTS + seed, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(scorer.score, batches))
    for batch, scores in zip(batches, results, strict=True):
        np.testing.assert_allclose(scores, oracle(batch), rtol=RTOL)


def test_a_wrong_golden_score_is_refused() -> None:
    """A file whose graph gives another score than its golden one is refused with the pair and both scores."""
    golden = metadata().golden
    golden.anomaly_scores[1] *= 1.001
    artefact = parse_artefact(with_metadata(golden=golden).SerializeToString())
    expected = f"{golden.anomaly_scores[1]:.9g}"
    with pytest.raises(ArtefactError, match=rf"does not reproduce golden pair 1: got .* expected {expected}"):
        Scorer(artefact)


def test_nan_is_no_golden_score() -> None:
    """A graph whose score is NaN does not reproduce its golden pairs."""
    built = model()
    built.graph.node[1].op_type = "Sub"  # (x - mean) - scale ...
    built.graph.node[2].op_type = "Mod"
    built.graph.node[2].attribute.append(helper.make_attribute("fmod", 1))  # ... modulo itself is 0, or NaN at 0
    with pytest.raises(ArtefactError, match="golden pair 0"):
        Scorer(parse_artefact(built.SerializeToString()))


def test_a_graph_that_the_runtime_cannot_load_is_refused() -> None:
    """The runtime's own error becomes an ArtefactError with the model's identity."""
    built = model()
    built.graph.node[0].input[1] = "nowhere"
    with pytest.raises(ArtefactError, match=r"ONNX Runtime cannot load sphere@[0-9a-f]{12}: .*nowhere"):
        Scorer(parse_artefact(built.SerializeToString()))


def test_a_graph_that_fails_when_run_is_refused() -> None:
    """A graph that loads and then fails on the golden events is refused."""
    built = model()
    built.graph.node[3].input[0] = "reshaped"
    target = helper.make_tensor("target", 7, [2], [-1, 7])
    built.graph.initializer.append(target)
    built.graph.node.insert(3, helper.make_node("Reshape", ["squared", "target"], ["reshaped"]))
    with pytest.raises(ArtefactError, match="ONNX Runtime cannot run sphere@"):
        Scorer(parse_artefact(built.SerializeToString()))


def test_a_graph_that_gives_another_number_of_scores_is_refused() -> None:
    """A graph that reduces over events is refused, though its signature has a score for each."""
    built = model()
    built.graph.initializer[2].CopyFrom(helper.make_tensor("axes", 7, [1], [0]))
    with pytest.raises(ArtefactError, match="scores of shape"):
        Scorer(parse_artefact(built.SerializeToString()))


MIXING = {
    "largest": [helper.make_node("ReduceMax", ["features"], ["mixed"], keepdims=1)],
    "smallest": [
        helper.make_node("Neg", ["features"], ["negative"]),
        helper.make_node("ReduceMax", ["negative"], ["mixed"], keepdims=1),
    ],
    "sum": [helper.make_node("ReduceSum", ["features"], ["mixed"], keepdims=1)],
    "row before": [helper.make_node("CumSum", ["features", "first_axis"], ["mixed"], exclusive=1)],
    "row behind": [helper.make_node("CumSum", ["features", "first_axis"], ["mixed"], exclusive=1, reverse=1)],
}
"""Operators that take features of other events."""


@pytest.mark.parametrize("nodes", MIXING.values(), ids=MIXING)
def test_a_graph_that_mixes_events_is_refused(nodes: list[onnx.NodeProto]) -> None:
    """A score that depends on the other events of a call is found, though the golden pairs are reproduced."""
    far = np.float32(1e6)  # beyond the golden features, so that these mix nothing in
    rest = [
        helper.make_node("Max", ["mixed", "far"], ["above"]),
        helper.make_node("Sub", ["above", "far"], ["more"]),
        helper.make_node("Add", ["features", "more"], ["passed"]),
    ]
    built = led_through(*nodes, *rest, first_axis=np.int64(0), far=far)
    with pytest.raises(ArtefactError, match=r"mixes events: golden pair \d scores"):
        Scorer(parse_artefact(built.SerializeToString()))


@pytest.mark.process
def test_telemetry_is_off_before_the_runtime_is_imported(model_path: Path) -> None:
    """Importing the service neither imports the runtime nor touches the environment; a scorer does both, in order."""
    script = f"""
import os, sys

class Witness:
    seen = []
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            self.seen.append(os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.meta_path.insert(0, Witness())
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
assert "onnxruntime" not in sys.modules and "ORT_DISABLE_TELEMETRY" not in os.environ
Scorer(load_artefact({str(model_path)!r}))
assert Witness.seen == ["1"], Witness.seen
"""
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", script], env=environ, check=True)

"""The quantum autoencoder computes what its gates say, and no circuit is better than the spectral solution."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from service.model.scorer import Scorer
from tests.training import samples
from tests.training.detectors.oracle import CONFIGS, QUANTUM, untrained
from tests.training.fitting.runs import trained
from training.detectors.feature_maps import Ratios
from training.detectors.presets import PRESETS
from training.detectors.quantum import QuantumAutoencoder, circuit
from training.detectors.scorer import AnomalyScorer
from training.fitting.export import export
from training.fitting.run import CHECKPOINT, load_run

QUBITS = 6


def network(name: str) -> tuple[AnomalyScorer, QuantumAutoencoder]:
    """Return a fitted detector, and its network."""
    scorer = untrained(CONFIGS[name])
    assert isinstance(scorer.network, QuantumAutoencoder)
    return scorer, scorer.network


def background(scorer: AnomalyScorer) -> Tensor:
    """Return the standardised background that the detectors are fitted to: (500, 6)."""
    with torch.no_grad():
        return scorer.standardise(torch.from_numpy(samples.background(500)))


def turned(amplitudes: list[float], qubit: int, angle: float) -> list[float]:
    """Return the amplitudes after RY on one qubit, which mixes each two states that differ in its bit."""
    bit, after = 1 << (QUBITS - 1 - qubit), list(amplitudes)
    for state in range(len(amplitudes)):
        if not state & bit:
            zero, one = amplitudes[state], amplitudes[state | bit]
            after[state] = math.cos(angle / 2) * zero - math.sin(angle / 2) * one
            after[state | bit] = math.sin(angle / 2) * zero + math.cos(angle / 2) * one
    return after


def test_the_circuit_is_its_gates() -> None:
    """RY on every qubit, then CZ on all neighbours in a ring and RY again, gate by gate; the matrix is orthogonal."""
    angles = torch.tensor(np.random.default_rng(1).uniform(0, 2 * math.pi, (3, QUBITS)))
    matrix = circuit(angles)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(2**QUBITS, dtype=torch.float64))
    for start in (0, 5, 63):
        amplitudes = [float(state == start) for state in range(2**QUBITS)]
        for layer, turns in enumerate(angles.tolist()):
            for qubit in range(QUBITS if layer else 0):
                both = (1 << (QUBITS - 1 - qubit)) | (1 << (QUBITS - 1 - (qubit + 1) % QUBITS))
                amplitudes = [-one if state & both == both else one for state, one in enumerate(amplitudes)]
            for qubit, angle in enumerate(turns):
                amplitudes = turned(amplitudes, qubit, angle)
        np.testing.assert_allclose(matrix[:, start], amplitudes, atol=1e-12)


def test_the_encoding_is_a_rotation_of_each_qubit() -> None:
    """The amplitudes of any values are products of cos and sin of half of pi/2 + atan z: normalised, none negative."""
    _, encoder = network("quantum")
    values = torch.tensor([[0.0, 1.0, -1.0, 3.0, -30.0, 0.3], [1e4, -1e4, 50.0, 0.0, -1e-3, 2.0]])
    found = encoder.encode(values)
    halves = (math.pi / 2 + values.double().atan()) / 2
    for event in range(len(values)):
        expected = torch.ones(1, dtype=torch.float64)
        for half in halves[event]:
            expected = torch.kron(expected, torch.stack([half.cos(), half.sin()]))
        np.testing.assert_allclose(found[event], expected, rtol=2e-5)
    np.testing.assert_allclose(found.square().sum(dim=1), 1.0, rtol=1e-5)


def test_without_simplicity_the_score_is_minus_the_logarithm_of_fidelity() -> None:
    """The score falls with fidelity, the probability of |000> in the trash, as -ln of it."""
    scorer, spectral = network("spectral")
    events = torch.from_numpy(np.concatenate([samples.background(100, seed=3), samples.signal(100)]))
    with torch.no_grad():
        amplitudes = spectral.encode(scorer.standardise(events)).double() @ spectral.rotation.double()
        fidelity = amplitudes[:, ::8].square().sum(dim=1)
        np.testing.assert_allclose(scorer(events), -fidelity.log(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["quantum", "spectral"])
def test_no_circuit_is_better_than_the_spectral_solution(name: str) -> None:
    """The bound is the least mean infidelity of any matrix; the spectral solution has it, and a circuit a gap to it."""
    scorer, fitted = network(name)
    values = background(scorer)
    with torch.no_grad():
        assert fitted.loss(values).item() == pytest.approx(fitted.mean_infidelity.item(), abs=1e-6)
        amplitudes = fitted.encode(values).double()
    trash = CONFIGS[name].trash_qubits
    bound = fitted.spectral_bound.item()
    rng = np.random.default_rng(2)
    for _ in range(20):
        matrix = torch.from_numpy(np.linalg.qr(rng.normal(size=(64, 64)))[0])
        assert 1 - (amplitudes @ matrix)[:, :: 2**trash].square().sum(dim=1).mean() > bound
    singular = torch.linalg.svdvals(amplitudes)  # another way to the same bound
    assert singular[64 // 2**trash :].square().sum().item() / len(values) == pytest.approx(bound, abs=1e-6)
    facts = fitted.facts
    assert facts["gap_to_bound"] == facts["mean_infidelity"] - facts["spectral_bound"]
    assert facts["qubits"] == len(Ratios.names)
    if name == "spectral":
        assert facts["gap_to_bound"] == pytest.approx(0.0, abs=1e-6)
        assert "cz_gates" not in facts
    else:
        assert facts["gap_to_bound"] > 0.01
        assert (facts["circuit_depth"], facts["cz_gates"]) == (3 * QUANTUM.circuit_layers + 2, 18)


def test_a_fit_is_the_same_to_the_bit() -> None:
    """A new network is not fitted; fitted to the same events it has the same matrix, which is orthogonal."""
    scorer, spectral = network("spectral")
    new = AnomalyScorer(CONFIGS["spectral"]).network
    assert isinstance(new, QuantumAutoencoder)
    assert (spectral.fitted, new.fitted) == (True, False)
    new.fit_density(background(scorer), seed=7)
    assert torch.equal(new.rotation, spectral.rotation)
    torch.testing.assert_close(new.rotation @ new.rotation.T, torch.eye(64), rtol=0, atol=1e-6)


def test_the_spectral_solver_needs_one_pass(tmp_path: Path) -> None:
    """Whatever the number of epochs there is one; its losses are those of the solution, and a resumed run keeps it."""
    run = trained(tmp_path, PRESETS["quantum"])
    (epoch,) = run.curve
    found = run.best_scorer().network
    assert isinstance(found, QuantumAutoencoder)
    assert epoch.training_loss == pytest.approx(found.spectral_bound.item(), abs=1e-6)
    assert epoch.validation_loss == pytest.approx(epoch.training_loss, rel=0.2)
    before = (tmp_path / CHECKPOINT).read_bytes()
    trained(tmp_path, PRESETS["quantum"])
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert load_run(tmp_path).curve == run.curve


@pytest.mark.slow
def test_what_is_exported_scores_each_event_alone(tmp_path: Path) -> None:
    """The graph has no trigonometric function, states its facts, and gives the same bits in batches of every size."""
    run = trained(tmp_path, PRESETS["quantum"])
    artefact = export(run, samples.background(3000, seed=4), "1")
    operators = {node.op_type for node in onnx.load_model_from_string(artefact.graph).graph.node}
    assert operators <= {
        *("Abs", "Add", "Clip", "Concat", "Exp", "Gemm", "Log", "MatMul", "Max", "Mul", "Sign", "Softplus", "Sqrt"),
        *("ReduceMax", "Squeeze"),
    }
    assert artefact.metadata.training["spectral_bound"] == pytest.approx(run.best_epoch.training_loss, abs=1e-6)
    scorer, events = (
        Scorer(artefact),
        np.concatenate([samples.background(4000), samples.signal(90), samples.degenerate()]),
    )
    whole = scorer.score(events)
    assert np.all(np.isfinite(whole))
    assert np.all(whole >= 0)
    for size in (*range(1, 70), 127, 1000, 1023, 4095):
        for start in (0, 1, len(events) - size):
            np.testing.assert_array_equal(scorer.score(events[start : start + size]), whole[start : start + size])

"""Circuits are what PennyLane says they are, with noise and shots too, and the command writes what it measured."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.detectors.circuits import DEPOLARISING, LAYERS, SHOTS, depolarised, main, noisy_observable
from tests.training import samples
from tests.training.detectors.pennylane_circuits import SHOTS as PENNYLANE_SHOTS
from tests.training.detectors.pennylane_circuits import ask_pennylane
from training.detectors.feature_maps import Ratios
from training.detectors.presets import PRESETS
from training.detectors.quantum import QuantumAutoencoder, circuit
from training.events.events import write_events

LARGEST_BATCH = 4096


def test_noise_takes_nothing_from_the_sum_of_all_outcomes() -> None:
    """Without errors an observable stays; errors leave 1 in place, and on every qubit at 3/4 nothing else is left."""
    rng = np.random.default_rng(1)
    observable = rng.normal(size=(8, 8))
    np.testing.assert_array_equal(depolarised(observable, 1, 0.0), observable)
    np.testing.assert_allclose(depolarised(np.eye(8), 2, 0.3), np.eye(8))
    for qubit in range(3):
        observable = depolarised(observable, qubit, 0.75)
    np.testing.assert_allclose(observable, np.eye(8) * observable[0, 0], atol=1e-15)
    angles = rng.uniform(0, 2 * math.pi, (3, 6))
    kept = (np.arange(64) % 8 == 0).astype(float)
    matrix = circuit(torch.from_numpy(angles)).numpy()
    np.testing.assert_allclose(noisy_observable(angles, kept, 0.0), matrix.T @ np.diag(kept) @ matrix, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "seed"), [(1, 1), (4, 2)])
def test_pennylane_agrees(tmp_path: Path, layers: int, seed: int) -> None:
    """Fidelities, gradients by parameter shift, counted gates, shots and noise on CZ are those of PennyLane.

    A batch of one gives what the same event gives among 4096.
    """
    torch.manual_seed(seed)
    config = replace(PRESETS["quantum"], solver="variational", circuit_layers=layers)
    network = QuantumAutoencoder(Ratios.names, config)
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(size=(LARGEST_BATCH - 6, 6)), 30 * rng.normal(size=(6, 6))])
    matrix = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    network.rotation.copy_(torch.from_numpy(matrix.T))
    angles = network.angles.detach().double().numpy()
    found = ask_pennylane(tmp_path, angles=angles, values=values, matrix=matrix, errors=np.array(DEPOLARISING))

    given = torch.from_numpy(values.astype(np.float32))
    for size in (1, 2, 7, LARGEST_BATCH):
        with torch.no_grad():
            of_matrix = torch.exp(-network.score(given[:size])).numpy()
            amplitudes = network.encode(given[:size]).double().numpy()
        np.testing.assert_allclose(of_matrix, found["fidelity_of_matrix"][:size], rtol=1e-4, atol=2e-6)
        fidelity = np.square(amplitudes @ circuit(torch.from_numpy(angles)).numpy().T)[:, ::8].sum(axis=1)
        np.testing.assert_allclose(fidelity, found["fidelity"][:size], rtol=1e-4, atol=1e-6)
    for event, gradient in zip(given, found["gradients"], strict=False):
        network.zero_grad()
        network.loss(event[None]).backward()  # type: ignore[no-untyped-call]
        assert network.angles.grad is not None
        np.testing.assert_allclose(-network.angles.grad.numpy(), gradient, atol=1e-5)
    facts = network.facts
    assert [facts["circuit_depth"], facts["cz_gates"]] == found["counted"].tolist()
    deviations = (found["sampled"] - fidelity[:100]) / np.sqrt(fidelity[:100] * (1 - fidelity[:100]) / PENNYLANE_SHOTS)
    assert abs(deviations.mean()) < 0.5
    assert deviations.std() == pytest.approx(1.0, abs=0.4)
    kept = (np.arange(64) % 8 == 0).astype(float)
    for probability, noisy in zip(DEPOLARISING, found["noisy"], strict=True):
        observable = noisy_observable(angles, kept, probability)
        np.testing.assert_allclose(
            np.einsum("ei,ij,ej->e", *[amplitudes[:10], observable, amplitudes[:10]]), noisy, atol=1e-6
        )


@pytest.mark.slow
def test_the_command_writes_what_it_measured(tmp_path: Path) -> None:
    """Each circuit has its AUC exactly, by shots and, where it has gates, by noise; more shots come closer to exact."""
    write_events(tmp_path / "train.h5", samples.mixed(1000, 10, seed=1).background)
    write_events(tmp_path / "test.h5", samples.mixed(400, 200, seed=2))
    out = tmp_path / "out"
    assert main([str(tmp_path / "train.h5"), str(tmp_path / "test.h5"), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"circuits.md", "circuits.json", "circuits.png"}
    found = json.loads((out / "circuits.json").read_text(), parse_constant=pytest.fail)
    sizes = [found[name] for name in ("sample", "training_events", "background_events", "signal_events")]
    assert sizes == ["test", 1000, 400, 200]
    assert [one["name"] for one in found["circuits"]] == ["spectral", *(f"variational, {n} layers" for n in LAYERS)]
    page = (out / "circuits.md").read_text()
    for one in found["circuits"]:
        assert one["name"] in page
        away = [abs(one["auc_by_shots"][str(shots)]["value"] - one["auc"]["value"]) for shots in SHOTS]
        assert away[-1] < 0.01
        noise = [] if one["name"] == "spectral" else [str(probability) for probability in DEPOLARISING]
        assert list(one["auc_by_depolarising"]) == noise
        gap = one["facts"]["mean_infidelity"] - one["facts"]["spectral_bound"]
        assert one["facts"]["gap_to_bound"] == pytest.approx(gap)

"""The circuits of the quantum autoencoder in PennyLane, in its own environment: arrays in, arrays out.

python -m tests.training.detectors.pennylane_circuits GIVEN.npz FOUND.npz
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / "build" / "quantum" / "bin" / "python"
TIMEOUT_S = 300

QUBITS = 6
SHOTS = 1000


def ask_pennylane(folder: Path, **given: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Return what PennyLane computes from angles (layers + 1, 6), values (n, 6), a matrix (64, 64) and errors (k,).

    Skips the test where PennyLane is not installed.
    """
    if not PYTHON.exists():
        pytest.skip("PennyLane is not installed: make build/quantum/ready")
    files = [folder / "given.npz", folder / "found.npz"]
    np.savez(files[0], allow_pickle=False, **given)
    command = [str(PYTHON), "-m", "tests.training.detectors.pennylane_circuits", *map(str, files)]
    subprocess.run(command, cwd=ROOT, timeout=TIMEOUT_S, check=True)
    with np.load(files[1]) as found:
        return dict(found)


def main(given: str, found: str) -> None:
    """Answer a test's question."""
    import pennylane as qml

    with np.load(given) as arrays:
        angles, values = qml.numpy.array(arrays["angles"], requires_grad=True), arrays["values"]
        matrix, errors = arrays["matrix"], arrays["errors"]
    turns = np.pi / 2 + np.arctan(values)
    trash = range(3, QUBITS)

    def of_gates(angles: Any, turns: NDArray[np.float64]) -> Any:
        qml.AngleEmbedding(turns, wires=range(QUBITS), rotation="Y")
        for layer in range(len(angles)):
            for qubit in (0, 2, 4, 1, 3, 5) if layer else ():
                qml.CZ([qubit, (qubit + 1) % QUBITS])
            for qubit in range(QUBITS):
                qml.RY(angles[layer, qubit], wires=qubit)
        return qml.expval(qml.Projector([0] * len(trash), wires=trash))

    def of_matrix(turns: NDArray[np.float64]) -> Any:
        qml.AngleEmbedding(turns, wires=range(QUBITS), rotation="Y")
        qml.QubitUnitary(matrix, wires=range(QUBITS))
        return qml.expval(qml.Projector([0] * len(trash), wires=trash))

    def depolarised(probability: float) -> Any:
        def after(op: Any, **_: Any) -> None:
            for wire in op.wires:
                qml.DepolarizingChannel(probability, wires=wire)

        model = qml.NoiseModel({qml.noise.op_in(["CZ"]): after})
        return qml.add_noise(qml.QNode(of_gates, qml.device("default.mixed", wires=QUBITS)), model)

    device = qml.device("default.qubit", wires=QUBITS, seed=1)
    exact = qml.QNode(of_gates, device, diff_method="parameter-shift")
    resources = qml.specs(exact)(angles, turns[0])["resources"]
    np.savez(
        found,
        fidelity=exact(angles, turns),
        fidelity_of_matrix=qml.QNode(of_matrix, device)(turns),
        gradients=np.array([qml.grad(exact, argnums=0)(angles, event) for event in turns[:3]]),
        sampled=qml.set_shots(exact, shots=SHOTS)(angles, turns[:100]),
        noisy=np.array([depolarised(float(probability))(angles, turns[:10]) for probability in errors]),
        counted=np.array([resources.depth, resources.gate_types["CZ"]]),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

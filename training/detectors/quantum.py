"""A quantum autoencoder of a few qubits, simulated exactly: the anomaly score is -ln of the compression fidelity.

Each quantity rotates one qubit; a fixed orthogonal matrix follows. An event is compressed well if the last qubits, the
trash qubits, end in |0...0> (Romero, Olson and Aspuru-Guzik, arXiv:1612.02806). Rotations about y and controlled Z
gates keep all amplitudes real, so that n qubits are 2^n real numbers.
"""

import math

import torch
from torch import Tensor, nn

from training.detectors.layers import softplus, tilt
from training.detectors.presets import TrainingConfig

# Lower limit on a probability: amplitudes are accurate to 1e-7 in float32, so a smaller one would be noise.
PROBABILITY_FLOOR = 1e-6

# Number of events whose amplitudes are in memory at once when the density matrix is summed.
CHUNK_EVENTS = 65_536


class QuantumAutoencoder(nn.Module):
    """One qubit for each standardised value; anomalies leave the trash qubits in a state other than |0...0>.

    With one encoding layer the mean infidelity depends on the training events only through their mean density matrix.
    The projector on its leading eigenvectors has the lowest mean infidelity of all circuits. The solver `spectral`
    uses these eigenvectors; `variational` trains the angles of a circuit and reports its distance to that bound.
    """

    choices: Tensor  # (2 n, 2^n), maps (asinh z, ln r) of each value to the logarithms of the amplitudes
    outcomes: Tensor  # (2^n, 2), sums the probabilities of trash states other than |0...0>, and of |0...0>
    rotation: (
        Tensor  # (2^n, 2^n), maps the amplitudes of the encoded event to those after the circuit; zero until fitted
    )
    mean_infidelity: Tensor  # of the training events
    spectral_bound: Tensor  # the lowest mean infidelity that any circuit can have on them
    simplicity: Tensor  # (n, 1), score per standard deviation

    def __init__(self, names: tuple[str, ...], config: TrainingConfig) -> None:
        super().__init__()
        qubits = len(names)
        self.spectral = config.solver == "spectral"
        self.angles = nn.Parameter(2 * math.pi * torch.rand(0 if self.spectral else config.circuit_layers + 1, qubits))
        signs = 2.0 * bits(qubits) - 1.0
        kept = (torch.arange(2**qubits) % 2**config.trash_qubits == 0).float()
        # Constants of the code, not stored in a checkpoint.
        choices = torch.cat([0.5 * signs.T, torch.full_like(signs.T, -0.5)])
        self.register_buffer("choices", choices, persistent=False)
        self.register_buffer("outcomes", torch.stack([1.0 - kept, kept], dim=1), persistent=False)
        self.register_buffer("rotation", torch.zeros(2**qubits, 2**qubits))
        self.register_buffer("mean_infidelity", torch.zeros(()))
        self.register_buffer("spectral_bound", torch.zeros(()))
        self.register_buffer("simplicity", tilt(names, config.simplicity))

    @property
    def fitted(self) -> bool:
        """Whether the circuit's matrix and the bound are known."""
        return bool(self.rotation.any())

    @property
    def facts(self) -> dict[str, float]:
        """Facts about the circuit for the model card."""
        layers, qubits = max(len(self.angles) - 1, 0), self.angles.shape[1]
        circuit = {} if self.spectral else {"circuit_depth": 3 * layers + 2, "cz_gates": qubits * layers}
        infidelity, bound = self.mean_infidelity.item(), self.spectral_bound.item()
        return {
            "qubits": qubits,
            **circuit,
            "mean_infidelity": infidelity,
            "spectral_bound": bound,
            "gap_to_bound": infidelity - bound,
        }

    def loss(self, values: Tensor) -> Tensor:
        """Return the mean infidelity of values (batch, n): a scalar."""
        rotation = self.rotation if self.spectral else circuit(self.angles).T
        return self._probabilities(values, rotation)[:, 0].mean()

    def fit_density(self, values: Tensor, seed: int) -> None:  # noqa: ARG002 (nothing is drawn)
        """Compute the mean density matrix of values (m, n), its bound and, with the spectral solver, the circuit."""
        with torch.no_grad():
            density = torch.zeros_like(self.rotation, dtype=torch.float64, device="cpu")
            for chunk in torch.split(values, CHUNK_EVENTS):
                amplitudes = self.encode(chunk).cpu().double()
                density += amplitudes.T @ amplitudes / len(values)
            kept = self.outcomes[:, 1].cpu().bool()
            eigenvalues, vectors = torch.linalg.eigh(density)  # in ascending order
            rotation = circuit(self.angles.cpu().double()).T
            if self.spectral:
                # Fixes the sign of each eigenvector, which would otherwise depend on the library.
                vectors *= vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
                rotation[:, ~kept], rotation[:, kept] = vectors[:, : -int(kept.sum())], vectors[:, -int(kept.sum()) :]
            fidelity = torch.einsum("ik,ij,jk->", rotation[:, kept], density, rotation[:, kept])
            self.rotation.copy_(rotation)
            self.mean_infidelity.copy_(1.0 - fidelity)
            self.spectral_bound.copy_(eigenvalues[: -int(kept.sum())].sum())

    def score(self, values: Tensor) -> Tensor:
        """Return softplus of ln(infidelity / fidelity) + simplicity of each row of values (batch, n): (batch,).

        Without simplicity this is -ln fidelity, in a form that is well conditioned both near 0 and far out.
        """
        logarithms = self._probabilities(values, self.rotation).clamp(min=PROBABILITY_FLOOR).log()
        odds = torch.addmm(values @ self.simplicity, logarithms, logarithms.new_tensor([[1.0], [-1.0]]))
        return softplus(odds).squeeze(1)

    def encode(self, values: Tensor) -> Tensor:
        """Return the amplitudes of qubits in RY(pi/2 + atan z) |0> for values z (batch, n): (batch, 2^n).

        With u = z/sqrt(1 + z^2) a qubit has the amplitudes c = sqrt((1 - u)/2) and s = sqrt((1 + u)/2). For
        r = sqrt(1 + z^2) their logarithms are (-asinh z - ln 2r)/2 and (asinh z - ln 2r)/2, which do not cancel.
        """
        radius = (values * values + 1.0).sqrt()
        arsinh = values.sign() * (values.abs() + radius).log()
        normalisation = values.new_tensor(-0.5 * values.shape[1] * math.log(2.0))
        return torch.addmm(normalisation, torch.cat([arsinh, radius.log()], dim=1), self.choices).exp()

    def _probabilities(self, values: Tensor, rotation: Tensor) -> Tensor:
        """Return the probabilities that the trash is not, and is, in |0...0>, for values (batch, n): (batch, 2)."""
        amplitudes = self.encode(values) @ rotation
        # A matrix product, because the order of terms in a sum would depend on the row's position in the batch.
        return (amplitudes * amplitudes) @ self.outcomes


def circuit(angles: Tensor) -> Tensor:
    """Return the matrix of RY on every qubit, followed in each layer by a ring of CZ and RY on every qubit: (2^n, 2^n).

    The angles are (layers + 1, n), or (0, n) for no gates. Qubit 0 is the first bit of an amplitude's index.
    """
    qubits = angles.shape[1]
    matrix = torch.eye(2**qubits, dtype=angles.dtype, device=angles.device)
    signs = torch.stack([cz_signs(qubits, pair) for pair in ring(qubits)]).prod(dim=0).to(matrix)
    for layer, rotation in enumerate(rotations(angles)):
        matrix = rotation @ (matrix if layer == 0 else signs[:, None] * matrix)
    return matrix


def rotations(angles: Tensor) -> Tensor:
    """Return the matrix of RY on every qubit for each row of angles (m, n): (m, 2^n, 2^n)."""
    cos, sin = (angles / 2).cos(), (angles / 2).sin()
    single = torch.stack([torch.stack([cos, -sin], dim=2), torch.stack([sin, cos], dim=2)], dim=2)  # (m, n, 2, 2)
    matrices = single[:, 0]
    for qubit in range(1, angles.shape[1]):
        matrices = torch.einsum("mij,mkl->mikjl", matrices, single[:, qubit])
        matrices = matrices.reshape(len(angles), 2 ** (qubit + 1), 2 ** (qubit + 1))
    return matrices


def ring(qubits: int) -> list[tuple[int, int]]:
    """Return the pairs of neighbours in a ring of an even number of qubits, in an order of depth 2."""
    return [(qubit, (qubit + 1) % qubits) for first in (0, 1) for qubit in range(first, qubits, 2)]


def cz_signs(qubits: int, pair: tuple[int, int]) -> Tensor:
    """Return the diagonal of CZ on a pair of qubits: (2^n,)."""
    return 1.0 - 2.0 * bits(qubits)[:, pair].prod(dim=1)


def bits(qubits: int) -> Tensor:
    """Return the bits of each basis state, the first qubit first: (2^n, n)."""
    return (torch.arange(2**qubits)[:, None] >> torch.arange(qubits - 1, -1, -1) & 1).float()

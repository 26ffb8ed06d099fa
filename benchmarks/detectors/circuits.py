"""The AUC of the quantum autoencoder's circuits with finite shots and noise, simulated exactly.

python -m benchmarks.detectors.circuits TRAIN.h5 TEST.h5 --out DIR
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.detectors.figures import plot_circuits
from benchmarks.detectors.samples import Files, Sample, read_files
from benchmarks.report.markdown import table
from training.__main__ import Command, run
from training.commands.arguments import input_file
from training.detectors.presets import PRESETS, TrainingConfig
from training.detectors.quantum import QuantumAutoencoder, cz_signs, ring, rotations
from training.detectors.scorer import AnomalyScorer
from training.evaluation.metrics import Measured, auc
from training.events.events import digest
from training.files import require_folder, write_files
from training.fitting.fit import train
from training.fitting.run import Source

Floats = NDArray[np.float64]

SHOTS = (100, 1_000, 10_000)
DEPOLARISING = (0.001, 0.01, 0.02)
SHOTS_WITH_NOISE = 1_000
LAYERS = (3, 12)

CONFIGS = {
    "spectral": PRESETS["quantum"],
    **{
        f"variational, {layers} layers": replace(PRESETS["quantum"], solver="variational", circuit_layers=layers)
        for layers in LAYERS
    },
}

ABOUT = """\
Six qubits on a classical computer: every probability is exact, and no advantage is claimed. *Shots* is how often the
trash qubits of an event are measured; the score is the fraction of |000>, and many events tie. *Depolarising* is the
probability of an error on either qubit after each CZ. Errors bring all fidelities together, so that noise costs shots
as well. The spectral solution is a matrix and has no CZ; PennyLane 0.45 decomposes one of its size into 2208 CNOT
gates. The mean infidelity is of the background of the sample; on the training events no circuit has
a lower one than the spectral solution."""


class Circuit(msgspec.Struct, frozen=True):
    """The figures of one circuit on one sample; AUCs by the number of shots and by the probability of an error."""

    name: str
    facts: dict[str, float]
    mean_infidelity: Measured
    auc: Measured
    auc_by_shots: dict[float, Measured]
    auc_by_depolarising: dict[float, Measured]
    auc_noisiest_sampled: Measured | None  # with the largest probability of an error and SHOTS_WITH_NOISE


class Circuits(msgspec.Struct, frozen=True):
    """All of circuits.json."""

    sample: str
    background_events: int
    signal_events: int
    training_events: int
    sha256: dict[str, object]
    circuits: list[Circuit]


def fit(background: NDArray[np.float32], config: TrainingConfig) -> AnomalyScorer:
    """Return a detector of quantum architecture that is trained on background (n, 14)."""
    source = Source((), len(background), digest(background))
    with TemporaryDirectory() as folder, redirect_stderr(StringIO()):  # its progress bar is not useful here
        return train(source, background, config, Path(folder)).best_scorer()


def noisy_observable(angles: Floats, kept: Floats, probability: float) -> Floats:
    """Return the matrix E of which <phi|E|phi> is the fidelity of a noisy circuit on amplitudes phi: (2^n, 2^n).

    The circuit has angles (layers + 1, n), and after each CZ either qubit suffers an error with the given probability:
    X, Y or Z, each as likely. E is the projector on the states kept (2^n,), taken back through the circuit.
    """
    qubits = angles.shape[1]
    observable = np.diag(kept)
    for layer, rotation in reversed(list(enumerate(rotations(torch.from_numpy(angles)).numpy()))):
        observable = rotation.T @ observable @ rotation
        for pair in reversed(ring(qubits) if layer else []):
            for qubit in pair:
                observable = depolarised(observable, qubit, probability)
            signs = cz_signs(qubits, pair).double().numpy()
            observable = signs[:, None] * observable * signs
    return observable


def depolarised(observable: Floats, qubit: int, probability: float) -> Floats:
    """Return a matrix (2^n, 2^n) after a depolarising channel on one qubit, which mixes it with its partial trace."""
    before = 2**qubit
    after = len(observable) // (2 * before)
    trace = np.einsum("aibcid->abcd", observable.reshape(before, 2, after, before, 2, after))
    mixed: Floats = np.einsum("abcd,ij->aibcjd", trace / 2, np.eye(2)).reshape(observable.shape)
    return (1 - 4 / 3 * probability) * observable + 4 / 3 * probability * mixed


def measure(name: str, scorer: AnomalyScorer, events: NDArray[np.float32], sample: Sample) -> Circuit:
    """Return the figures of a trained circuit on the rows of a sample among events (n, 14)."""
    network = scorer.network
    assert isinstance(network, QuantumAutoencoder)
    with torch.no_grad():
        amplitudes = network.encode(scorer.standardise(torch.from_numpy(events))).double().numpy()
        kept = network.outcomes[:, 1].double().numpy()
        rotation, angles = network.rotation.double().numpy(), network.angles.double().numpy()
    fidelity = np.clip(np.square(amplitudes @ rotation) @ kept, 0.0, 1.0)
    rng = np.random.default_rng(1)

    def of(found: Floats) -> Measured:
        return auc(-found[sample.background], -found[sample.signal])

    def noisy(probability: float) -> Floats:
        taken: Floats = np.einsum("ei,ei->e", amplitudes @ noisy_observable(angles, kept, probability), amplitudes)
        return taken

    def sampled(exact: Floats, shots: int) -> Floats:
        return rng.binomial(shots, exact) / shots

    infidelity = 1 - fidelity[sample.background]
    by_noise = {} if network.spectral else {probability: noisy(probability) for probability in DEPOLARISING}
    return Circuit(
        name,
        network.facts,
        Measured(float(infidelity.mean()), float(infidelity.std() / np.sqrt(len(infidelity)))),
        of(fidelity),
        {shots: of(sampled(fidelity, shots)) for shots in SHOTS},
        {probability: of(found) for probability, found in by_noise.items()},
        of(sampled(by_noise[DEPOLARISING[-1]], SHOTS_WITH_NOISE)) if by_noise else None,
    )


def render(found: Circuits) -> str:
    """Return the page."""
    titles = ["circuit", "depth", "CZ gates", "mean infidelity", "gap to the bound", "AUC, exact"]
    titles += [*(f"{shots:,} shots" for shots in SHOTS), *(f"depolarising {one:g}" for one in DEPOLARISING)]
    titles.append(f"depolarising {DEPOLARISING[-1]:g}, {SHOTS_WITH_NOISE:,} shots")
    rows = [
        [
            one.name,
            *(str(one.facts.get(fact, "-")) for fact in ("circuit_depth", "cz_gates")),
            str(one.mean_infidelity),
            f"{one.facts['gap_to_bound']:.4f}",
            str(one.auc),
            *(str(one.auc_by_shots[shots]) for shots in SHOTS),
            *(str(one.auc_by_depolarising.get(probability, "-")) for probability in DEPOLARISING),
            str(one.auc_noisiest_sampled or "-"),
        ]
        for one in found.circuits
    ]
    return f"""\
# The quantum autoencoder with finite shots and with noise

Written by `make bench-quantum`; do not edit. Trained on {found.training_events:,} background events, measured on
`{found.sample}`: {found.background_events:,} background and {found.signal_events:,} signal events.

{ABOUT}

{table(titles, rows)}

![AUC against the number of shots and against noise](circuits.png)
"""


def main(argv: Sequence[str] | None = None, program: str = "python -m benchmarks.detectors.circuits") -> int:
    """Run `python -m benchmarks.detectors.circuits`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__.splitlines()[0])
    parser.add_argument("background", type=input_file, metavar="TRAIN.h5", help="background that the circuits learn")
    parser.add_argument("test", type=input_file, metavar="TEST.h5", help="labelled events, background and signal")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for table and figure")
    args = parser.parse_args(argv)
    require_folder(args.out)
    files = Files(args.background, None, (args.test,))
    events = read_files(files)
    (sample,) = events.samples
    torch.set_num_threads(1)
    circuits = [
        measure(name, fit(events.background, config), events.scored, sample) for name, config in CONFIGS.items()
    ]
    sizes = (len(sample.background), len(sample.signal), len(events.background))
    found = Circuits(sample.name, *sizes, files.sha256(), circuits)
    curves = {one.name: (one.auc, one.auc_by_shots, one.auc_by_depolarising) for one in circuits}
    args.out.mkdir(parents=True, exist_ok=True)
    document = msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"
    page = render(found).encode()
    write_files(args.out, {"circuits.md": page, "circuits.json": document, "circuits.png": plot_circuits(curves)})
    return 0


if __name__ == "__main__":
    command = Command("the quantum autoencoder with finite shots and with noise", "compare")
    sys.exit(run("benchmarks.detectors.circuits", command, sys.argv[1:], "python -m benchmarks.detectors.circuits"))

"""The training loop: early stopping, a checkpoint after every epoch, and the learning curve."""

import csv
import math
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.detectors.config_file import write_config
from training.detectors.presets import TrainingConfig
from training.detectors.quantum import QuantumAutoencoder
from training.errors import TrainingError
from training.evaluation.figures import draw, plot_learning_curve
from training.files import atomic_write, write_files
from training.fitting.run import CHECKPOINT, Epoch, Exposure, Run, Source, resume_run, save_run, split, start_run
from training.progress import Progress


def check_device(device: str) -> None:
    """Raise TrainingError when torch cannot use `device` (cpu, cuda or mps) on this machine."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[device]:
        found = ", ".join(name for name, usable in available.items() if usable)
        raise TrainingError(f"device is {device}, but torch can use {found} on this machine")


def train(
    source: Source,
    features: NDArray[np.float32],
    config: TrainingConfig,
    folder: Path,
    device: str = "cpu",
    exposure: tuple[Exposure, NDArray[np.float32]] | None = None,
) -> Run:
    """Train on background features (m, n), from the folder's checkpoint if it has one, and return the run.

    An exposed configuration needs an exposure: its origin and its features, as many per event as the background has.

    The folder gets the configuration, a checkpoint and the table of the learning curve after each epoch, and the figure
    of the curve at the end. On the CPU a resumed run ends with the same weights as an uninterrupted one. Raises
    TrainingError before the first epoch for a configuration that cannot be trained and exported, and when a loss is not
    finite.
    """
    described = exposure[0] if exposure else None
    if (folder / CHECKPOINT).exists():
        run = resume_run(folder, source, config, described, device)
    else:
        run = start_run(source, features, config, described, device)
        folder.mkdir(parents=True, exist_ok=True)
    write_config(config, folder)
    training, held_out = _standardised(run, features, device)
    exposed, exposed_held_out = _standardised(run, exposure[1], device) if exposure else (None, None)
    steps = -(-len(training) // config.batch_size)
    with Progress(total=config.passes * steps, initial=len(run.curve) * steps, unit=" steps") as progress:
        while not run.finished:
            epoch = Epoch(
                len(run.curve) + 1, _fit(run, training, exposed, progress), _validate(run, held_out, exposed_held_out)
            )
            _check_finite(epoch, config)
            run.curve.append(epoch)
            if run.epochs_since_best == 0:
                run.best = {name: value.detach().cpu().clone() for name, value in run.scorer.state_dict().items()}
            save_run(run, folder)
            write_curve(run.curve, folder)
            progress.set_postfix(training=f"{epoch.training_loss:.5f}", validation=f"{epoch.validation_loss:.5f}")
    if run.incomplete:
        run.complete(torch.from_numpy(features[split(len(features), config)[0]]))
        save_run(run, folder)
    # Written again, because a run killed between checkpoint and curve has the curve of the previous epoch.
    write_curve(run.curve, folder)
    losses = [(epoch.training_loss, epoch.validation_loss) for epoch in run.curve]
    write_files(folder, draw({"learning_curve.png": lambda: plot_learning_curve(losses)}))
    return run


def _standardised(run: Run, features: NDArray[np.float32], device: str) -> tuple[Tensor, Tensor]:
    """Return the network's input for the training part and for the held-out part of features (m, n)."""
    training_rows, held_out_rows = split(len(features), run.config)
    with torch.no_grad():
        everything = run.scorer.standardise(torch.from_numpy(features).to(device))
    return everything[training_rows], everything[held_out_rows]


def _fit(run: Run, training: Tensor, exposed: Tensor | None, progress: Progress) -> float:
    """Run one epoch over the training part (n, k), in a new order, and return the mean loss.

    Each step of an exposed training draws as many signal events from (m, k) as it has background events.
    """
    run.scorer.train()
    network = run.scorer.network
    if isinstance(network, QuantumAutoencoder) and network.spectral:
        network.fit_density(training, run.config.seed)
        progress.update(progress.total)
        return network.loss(training).item()
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(run.config, len(run.curve))
    total = 0.0
    for rows in torch.randperm(len(training)).split(run.config.batch_size):  # type: ignore[no-untyped-call]
        drawn = () if exposed is None else (exposed[torch.randint(len(exposed), (len(rows),))],)
        loss = network.loss(training[rows.to(training.device)], *drawn)
        run.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        run.optimiser.step()
        total += loss.item() * len(rows)
        progress.update()
    return total / len(training)


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 0.

    The cosine schedule is that of Loshchilov and Hutter, "SGDR", arXiv:1608.03983, without restarts.
    """
    factor = 1.0 if config.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
    return config.learning_rate * factor


def _validate(run: Run, held_out: Tensor, exposed: Tensor | None) -> float:
    """Return the loss of the held-out part (n, k), with the same draws in every epoch, to make epochs comparable."""
    run.scorer.eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.config.seed)
        return float(run.scorer.network.loss(held_out, *(() if exposed is None else (exposed,))))


def _check_finite(epoch: Epoch, config: TrainingConfig) -> None:
    """Raise TrainingError for a diverged epoch before it is saved, because argmin selects NaN as the lowest loss."""
    if not math.isfinite(epoch.training_loss) or not math.isfinite(epoch.validation_loss):
        raise TrainingError(
            f"in epoch {epoch.epoch} the training loss is {epoch.training_loss} and the validation loss "
            f"{epoch.validation_loss}, expected finite numbers: train anew in another folder with a smaller "
            f"learning_rate than {config.learning_rate}"
        )


def write_curve(curve: list[Epoch], folder: Path) -> None:
    """Write learning_curve.csv with one line per epoch."""
    with atomic_write(folder / "learning_curve.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in curve)

"""Background events to a trained run: fit, early stopping, a checkpoint every epoch, resume; knows no ONNX."""

import csv
import dataclasses
import math
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from training.detectors.autoencoders import AnomalyScorer, DensityAutoencoder
from training.detectors.presets import TrainingConfig
from training.errors import CheckpointError, EventsError, TrainingError
from training.evaluation.plots import plot_learning_curve
from training.events.events import digest, read_events
from training.files import atomic_write

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curve."""

    epoch: int
    training_loss: float
    validation_loss: float


@dataclass(frozen=True)
class Source:
    """Where the background of a run came from, to find it again and to know it again."""

    path: str
    key: str | None
    events: int
    sha256: str  # of the features, (events, 14) float32 in the file's order


@dataclass(frozen=True)
class Exposure:
    """The simulated signals that an exposed detector learns beside background."""

    path: str
    events: int
    sha256: str  # of the features, (events, 14)


@dataclass
class Run:
    """A training under way or finished: everything that a checkpoint holds."""

    config: TrainingConfig
    source: Source
    exposure: Exposure | None
    scorer: AnomalyScorer
    optimiser: torch.optim.Adam
    curve: list[Epoch]
    best: dict[str, Tensor]

    @property
    def epochs_since_best(self) -> int:
        """How many epochs have passed without a lower validation loss."""
        losses = [epoch.validation_loss for epoch in self.curve]
        return len(losses) - 1 - int(np.argmin(losses)) if losses else 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or patience has run out."""
        return len(self.curve) >= self.config.epochs or self.epochs_since_best >= self.config.patience

    @property
    def lacks_density(self) -> bool:
        """Whether the best weights still need a density to score by."""
        network = self._best().network
        return isinstance(network, DensityAutoencoder) and not network.fitted

    def best_scorer(self) -> AnomalyScorer:
        """Return the detector at its lowest validation loss, on the CPU and ready to score.

        Raises CheckpointError when the training was interrupted before its density was fitted.
        """
        if self.lacks_density:
            raise CheckpointError(
                f"the run {self.config.name!r} has no density yet after {len(self.curve)} epochs: finish it, with "
                "`train --resume`"
            )
        return self._best()

    def fit_density(self, training: Tensor) -> None:
        """Complete the best weights with the density of training values (n, k), where the network has one."""
        scorer = self._best()
        if isinstance(scorer.network, DensityAutoencoder):
            scorer.network.fit_density(training.cpu(), self.config.seed)
            self.best = scorer.state_dict()

    def _best(self) -> AnomalyScorer:
        with torch.random.fork_rng():  # initial weights that are overwritten must not cost draws of the training
            scorer = AnomalyScorer(self.config)
        scorer.load_state_dict(self.best)
        return scorer.eval()


def split(events: int, config: TrainingConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the training part and of the held-out part; the same seed gives the same split."""
    order = np.random.default_rng(config.seed).permutation(events)
    held_out = round(events * config.validation_fraction)
    if not 0 < held_out < events:
        raise CheckpointError(
            f"{events} events cannot be split with validation_fraction {config.validation_fraction}: "
            "expected at least one event in either part; use more events"
        )
    return order[held_out:], order[:held_out]


def train(
    source: Source,
    features: NDArray[np.float32],
    config: TrainingConfig,
    folder: Path,
    device: str,
    exposure: tuple[Exposure, NDArray[np.float32]] | None = None,
) -> Run:
    """Train on background features (n, 14), from the folder's checkpoint if it has one, and return the run.

    An exposed configuration needs an exposure: where it came from, and its features (m, 14).

    After each epoch the folder holds a checkpoint and the learning curve. On the CPU an interrupted and resumed run
    ends with the very weights of one that was left alone. Raises TrainingError when a loss is not finite.
    """
    run = _start(source, features, config, folder, device, exposure[0] if exposure else None)
    training, held_out = _standardised(run, features, device)
    exposed, exposed_held_out = _standardised(run, exposure[1], device) if exposure else (None, None)
    steps = -(-len(training) // config.batch_size)
    with tqdm(total=config.epochs * steps, initial=len(run.curve) * steps, unit=" steps") as progress:
        while not run.finished:
            epoch = Epoch(
                len(run.curve) + 1, _fit(run, training, exposed, progress), _validate(run, held_out, exposed_held_out)
            )
            _check_finite(epoch, config)
            run.curve.append(epoch)
            if run.epochs_since_best == 0:
                run.best = {name: value.detach().cpu().clone() for name, value in run.scorer.state_dict().items()}
            _save(run, folder)
            _draw(run, folder)
            progress.set_postfix(training=f"{epoch.training_loss:.5f}", validation=f"{epoch.validation_loss:.5f}")
    if run.lacks_density:
        run.fit_density(training)
        _save(run, folder)
    _draw(run, folder)  # once more: a kill between the last checkpoint and its curve would leave an old one
    return run


def read_exposure(path: Path) -> tuple[Exposure, NDArray[np.float32]]:
    """Return the signals of an events file, (m, 14), and where they came from. Raises EventsError without any."""
    signals = read_events(path).signal.features
    if len(signals) == 0:
        raise EventsError(f"{path} has no event with label 1, expected signals; `simulate --cocktail` makes some")
    return Exposure(str(path.resolve()), len(signals), digest(signals)), signals


def load_run(folder: Path, device: str = "cpu") -> Run:
    """Return the run whose checkpoint is in `folder`. Raises CheckpointError when there is none that can be read."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no {CHECKPOINT}: train it first, with `train EVENTS.h5 --out {folder}`")
    content = path.read_bytes()
    try:
        state = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        config = TrainingConfig(**{**state["config"], "hidden": tuple(state["config"]["hidden"])})
        exposure = Exposure(**state["exposure"]) if state["exposure"] else None
        run = _new_run(config, Source(**state["source"]), exposure, device)
        run.scorer.load_state_dict(state["scorer"])
        run.optimiser.load_state_dict(state["optimiser"])
        run.curve = [Epoch(**line) for line in state["curve"]]
        run.best = state["best"]
        torch.set_rng_state(state["rng"])
    except Exception as error:  # whatever torch raises on a damaged or foreign file
        reason = (str(error) or type(error).__name__).splitlines()[0]  # torch goes on for a paragraph
        raise CheckpointError(f"{path} is not a checkpoint of this version: {reason}; train the run anew") from error
    return run


def _standardised(run: Run, features: NDArray[np.float32], device: str) -> tuple[Tensor, Tensor]:
    """Return what the network sees of the training part and of the held-out part of features (n, 14)."""
    training_rows, held_out_rows = split(len(features), run.config)
    with torch.no_grad():
        everything = run.scorer.standardise(torch.from_numpy(features).to(device))
    return everything[training_rows], everything[held_out_rows]


def _start(
    source: Source,
    features: NDArray[np.float32],
    config: TrainingConfig,
    folder: Path,
    device: str,
    exposure: Exposure | None,
) -> Run:
    """Return the folder's run where it has one of the same configuration and events, else a new one."""
    if (folder / CHECKPOINT).exists():
        run = load_run(folder, device)
        # More epochs or more patience are a reason to go on; anything else makes it another training.
        lasting = dataclasses.replace(run.config, patience=config.patience)
        if config.schedule == "constant":
            lasting = dataclasses.replace(lasting, epochs=config.epochs)
        changed = [knob.name for knob in fields(config) if getattr(lasting, knob.name) != getattr(config, knob.name)]
        if run.source.sha256 != source.sha256:
            changed.append("events")
        if (run.exposure and run.exposure.sha256) != (exposure and exposure.sha256):
            changed.append("exposure")
        if changed:
            raise CheckpointError(
                f"{folder} holds a run with other {', '.join(changed)}: resume it with its own, or choose "
                "another folder"
            )
        run.config, run.source, run.exposure = config, source, exposure
        return run
    torch.manual_seed(config.seed)
    run = _new_run(config, source, exposure, device)
    training_rows, _ = split(len(features), config)
    if config.architecture == "density" and len(training_rows) < config.components:
        raise CheckpointError(
            f"{len(training_rows)} events to train on cannot make a density of {config.components} components: "
            "use more events, or fewer components"
        )
    with torch.no_grad():
        run.scorer.scaler.fit(run.scorer.feature_map(torch.from_numpy(features[training_rows]).to(device)))
    folder.mkdir(parents=True, exist_ok=True)
    return run


def _new_run(config: TrainingConfig, source: Source, exposure: Exposure | None, device: str) -> Run:
    scorer = AnomalyScorer(config).to(device)
    optimiser = torch.optim.Adam(scorer.parameters(), lr=config.learning_rate)
    return Run(config, source, exposure, scorer, optimiser, curve=[], best={})


def _fit(run: Run, training: Tensor, exposed: Tensor | None, progress: "tqdm[Any]") -> float:
    """Take one pass over the training part (n, k), in a new order, and return the mean loss.

    Each step of an exposed training draws as many signal events, of (m, k), as it has background events.
    """
    run.scorer.train()
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(run.config, len(run.curve))
    total = 0.0
    for rows in torch.randperm(len(training)).split(run.config.batch_size):  # type: ignore[no-untyped-call]
        drawn = () if exposed is None else (exposed[torch.randint(len(exposed), (len(rows),))],)
        loss = run.scorer.network.loss(training[rows.to(training.device)], *drawn)
        run.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        run.optimiser.step()
        total += loss.item() * len(rows)
        progress.update()
    return total / len(training)


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """Return the step size of an epoch, counted from 0.

    The cosine is that of Loshchilov and Hutter, "SGDR", arXiv:1608.03983, without restarts.
    """
    share = 1.0 if config.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
    return config.learning_rate * share


def _validate(run: Run, held_out: Tensor, exposed: Tensor | None) -> float:
    """Return the loss of the held-out part (n, k), with the same draws in every epoch, so that epochs compare."""
    run.scorer.eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(run.config.seed)
        return float(run.scorer.network.loss(held_out, *(() if exposed is None else (exposed,))))


def _check_finite(epoch: Epoch, config: TrainingConfig) -> None:
    """Refuse a diverged epoch before it is saved: argmin takes NaN for the lowest loss, and so for the best weights."""
    if not math.isfinite(epoch.training_loss) or not math.isfinite(epoch.validation_loss):
        raise TrainingError(
            f"in epoch {epoch.epoch} the training loss is {epoch.training_loss} and the validation loss "
            f"{epoch.validation_loss}, expected finite numbers: train anew in another folder with a smaller "
            f"learning_rate than {config.learning_rate}"
        )


def _save(run: Run, folder: Path) -> None:
    """Write the checkpoint."""
    state = {
        "config": asdict(run.config),
        "source": asdict(run.source),
        "exposure": asdict(run.exposure) if run.exposure else None,
        "scorer": run.scorer.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "curve": [asdict(epoch) for epoch in run.curve],
        "best": run.best,
        "rng": torch.get_rng_state(),
    }
    whole = BytesIO()  # in memory first: of a full disk torch does not say that it is full
    torch.save(state, whole)
    with atomic_write(folder / CHECKPOINT) as path:
        path.write_bytes(whole.getbuffer())


def _draw(run: Run, folder: Path) -> None:
    """Write the learning curve as a table and as a plot."""
    with atomic_write(folder / "learning_curve.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in run.curve)
    with atomic_write(folder / "learning_curve.png") as path:
        plot_learning_curve([(epoch.training_loss, epoch.validation_loss) for epoch in run.curve], path)

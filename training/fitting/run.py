"""Training runs: their state, and starting, saving, loading and resuming them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.model.artefact import MAX_BYTES, MAX_METADATA_BYTES
from training.detectors.density import DensityAutoencoder
from training.detectors.distilled import DistilledDensity
from training.detectors.presets import TrainingConfig, check_config, check_features
from training.detectors.quantum import QuantumAutoencoder
from training.detectors.scorer import AnomalyScorer
from training.errors import CheckpointError, EventsError
from training.events.events import LABEL, background_features, digest, read_events
from training.events.features import DIJET, FeatureSet
from training.events.layout import DEFAULT_LAYOUT, Layout
from training.files import atomic_write

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Epoch:
    """One epoch of the learning curve."""

    epoch: int
    training_loss: float
    validation_loss: float


@dataclass(frozen=True)
class Source:
    """The background of a run: its files and the digest that identifies it."""

    files: tuple[str, ...]
    events: int
    sha256: str  # of the features, (events, n) float32 in the files' order
    layout: Layout = DEFAULT_LAYOUT
    labels: tuple[str, ...] = ()  # a labels file for each

    def __str__(self) -> str:
        """Return a description of the events."""
        label = self.layout.label and self.layout.columns.get(self.layout.label, self.layout.label)
        selected = f"label 0 in column {label!r}" if label else "no labels, all taken as background"
        if self.labels:
            selected = f"label 0 in {', '.join(self.labels)}"
        others = f" and {len(self.files) - 1:,} more" if len(self.files) > 1 else ""
        return f"{self.files[0]}{others}: {self.events:,} background events, {selected}"


@dataclass(frozen=True)
class Exposure:
    """The simulated signals that an exposed detector is trained on besides background."""

    path: str
    events: int
    sha256: str  # of the features, (events, n)


@dataclass
class Run:
    """The content of a checkpoint."""

    config: TrainingConfig
    source: Source
    exposure: Exposure | None
    scorer: AnomalyScorer
    optimiser: torch.optim.Adam
    curve: list[Epoch] = dataclasses.field(default_factory=list)
    best: dict[str, Tensor] = dataclasses.field(default_factory=dict)  # the weights of the lowest validation loss

    @classmethod
    def new(cls, config: TrainingConfig, source: Source, exposure: Exposure | None, device: str) -> "Run":
        """Return a run without epochs, with weights drawn from torch's generator."""
        scorer = AnomalyScorer(config, source.layout.features).to(device)
        return cls(config, source, exposure, scorer, torch.optim.Adam(scorer.parameters(), lr=config.learning_rate))

    @property
    def best_epoch(self) -> Epoch:
        """The epoch of the lowest validation loss; there must be one."""
        return min(self.curve, key=lambda epoch: epoch.validation_loss)

    @property
    def epochs_since_best(self) -> int:
        """Number of epochs since the lowest validation loss."""
        return len(self.curve) - self.best_epoch.epoch if self.curve else 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or `patience` epochs have passed without improvement."""
        return len(self.curve) >= self.config.passes or self.epochs_since_best >= self.config.patience

    @property
    def incomplete(self) -> bool:
        """Whether the best weights lack the final fits: the range, and the density of some networks."""
        return not self._best().range.fitted

    def best_scorer(self) -> AnomalyScorer:
        """Return the detector at its lowest validation loss, on the CPU and ready to score.

        Raises CheckpointError when the training was interrupted before its end.
        """
        if self.incomplete:
            raise CheckpointError(
                f"the run {self.config.name!r} is incomplete after {len(self.curve)} epochs: finish it, with "
                "`train --resume`"
            )
        return self._best()

    def complete(self, features: Tensor) -> None:
        """Fit the density, if any, and the range for the best weights to the training part, features (m, n)."""
        scorer = self._best()
        network = scorer.network
        if isinstance(network, DensityAutoencoder | DistilledDensity | QuantumAutoencoder) and not network.fitted:
            with torch.no_grad():
                values = scorer.standardise(features)
            network.fit_density(values, self.config.seed)
        scorer.fit_range(features)
        self.best = scorer.state_dict()

    def _best(self) -> AnomalyScorer:
        with torch.random.fork_rng(devices=[]):  # drawing weights that are overwritten must not change the training
            scorer = AnomalyScorer(self.config, self.source.layout.features)
        scorer.load_state_dict(self.best)
        return scorer.eval()


def split(events: int, config: TrainingConfig) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the training part and of the held-out part; they depend only on the seed."""
    order = np.random.default_rng(config.seed).permutation(events)
    held_out = round(events * config.validation_fraction)
    if not 0 < held_out < events:
        raise CheckpointError(
            f"{events} events cannot be split with validation_fraction {config.validation_fraction}: "
            "expected at least one event in either part; use more events"
        )
    return order[held_out:], order[:held_out]


def read_source(
    files: Sequence[Path], layout: Layout = DEFAULT_LAYOUT, labels: Sequence[Path | None] = ()
) -> tuple[Source, NDArray[np.float32]]:
    """Return the background of several files as one sample, (m, n), and its origin.

    `labels` has a labels file for each, or none. Raises EventsError as `read_background` does.
    """
    events = [read_events(*one) for one in zip(files, repeat(layout), labels or repeat(None), strict=False)]
    features = np.concatenate([background_features(*one) for one in zip(events, files, strict=True)])
    if layout.label is None and not any(labels) and any(one.labels is not None for one in events):
        layout = dataclasses.replace(layout, label=LABEL)
    names, label_names = (tuple(str(path.resolve()) for path in paths if path) for paths in (files, labels))
    return Source(names, len(features), digest(features), layout, label_names), features


def read_exposure(path: Path, features: FeatureSet = DIJET) -> tuple[Exposure, NDArray[np.float32]]:
    """Return the signals of an events file, (m, n), and their origin. Raises EventsError if it has no signal."""
    signals = read_events(path, Layout(features=features)).signal.features
    if len(signals) == 0:
        raise EventsError(f"{path} has no event with label 1, expected signals; `simulate --cocktail` makes some")
    return Exposure(str(path.resolve()), len(signals), digest(signals)), signals


def start_run(
    source: Source, features: NDArray[np.float32], config: TrainingConfig, exposure: Exposure | None, device: str
) -> Run:
    """Return a new run, with the scaler fitted to the training part of background features (m, n).

    Raises TrainingError for a configuration or a number of events that cannot result in an artefact.
    """
    check_config(config)
    check_features(config, source.layout.features)
    _check_size(config, source.layout.features)
    training_rows, _ = split(len(features), config)
    if config.architecture in ("density", "distilled") and len(training_rows) < config.components:
        raise CheckpointError(
            f"{len(training_rows)} events to train on cannot make a density of {config.components} components: "
            "use more events, or fewer components"
        )
    torch.manual_seed(config.seed)
    run = Run.new(config, source, exposure, device)
    with torch.no_grad():
        run.scorer.scaler.fit(run.scorer.feature_map(torch.from_numpy(features[training_rows]).to(device)))
    return run


def resume_run(folder: Path, source: Source, config: TrainingConfig, exposure: Exposure | None, device: str) -> Run:
    """Return the run of `folder`, to be resumed with the same configuration and the same events.

    The name, the patience and, with a constant learning rate, the number of epochs may differ. Raises TrainingError for
    any other difference, and for a folder without a readable run.
    """
    check_config(config)
    run = load_run(folder, device)
    free = {"name", "patience"} | ({"epochs"} if config.schedule == "constant" else set())
    old, new = asdict(run.config), asdict(config)
    changed = [
        option.name for option in fields(config) if option.name not in free and old[option.name] != new[option.name]
    ]
    if run.source.layout.features != source.layout.features:
        changed.append("features")
    if run.source.sha256 != source.sha256:
        changed.append("events")
    if (run.exposure and run.exposure.sha256) != (exposure and exposure.sha256):
        changed.append("exposure")
    if changed:
        raise CheckpointError(
            f"{folder} holds a run with other {', '.join(changed)}: resume it with its own, or choose another folder"
        )
    same = (run.config, run.source, run.exposure) == (config, source, exposure)
    run.config, run.source, run.exposure = config, source, exposure
    if not same:  # another name or moved events; if no epoch is left, nothing else would save them
        save_run(run, folder)
    return run


def load_run(folder: Path, device: str = "cpu") -> Run:
    """Return the run whose checkpoint is in `folder`. Raises CheckpointError if it is missing or cannot be read."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no {CHECKPOINT}: train it first, with `train EVENTS.h5 --out {folder}`")
    content = path.read_bytes()
    try:
        state = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        config = TrainingConfig(**{**state["config"], "hidden": tuple(state["config"]["hidden"])})
        exposure = Exposure(**state["exposure"]) if state["exposure"] else None
        run = Run.new(config, _source(state["source"]), exposure, device)
        if not any(name.startswith("range.") for name in state["scorer"]):
            raise CheckpointError("it is of an earlier version, whose models had no range")
        run.scorer.load_state_dict(state["scorer"])
        run.optimiser.load_state_dict(state["optimiser"])
        run.curve = [Epoch(**line) for line in state["curve"]]
        run.best = state["best"]
        torch.set_rng_state(state["rng"])
    except Exception as error:  # torch raises many kinds of errors for a damaged or foreign file
        reason = (str(error) or type(error).__name__).splitlines()[0]  # torch's message is a paragraph
        raise CheckpointError(f"{path} is not a checkpoint of this version: {reason}; train the run anew") from error
    return run


def _source(state: Mapping[str, Any]) -> Source:
    return Source(**{**state, "layout": Layout.of(state["layout"])})


def save_run(run: Run, folder: Path) -> None:
    """Write the checkpoint atomically."""
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
    whole = BytesIO()  # in memory first, because torch does not report a full disk
    torch.save(state, whole)
    with atomic_write(folder / CHECKPOINT) as path:
        path.write_bytes(whole.getbuffer())


def _check_size(config: TrainingConfig, features: FeatureSet) -> None:
    """Raise TrainingError if the artefact of a network would be too large for the service."""
    with torch.device("meta"):  # shapes without memory
        size = sum(values.nbytes for values in AnomalyScorer(config, features).state_dict().values())
    if size > (limit := MAX_BYTES - MAX_METADATA_BYTES):
        raise CheckpointError(
            f"the network has {size:,} bytes of weights, expected at most {limit:,}: use smaller hidden, latent or "
            "components"
        )

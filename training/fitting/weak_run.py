"""A weakly supervised run: a folder with a manifest and the trees of each fold and member."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray

from service.model.artefact import MAX_BYTES, MAX_METADATA_BYTES
from training.detectors.config_file import write_config
from training.detectors.trees import DIVISOR, MAX_EDGES, Ensemble, to_bins
from training.detectors.weak import MAPS, WeakScorer, fold_of
from training.detectors.weak_config import WeakConfig
from training.errors import CheckpointError, EventsError
from training.events.events import digest, open_events
from training.events.layout import DEFAULT_LAYOUT, Layout
from training.files import atomic_write
from training.fitting.weak import ensemble, fit_member, fold_edges
from training.jobs.manifest import MANIFEST, claimed
from training.jobs.part_files import read_part, write_part
from training.progress import Progress

KIND = "weak supervision"
RANGE = "range.pt"
FINISH = "finish the run, with `train --resume`"
MIN_EVENTS_PER_FOLD = 100
"""Minimum number of events of either sample in a fold."""


@dataclass(frozen=True)
class Origin:
    """The file of a window or a reference, and the digest that identifies its events."""

    path: str
    layout: Layout
    events: int
    sha256: str  # of the features, (events, 14) float32 in the file's order

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Origin":
        """Return the origin from the manifest of a run."""
        return cls(**{**stored, "layout": Layout.of(stored["layout"])})


@dataclass(frozen=True)
class WeakRun:
    """The content of a run's manifest."""

    config: WeakConfig
    window: Origin
    reference: Origin
    scikit_learn: str

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, which identifies the trees of this run."""
        return {"kind": KIND, **asdict(self)}


def is_weak_run(folder: Path) -> bool:
    """Return whether a folder has the manifest of a weakly supervised run, finished or not."""
    path = folder / MANIFEST
    return path.is_file() and _read(path).get("kind") == KIND


def load_weak_run(folder: Path) -> WeakRun:
    """Return the run from its manifest. Raises CheckpointError when the manifest cannot be read."""
    found = _read(folder / MANIFEST)
    try:
        config, window, reference = (found[name] for name in ("config", "window", "reference"))
        return WeakRun(WeakConfig(**config), Origin.of(window), Origin.of(reference), found["scikit_learn"])
    except (KeyError, TypeError) as error:
        reason = f"{folder / MANIFEST} is not of this version: {error}; train the run anew"
        raise CheckpointError(reason) from error


def read_origin(path: Path, layout: Layout = DEFAULT_LAYOUT) -> tuple[Origin, NDArray[np.float32]]:
    """Return all events of a file, (n, 14), independent of their labels, and their origin. Raises EventsError."""
    with open_events(path, layout) as file:
        features = file.read_features(dtype=np.float32)
    return Origin(str(path.resolve()), layout, len(features), digest(features)), features


def start_weak_run(window: Origin, reference: Origin, config: WeakConfig) -> WeakRun:
    """Return a run with these events. Raises TrainingError if they are identical or too few, or for too many trees."""
    if window.sha256 == reference.sha256:
        raise EventsError(
            f"{window.path} and {reference.path} hold the same events, expected a signal window and other events as "
            "its reference"
        )
    for origin in (window, reference):
        if origin.events < (least := MIN_EVENTS_PER_FOLD * config.folds):
            raise EventsError(
                f"{origin.path} has {origin.events:,} events, expected at least {least:,}: {MIN_EVENTS_PER_FOLD} for "
                f"each of {config.folds} folds; give more events, or fewer --folds"
            )
    trees = config.folds * config.members * config.trees
    size = 4 * trees * (len(MAPS[config.feature_map].names) * (MAX_EDGES + 1) + DIVISOR)
    if size > (limit := MAX_BYTES - MAX_METADATA_BYTES):
        raise CheckpointError(
            f"the tables of {trees:,} trees can have {size:,} bytes, expected at most {limit:,}: use fewer folds, "
            "members or trees"
        )
    return WeakRun(config, window, reference, sklearn.__version__)


def train_weak(run: WeakRun, window: NDArray[np.float32], reference: NDArray[np.float32], folder: Path) -> None:
    """Train the missing members of a run in its folder, on features (n, 14) of the window and (m, 14) of the reference.

    An interrupt loses only the current member, and a resumed run ends with the same trees. Raises PartsError for the
    folder of another run, and OSError when another process uses it.
    """
    features = torch.from_numpy(np.concatenate([window, reference]))
    quantities, folds = _mapped(run.config, features)
    in_window = np.arange(len(features)) < len(window)
    config = run.config
    with (
        claimed(folder, run.manifest),
        Progress(total=config.folds * config.members, unit=" members", smoothing=0.05) as progress,
    ):
        write_config(config, folder)
        for fold in range(config.folds):
            missing = [member for member in range(config.members) if not _path(folder, fold, member).exists()]
            progress.update(config.members - len(missing))
            if not missing:
                continue
            seen = folds != fold
            edges = fold_edges(quantities[seen])
            bins = to_bins(quantities[seen], edges)
            write_part(folder / f"edges-{fold}.npy", edges)
            for member in missing:
                seed = config.seed + config.folds * member + fold
                write_part(_path(folder, fold, member), fit_member(bins, in_window[seen], config, seed))
                progress.update()
        scorer = WeakScorer(config, _read_ensemble(run, folder))
        scorer.fit_range(features)
        whole = BytesIO()  # in memory first, because torch does not report a full disk
        torch.save(scorer.range.state_dict(), whole)
        with atomic_write(folder / RANGE) as path:
            path.write_bytes(whole.getbuffer())


def load_weak_scorer(run: WeakRun, folder: Path) -> WeakScorer:
    """Return the detector of a finished run, ready to score.

    Raises CheckpointError for an unfinished run, or when its files cannot be read.
    """
    scorer = WeakScorer(run.config, _read_ensemble(run, folder))
    path = folder / RANGE
    try:
        scorer.range.load_state_dict(torch.load(path, weights_only=True))
    except Exception as error:  # torch raises many kinds of errors for a missing, damaged or foreign file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read: {reason}; {FINISH}") from error
    return scorer.eval()


def _read_ensemble(run: WeakRun, folder: Path) -> Ensemble:
    config = run.config
    paths = [[_path(folder, fold, member) for member in range(config.members)] for fold in range(config.folds)]
    if missing := [path for some in paths for path in some if not path.exists()]:
        raise CheckpointError(f"{folder} lacks {len(missing)} of {config.folds * config.members} members: {FINISH}")
    quantities = len(MAPS[config.feature_map].names)
    edges = [read_part(folder / f"edges-{fold}.npy", quantities) for fold in range(config.folds)]
    nodes = [np.concatenate([np.load(path) for path in some]) for some in paths]
    return ensemble(edges, nodes)


def _mapped(config: WeakConfig, features: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return quantities (n, k) and folds (n,) of features (n, 14)."""
    with torch.inference_mode():
        return MAPS[config.feature_map]()(features).numpy(), fold_of(features, config.folds).numpy()


def _path(folder: Path, fold: int, member: int) -> Path:
    return folder / f"fold-{fold}-member-{member}.npy"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; train the run anew") from error
    return found if isinstance(found, dict) else {}

"""The events of a comparison: what detectors learn from, and the samples that they score."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from training.detectors.feature_maps import FEATURE_MAPS
from training.errors import EventsError
from training.evaluation.samples import sample_name
from training.events.events import read_background, read_events
from training.files import sha256_of

Floats = NDArray[np.float64]

MIN_EVENTS = 10
"""Of either class in a sample: each half that the supervised reference learns needs some."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows of a sample among all events that are scored, by class."""

    name: str
    background: NDArray[np.int64]
    signal: NDArray[np.int64]
    signal_only: bool  # compared with the background of the first sample


@dataclass(frozen=True, eq=False)
class ComparisonEvents:
    """Features in GeV, each (n, 14), to learn from and to score."""

    background: NDArray[np.float32]
    exposure: NDArray[np.float32] | None  # simulated signals, for detectors that are exposed to some
    scored: NDArray[np.float32]
    samples: tuple[Sample, ...]


def standardise(view: str, events: ComparisonEvents) -> tuple[Floats, Floats]:
    """Return training background and scored events after a feature map, in standard deviations of the former."""
    feature_map = FEATURE_MAPS[view]()
    scaler = StandardScaler()
    background = scaler.fit_transform(feature_map(torch.from_numpy(events.background)).double().numpy())
    return background, scaler.transform(feature_map(torch.from_numpy(events.scored)).double().numpy())


@dataclass(frozen=True)
class Files:
    """Paths of the events files of a comparison."""

    background: Path
    exposure: Path | None
    samples: tuple[Path, ...]

    def sha256(self) -> dict[str, Any]:
        """Return the SHA-256 of each file; samples by name."""
        return {
            "training background": sha256_of(self.background),
            "exposure": None if self.exposure is None else sha256_of(self.exposure),
            "samples": {sample_name(path): sha256_of(path) for path in self.samples},
        }


@cache  # one process computes many parts from the same files
def read_files(files: Files) -> ComparisonEvents:
    """Read all events of a comparison.

    Raises EventsError when a file cannot be read, a sample has too few events of a class, or shares an event with
    those that detectors learn from.
    """
    background = read_background(files.background)
    exposure = None if files.exposure is None else read_events(files.exposure).signal.features
    if exposure is not None and not len(exposure):
        raise EventsError(f"{files.exposure} holds no signal (label 1), expected signals to learn; see `simulate`")
    learned = {event.tobytes() for part in (background, exposure) if part is not None for event in part}
    samples: list[Sample] = []
    scored: list[NDArray[np.float32]] = []
    for path in files.samples:
        events = read_events(path)
        if events.labels is None:
            raise EventsError(f"{path} has no column 'label', expected 0 for background and 1 for signal: add it")
        shared = sum(event.tobytes() in learned for event in events.features)
        if shared:
            raise EventsError(f"{path} has {shared} events that detectors learn from, expected none: give another file")
        start = sum(map(len, scored))
        rows = {label: start + np.flatnonzero(events.labels == label) for label in (0, 1)}
        signal_only = len(samples) > 0 and len(rows[0]) == 0
        if signal_only:
            rows[0] = samples[0].background
        for label, name in ((0, "background"), (1, "signal")):
            if len(rows[label]) < MIN_EVENTS:
                raise EventsError(
                    f"{path} has {len(rows[label])} {name} (label {label}) events, expected at least {MIN_EVENTS}: "
                    "add some"
                )
        samples.append(Sample(sample_name(path), rows[0], rows[1], signal_only))
        scored.append(events.features)
    return ComparisonEvents(background, exposure, np.concatenate(scored), tuple(samples))

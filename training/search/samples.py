"""Samples of a search: dijet mass, selection by the model, and label of events in files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.model.scorer import Scorer
from training.errors import EventsError
from training.evaluation.samples import sample_name
from training.evaluation.scoring import accepted
from training.events.events import BACKGROUND, ROWS_PER_CHUNK, EventsFile, open_events
from training.events.kinematics import quantities
from training.events.layout import DEFAULT_LAYOUT, Layout
from training.files import sha256_of
from training.progress import Progress

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Sample:
    """The events of a file: dijet mass in GeV (NaN without a second jet), whether they pass, and their class."""

    name: str
    sha256: str  # of the file
    mjj: Floats  # (n,)
    passed: Mask  # (n,)
    is_signal: Mask | None  # (n,), None without labels
    trained_on: bool  # whether the model was trained on its background

    def __len__(self) -> int:
        return len(self.mjj)


def read_samples(
    scorer: Scorer,
    threshold: float,
    paths: Sequence[Path],
    layout: Layout = DEFAULT_LAYOUT,
    labels: Sequence[Path | None] | None = None,
) -> list[Sample]:
    """Read and score files in chunks, with the code of `score`; `labels` has a labels file for each, or None.

    Raises EventsError as `open_events` does, and for a file that is given twice.
    """
    seen: dict[str, Path] = {}
    samples = []
    for path, label_file in zip(paths, labels or [None] * len(paths), strict=True):
        with open_events(path, layout, label_file) as file:
            sha256 = sha256_of(path)
            if sha256 in seen:
                raise EventsError(f"{seen[sha256]} and {path} hold the same events: each counts once, name it once")
            seen[sha256] = path
            samples.append(_scored(scorer, threshold, file, sample_name(path), sha256))
    return samples


def _scored(scorer: Scorer, threshold: float, file: EventsFile, name: str, sha256: str) -> Sample:
    masses, passed, signal, background = [], [], [], hashlib.sha256()
    with Progress(total=len(file), unit=" events", unit_scale=True, desc=name) as bar:
        for start in range(0, len(file), ROWS_PER_CHUNK):
            stop = min(start + ROWS_PER_CHUNK, len(file))
            features, labels = file.read_features(start, stop), file.read_labels(start, stop)
            rows = features.astype(np.float32)
            masses.append(quantities(features)["mjj"])
            passed.append(accepted(scorer.score(rows), threshold))
            if labels is not None:
                signal.append(labels != BACKGROUND)
            background.update((rows if labels is None else rows[labels == BACKGROUND]).astype("<f4").tobytes())
            bar.update(stop - start)
    return Sample(
        name,
        sha256,
        np.concatenate(masses),
        np.concatenate(passed),
        np.concatenate(signal) if signal else None,
        background.hexdigest() == scorer.artefact.metadata.data_sha256,
    )

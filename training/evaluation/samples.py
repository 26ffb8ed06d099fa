"""Samples: events files scored by a model, by class."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.model.artefact import Artefact
from service.model.scorer import Scorer
from training.errors import EventsError
from training.evaluation.mistakes import warn_of_mistakes
from training.evaluation.model import features_of
from training.evaluation.prior import prior_scores
from training.events.events import SIGNAL, digest, read_events
from training.events.kinematics import quantities
from training.events.layout import DEFAULT_LAYOUT, Layout
from training.files import sha256_of
from training.progress import Progress

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scored:
    """The scored events of one class."""

    sha256: str  # of the features, see `digest`
    features: NDArray[np.float32]  # (n, features)
    rows: NDArray[np.int64]  # (n,), rows in the file
    scores: Floats  # (n,)
    quantities: dict[str, Floats]  # those of AXIS_LABELS, or the features if they are not of two jets, each (n,)
    prior: Floats | None = None  # (n,), scores of the model's stated prior alone; None without a prior

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Sample:
    """A file of scored events: background, signal or both."""

    name: str
    sha256: str  # of the file
    background: Scored | None
    signal: Scored | None


def sample_name(path: Path) -> str:
    """Return the name of the sample in a file: the file's name, as valid text even if it is not UTF-8."""
    return path.stem.encode(errors="surrogateescape").decode(errors="replace")


def require_different_names(paths: Iterable[Path]) -> None:
    """Raise EventsError when two files have the same name, because names identify samples in results."""
    seen: dict[str, Path] = {}
    for path in paths:
        if (other := seen.setdefault(sample_name(path), path)) is not path:
            raise EventsError(
                f"{other} and {path} have the same name, which identifies them in the results: rename one"
            )


def load_samples(
    scorer: Scorer,
    paths: Sequence[Path],
    layout: Layout = DEFAULT_LAYOUT,
    labels: Sequence[Path | None] | None = None,
    alone: bool = True,
) -> list[Sample]:
    """Read and score files. With `alone`, all but the first may hold only background or only signal.

    `labels` has a labels file for each file, or None. Events without labels are background. Raises EventsError when a
    file cannot be read or lacks a required class, and for a class of one event, which has no variance.
    """
    samples: list[Sample] = []
    for path, label_file in zip(Progress(iterable=paths, unit=" files"), labels or [None] * len(paths), strict=True):
        events = read_events(path, layout, label_file)
        warn_of_mistakes(path, events.features, layout.features, scorer.artefact.metadata.reference)
        scores = scorer.score(events.features).astype(float)
        is_signal = np.zeros(len(events), bool) if events.labels is None else events.labels == SIGNAL
        classes = {}
        for name, mask in (("background", ~is_signal), ("signal", is_signal)):
            part = events[mask]
            if len(part) == 1:
                raise EventsError(f"{path} has 1 {name} event, expected none or at least 2: add events, or drop it")
            rows = np.flatnonzero(mask)
            classes[name] = _scored(scorer.artefact, part.features, rows, scores[mask]) if len(part) else None
        if None in classes.values() and not (samples and alone):
            first = "the first file, whose background the others are judged against: name a file with both first"
            every = "each file: say with --label or --labels where the labels are"
            raise EventsError(
                f"{path} holds {'signal' if classes['signal'] else 'background'} alone, expected background (label 0) "
                f"and signal (label 1) in {first if alone else every}"
            )
        samples.append(Sample(sample_name(path), sha256_of(path), **classes))
    return samples


def _scored(artefact: Artefact, features: NDArray[np.float32], rows: NDArray[np.int64], scores: Floats) -> Scored:
    feature_set = features_of(artefact)
    if feature_set.of_jets:
        seen = quantities(features)
    else:
        seen = dict(zip(feature_set.names, features.T.astype(np.float64), strict=True))
    return Scored(digest(features), features, rows, scores, seen, prior_scores(artefact, features))


def by_class(samples: Sequence[Sample]) -> tuple[dict[str, Scored], dict[str, Scored]]:
    """Return the backgrounds and the signals of samples, by the name of the sample."""
    return (
        {sample.name: sample.background for sample in samples if sample.background},
        {sample.name: sample.signal for sample in samples if sample.signal},
    )


def judged(samples: Sequence[Sample]) -> list[tuple[Sample, Scored, Scored]]:
    """Return each sample with signal, the background to compare with (its own, or else the first), and its signal.

    The first sample must have both.
    """
    first = samples[0].background
    return [(one, background, one.signal) for one in samples if one.signal and (background := one.background or first)]

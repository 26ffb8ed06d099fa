"""Scoring of an events file with the code of the service."""

import heapq
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import ArrowException

from service.model.artefact import OUTPUT_NAME
from service.model.explanation import Explainer
from service.model.reference import Reference
from service.model.scorer import Scorer
from training.errors import EventsError
from training.evaluation.mistakes import warn_of_mistakes
from training.events.events import LABEL, ROWS_PER_CHUNK, EventsFile
from training.events.writers import Writer
from training.progress import Progress

TOP_ANOMALIES = 10
MODEL = "model"  # attribute or column that names the model
CONTRIBUTION = "contribution_"  # prefix of a feature's name in the name of a column
REFERENCE_SCORE = "reference_score"  # attribute: contributions add up to the score minus this value
MOST_NAMED = 20  # maximum number of dropped columns named in a warning
ROWS_PER_EXPLAINED_CHUNK = 256  # a second of work
WORKING_POINT, THRESHOLD, ACCEPTED = "working_point", "threshold", "accepted"  # attributes, and the column of 0 and 1

# Types that not every format can store.
_STORED_AS = {"bool": "int8", "float16": "float32", "float128": "float64"}

_log = logging.getLogger(__name__)

Score = Callable[[int, NDArray[Any]], NDArray[np.float32]]
"""Takes the first row and the features (n, features) of consecutive events, and returns their scores (n,)."""


@dataclass
class Statistics:
    """Count, range, mean, standard deviation and highest values of scores, updated in chunks."""

    events: int = 0
    lowest: float = np.inf
    highest: float = -np.inf
    mean: float = 0.0
    squares: float = 0.0  # sum of squared differences from the mean
    # Score and -row, so that the first of equal scores ranks higher.
    top: list[tuple[float, int]] = field(default_factory=list)
    accepted: int = 0  # events above the threshold

    def add(self, scores: NDArray[np.float32]) -> None:
        """Add the scores (n,) of the next rows; samples are combined as in Chan, Golub and LeVeque (1979)."""
        wide = scores.astype(np.float64)
        total = self.events + len(wide)
        shift = wide.mean() - self.mean
        self.squares += wide.var() * len(wide) + shift**2 * self.events * len(wide) / total
        self.mean += shift * len(wide) / total
        self.lowest, self.highest = min(self.lowest, wide.min()), max(self.highest, wide.max())
        highest = np.argsort(-wide, kind="stable")[:TOP_ANOMALIES]
        self.top = heapq.nlargest(TOP_ANOMALIES, [*self.top, *((wide[row], -(self.events + row)) for row in highest)])
        self.events = total

    def __str__(self) -> str:
        lines = [
            f"{self.events:,} events, anomaly score {self.lowest:.6g} to {self.highest:.6g}, mean {self.mean:.6g}, "
            f"standard deviation {np.sqrt(self.squares / self.events):.6g}",
            "most anomalous:",
            "         row  anomaly score",
        ]
        return "\n".join([*lines, *(f"{-row:>12}  {score:.6g}" for score, row in self.top)])


def score_file(
    scorer: Scorer,
    file: EventsFile,
    out: Path,
    write: Writer,
    model_column: bool = False,
    working_point: tuple[str, float] | None = None,
    explainer: Explainer | None = None,
) -> Statistics:
    """Score every event of an open file and write it with `write_scored`."""

    def score(_: int, features: NDArray[Any]) -> NDArray[np.float32]:
        return scorer.score(features.astype(np.float32))

    artefact = scorer.artefact
    reference = artefact.metadata.reference
    return write_scored(
        score, artefact.identity, file, out, write, model_column, working_point, reference, explainer=explainer
    )


def write_scored(
    score: Score,
    identity: str,
    file: EventsFile,
    out: Path,
    write: Writer,
    model_column: bool = False,
    working_point: tuple[str, float] | None = None,
    reference: Reference | None = None,
    progress: bool = True,
    explainer: Explainer | None = None,
) -> Statistics:
    """Write every event of an open file with its anomaly score; return the statistics of the scores.

    The columns are the features, the label as `label` if known, all other numeric columns unchanged, and the score;
    with a working point (name, threshold) whether the score is above it, with an `explainer` the contribution of each
    feature to the score, and with `model_column` the model's identity. Parquet and HDF5 files also have model, working
    point and reference score as attributes. Dropped columns are logged, and so are likely mistakes in the events by
    comparison with the model's `reference`. The events are streamed, with a `progress` bar, and the write is atomic.
    Raises EventsError when the events cannot be read, or the format cannot store their columns.
    """
    statistics, attributes = Statistics(), {MODEL: identity}
    made = {OUTPUT_NAME, *([MODEL] if model_column else []), *([LABEL] if file.has_labels else [])}
    if working_point is not None:
        made.add(ACCEPTED)
        attributes |= {WORKING_POINT: working_point[0], THRESHOLD: str(working_point[1])}
    if explainer is not None:
        made.update(CONTRIBUTION + name for name in file.features.names)
        attributes |= {REFERENCE_SCORE: str(explainer.reference_score)}
    rows_per_chunk = ROWS_PER_CHUNK if explainer is None else ROWS_PER_EXPLAINED_CHUNK
    names = file.features.names
    kept = _kept_columns(file, out, made)

    def scored() -> Generator[Mapping[str, Any], None, None]:
        with Progress(total=len(file), unit=" events", unit_scale=True) if progress else nullcontext() as bar:
            for start in range(0, len(file), rows_per_chunk):
                stop = min(start + rows_per_chunk, len(file))
                features = file.read_features(start, stop)
                if start == 0:
                    warn_of_mistakes(file.frame.path, features, file.features, reference)
                scores = score(start, features)
                statistics.add(scores)
                columns = dict(zip(names, features.T, strict=True)) | _read(file, kept, start, stop)
                columns[OUTPUT_NAME] = scores
                if explainer is not None:
                    explained = explainer.explain(features.astype(np.float32))
                    contributions = zip(names, explained.contributions.T, strict=True)
                    columns |= {CONTRIBUTION + name: values for name, values in contributions}
                if working_point is not None:
                    columns[ACCEPTED] = accepted(scores, working_point[1]).astype(np.int8)
                    statistics.accepted += int(columns[ACCEPTED].sum())
                yield {**columns, MODEL: [identity] * len(scores)} if model_column else columns
                if bar is not None:
                    bar.update(len(scores))

    with closing(scored()) as chunks:  # completes the line of the progress bar when a writer fails
        try:
            write(out, chunks, attributes)
        except ArrowException as error:
            raise EventsError(
                f"{out}: cannot hold the columns of {file.frame.path}: {error}; choose another format"
            ) from error
    return statistics


def accepted(scores: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Return whether scores (n,) are above a threshold, as the service does."""
    return scores.astype(np.float64) > threshold


def _kept_columns(file: EventsFile, out: Path, made: set[str]) -> dict[str, np.dtype[Any]]:
    """Return the other numeric columns, which are kept, and their dtypes; log the columns that are dropped."""
    frame = file.frame
    others = [name for name in frame.columns if name not in (*file.features.names, file.label)]
    kept = [name for name in others if name not in made and frame.is_numeric(name)]
    lost = [f"column '{name}' ({'made anew' if name in made else 'no numbers'})" for name in others if name not in kept]
    if not frame.has_default_index:
        lost.append("the row index (rows keep their order)")
    if len(lost) > MOST_NAMED:
        lost[MOST_NAMED:] = [f"{len(lost) - MOST_NAMED} more columns"]
    if lost:
        _log.warning("%s: not kept in %s: %s", frame.path, out, ", ".join(lost))
    return {name: np.dtype(_STORED_AS.get(frame.dtypes[name], frame.dtypes[name])) for name in kept}


def _read(file: EventsFile, kept: Mapping[str, np.dtype[Any]], start: int, stop: int) -> dict[str, NDArray[Any]]:
    """Return the labels and the other columns of the rows start to stop, each (n,)."""
    found: dict[str, NDArray[Any]] = {}
    for dtype in set(kept.values()):
        names = [name for name in kept if kept[name] == dtype]
        found |= zip(names, file.frame.read(names, start, stop, dtype).T, strict=True)
    labels = file.read_labels(start, stop)
    return {**({} if labels is None else {LABEL: labels.astype(np.int64)}), **{name: found[name] for name in kept}}

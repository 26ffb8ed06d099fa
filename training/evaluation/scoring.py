"""A whole events file through an artefact, by the very code that serves it; knows no torch."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet
from tqdm import tqdm

from service.model.artefact import OUTPUT_NAME
from service.model.scorer import Scorer
from training.events.events import FEATURE_NAMES, LABEL, count_events, require_features, stream_events
from training.events.hdf5_writer import write_frame
from training.files import atomic_write, require_output

TOP_ANOMALIES = 10

Columns = dict[str, NDArray[Any]]


def score_file(scorer: Scorer, events: Path, out: Path, key: str | None = None) -> NDArray[np.float32]:
    """Write the features of every event of a file, its label if it has one, and its anomaly score; return the scores.

    The format follows the ending of `out`, one of WRITERS. The file is streamed and appears whole or not at all.
    Raises EventsError when the events cannot be read, or the model takes other features than the published ones.
    """
    require_features(scorer.artefact.identity, scorer.artefact.metadata.feature_names)
    require_output(out, events)
    scores: list[NDArray[np.float32]] = []

    def scored() -> Generator[Columns, None, None]:
        with tqdm(total=count_events(events, key), unit=" events", unit_scale=True) as progress:
            for chunk in stream_events(events, key, dtype=None):
                scores.append(scorer.score(chunk.features.astype(np.float32)))
                label = {} if chunk.labels is None else {LABEL: chunk.labels.astype(np.int64)}
                yield {**dict(zip(FEATURE_NAMES, chunk.features.T, strict=True)), **label, OUTPUT_NAME: scores[-1]}
                progress.update(len(chunk))

    with closing(scored()) as chunks:  # a writer that fails leaves the progress bar's line complete
        WRITERS[out.suffix](out, chunks)
    return np.concatenate(scores)


def summary(scores: NDArray[np.float32]) -> str:
    """Return count, range, mean, median and standard deviation of scores (n,), and the highest with their rows."""
    wide = scores.astype(np.float64)
    lines = [
        f"{len(scores):,} events, anomaly score {wide.min():.6g} to {wide.max():.6g}, mean {wide.mean():.6g}, "
        f"median {np.median(wide):.6g}, standard deviation {wide.std():.6g}",
        "most anomalous:",
        "         row  anomaly score",
    ]
    top = np.argsort(-scores, kind="stable")[:TOP_ANOMALIES]
    return "\n".join([*lines, *(f"{row:>12}  {scores[row]:.6g}" for row in top)])


def _write_csv(out: Path, chunks: Iterator[Columns]) -> None:
    _write_tables(out, chunks, csv.CSVWriter)


def _write_parquet(out: Path, chunks: Iterator[Columns]) -> None:
    _write_tables(out, chunks, parquet.ParquetWriter)


def _write_tables(out: Path, chunks: Iterator[Columns], writer: Callable[[Path, pa.Schema], Any]) -> None:
    first = pa.table(next(chunks))
    with atomic_write(out) as path, writer(path, first.schema) as file:
        file.write_table(first)
        for columns in chunks:
            file.write_table(pa.table(columns))


WRITERS: dict[str, Callable[[Path, Iterator[Columns]], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".h5": write_frame,
}

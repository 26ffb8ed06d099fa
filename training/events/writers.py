"""The formats in which columns are written, by the ending of the file's name."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from training.events.csv import write_csv
from training.events.hdf5_writer import write_frame
from training.events.parquet import write_parquet

# Takes the file, chunks of equally named columns, and attributes of the whole. The file appears whole or not at all.
Writer = Callable[[Path, Iterator[Mapping[str, Any]], Mapping[str, str]], None]

WRITERS: dict[str, Writer] = {
    ".csv": write_csv,
    ".csv.gz": write_csv,
    ".parquet": write_parquet,
    ".pq": write_parquet,
    ".h5": write_frame,
    ".hdf5": write_frame,
}


def writer_of(path: Path) -> Writer | None:
    """Return what writes the format that a file's name ends in, in capitals or not; None when it is unknown."""
    name = path.name.lower()
    return next((writer for ending, writer in WRITERS.items() if name.endswith(ending)), None)

"""Writers of columns, chosen by the suffix of the file's name."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from training.errors import EventsError
from training.events.csv import write_csv
from training.events.hdf5_writer import write_frame
from training.events.parquet import write_parquet

# Takes the path, chunks of the same columns, and attributes of the table. The write is atomic.
Writer = Callable[[Path, Iterator[Mapping[str, Any]], Mapping[str, str]], None]


def _write_root(out: Path, chunks: Iterator[Mapping[str, Any]], attributes: Mapping[str, str]) -> None:
    """Write a ROOT file. Raises EventsError if its optional packages are missing."""
    try:
        from training.events.root import write_root
    except ModuleNotFoundError as error:
        remedy = "pip install 'lhc-anomaly[root]', or choose another format"
        raise EventsError(f"{out}: writing it needs the package {error.name}: {remedy}") from error
    write_root(out, chunks, attributes)


WRITERS: dict[str, Writer] = {
    ".csv": write_csv,
    ".csv.gz": write_csv,
    ".parquet": write_parquet,
    ".pq": write_parquet,
    ".h5": write_frame,
    ".hdf5": write_frame,
    ".root": _write_root,
}


def writer_of(path: Path) -> Writer | None:
    """Return the writer for the suffix of a file's name, ignoring case; None if the suffix is unknown."""
    name = path.name.lower()
    return next((writer for ending, writer in WRITERS.items() if name.endswith(ending)), None)

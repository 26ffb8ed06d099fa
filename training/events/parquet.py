"""Parquet files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from training.errors import EventsError
from training.events.arrow import ArrowFrame, Batches, Window, dtypes_of, explained
from training.files import atomic_write

_ROWS_PER_BATCH = 65536


@dataclass(frozen=True)
class ParquetFrame(ArrowFrame):
    """An open Parquet file; only the requested columns are read."""

    _file: parquet.ParquetFile
    _windows: dict[tuple[str, ...], Window] = field(default_factory=dict)

    def _table(self, columns: Sequence[str], start: int, stop: int) -> pa.Table:
        groups = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        firsts = np.cumsum([0, *groups[:-1]])

        def begin(row: int) -> Batches:
            group = int(np.searchsorted(firsts, row, side="right")) - 1
            later = range(group, len(groups))
            return self._file.iter_batches(_ROWS_PER_BATCH, later, list(columns)), int(firsts[group])

        if (named := tuple(columns)) not in self._windows:
            self._windows[named] = Window(begin)
        return self._windows[named].rows(start, stop)


@contextmanager
def open_parquet(path: Path, key: str | None = None) -> Iterator[ParquetFrame]:
    """Open a Parquet file. Raises EventsError if the file is invalid or has no rows, or if a key is given."""
    if key is not None:
        raise EventsError(f"{path}: a Parquet file is one table, and has no '{key}'. Leave --key out.")
    with explained(path, "it as Parquet"):
        file = parquet.ParquetFile(path, memory_map=True)
    with file:
        if not file.metadata.num_rows:
            raise EventsError(f"{path}: has no rows, expected events. Check how the file was written.")
        yield ParquetFrame(path, None, file.metadata.num_rows, dtypes_of(file.schema_arrow), file)


def write_parquet(out: Path, chunks: Iterator[Mapping[str, Any]], attributes: Mapping[str, str]) -> None:
    """Write at least one chunk of columns, each (n,); attributes become metadata of the schema."""
    first = pa.table(next(chunks))
    schema = first.schema.with_metadata(dict(attributes))
    # A dictionary of floats, which are nearly all distinct, would take most of the time and a third of the file.
    repeated = [field.name for field in schema if not pa.types.is_floating(field.type)]
    with (
        atomic_write(out) as path,
        path.open("r+b") as file,
        parquet.ParquetWriter(file, schema, use_dictionary=repeated or False) as writer,
    ):
        for table in chain([first], map(pa.table, chunks)):
            writer.write_table(table.cast(schema))

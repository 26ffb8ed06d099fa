"""Columns in Parquet files."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from training.files import atomic_write


def write_parquet(out: Path, chunks: Iterator[Mapping[str, Any]], attributes: Mapping[str, str]) -> None:
    """Write at least one chunk of columns, each (n,); the attributes become metadata of the schema."""
    first = pa.table(next(chunks))
    schema = first.schema.with_metadata(dict(attributes))
    with atomic_write(out) as path, path.open("r+b") as file, parquet.ParquetWriter(file, schema) as writer:
        for table in chain([first], map(pa.table, chunks)):
            writer.write_table(table.cast(schema))

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
    # A dictionary of measured numbers, of which hardly two are equal, takes most of the time and a third of the file.
    repeated = [field.name for field in schema if not pa.types.is_floating(field.type)]
    with (
        atomic_write(out) as path,
        path.open("r+b") as file,
        parquet.ParquetWriter(file, schema, use_dictionary=repeated or False) as writer,
    ):
        for table in chain([first], map(pa.table, chunks)):
            writer.write_table(table.cast(schema))

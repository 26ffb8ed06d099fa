"""Columns in CSV files, compressed where the name ends in .gz."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from training.files import atomic_write


def write_csv(out: Path, chunks: Iterator[Mapping[str, Any]], attributes: Mapping[str, str]) -> None:  # noqa: ARG001
    """Write at least one chunk of columns, each (n,), under a header; CSV has no place for attributes."""
    first = pa.table(next(chunks))
    with ExitStack() as opened:
        stream: Any = opened.enter_context(opened.enter_context(atomic_write(out)).open("r+b"))
        if out.suffix.lower() == ".gz":
            stream = opened.enter_context(pa.CompressedOutputStream(stream, "gzip"))
        writer = opened.enter_context(csv.CSVWriter(stream, first.schema))
        for table in chain([first], map(pa.table, chunks)):
            writer.write_table(table)

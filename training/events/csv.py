"""Columns in CSV files, compressed where the name ends in .gz."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from training.errors import EventsError
from training.events.arrow import ArrowFrame, Window, dtypes_of, explained
from training.files import atomic_write

_BLOCK_BYTES = 16 << 20  # parsed at a time, and all that is looked at to tell what a column holds
_SEPARATORS = (",", ";", "\t", " ")


@dataclass(frozen=True)
class CsvFrame(ArrowFrame):
    """An open CSV file, which is parsed from its first row on."""

    _window: Window

    def _table(self, columns: Sequence[str], start: int, stop: int) -> pa.Table:  # noqa: ARG002  lines have all columns
        return self._window.rows(start, stop)


@contextmanager
def open_csv(path: Path, key: str | None = None) -> Iterator[CsvFrame]:
    """Open a CSV file: a line for each event, below a line of names unless the first line has numbers alone.

    Values are separated by commas, semicolons, tabs or spaces. The file is read once to count its rows, and again for
    each pass over them. Raises EventsError for a file that is none, has no rows, or is given a key.
    """
    if key is not None:
        raise EventsError(f"{path}: a CSV file is one table, and has no '{key}'. Leave --key out.")
    with ExitStack() as opened:
        with explained(path, "it as CSV"):
            frame = _frame(path, opened)
        yield frame


def _frame(path: Path, opened: ExitStack) -> CsvFrame:
    header = _first_line(path)
    separator = next((one for one in _SEPARATORS if one in header), ",")
    fields = [field.strip().strip('"') for field in header.lstrip("# ").split(separator)]
    named = not all(map(_is_number, fields))
    names = fields if named else list(map(str, range(len(fields))))
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"it has more than one column '{repeated[0]}'")

    def read(columns: Sequence[str]) -> Any:
        stream = pa.input_stream(str(path))  # decompresses what ends in .gz
        opened.callback(stream.close)
        lines = csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=names, skip_rows=int(named))
        values = csv.ConvertOptions(include_columns=columns)
        return csv.open_csv(stream, lines, csv.ParseOptions(delimiter=separator), values)

    rows = sum(map(len, read(names[:1])))
    if not rows:
        raise EventsError(f"{path}: has no rows, expected events. Check how the file was written.")
    return CsvFrame(path, None, rows, dtypes_of(read(names).schema), Window(lambda _: (read(names), 0)))


def _first_line(path: Path) -> str:
    with pa.input_stream(str(path)) as stream:
        line: bytes = stream.read(1 << 20).partition(b"\n")[0]
    return line.decode("utf-8-sig").strip()


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", text, re.IGNORECASE) is not None


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

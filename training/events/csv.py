"""Columns in CSV files, compressed where the name ends in .gz."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from csv import reader
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from training.errors import EventsError
from training.events.arrow import ArrowFrame, Window, dtypes_of, explained
from training.events.frame import NUMBER
from training.files import atomic_write

_BLOCK_BYTES = 16 << 20  # parsed at a time, and all that is looked at to tell what a column holds
_SEPARATORS = (",", ";", "\t", " ")
_MISSING = frozenset(csv.ConvertOptions().null_values)


@dataclass(frozen=True)
class CsvFrame(ArrowFrame):
    """An open CSV file, which is parsed from its first row on."""

    _window: Window
    _separator: str
    _named: bool  # by the first line

    def require(self, columns: Sequence[str]) -> None:
        """Raise EventsError when one of `columns` is missing, or is not numeric: with the line of its first word."""
        self._require_numbers([name for name in columns if self.dtypes.get(name) == "string"])
        super().require(columns)

    def _table(self, columns: Sequence[str], start: int, stop: int) -> pa.Table:  # noqa: ARG002  lines have all columns
        try:
            return self._window.rows(start, stop)
        except pa.ArrowInvalid:  # by a word, or a fraction, after a block of numbers, or of whole ones
            self._require_numbers([name for name, dtype in self.dtypes.items() if dtype in ("int64", "float64")])
            raise

    def _require_numbers(self, columns: Sequence[str]) -> None:
        """Raise EventsError for the first value that is no number, and in columns of integers for one that is none."""
        if not columns:
            return
        places = [(self.columns.index(name), name, self.dtypes[name] == "int64") for name in columns]
        with TextIOWrapper(pa.input_stream(str(self.path)), "utf-8-sig", "replace", newline="") as text:
            lines = reader(text, delimiter=self._separator)
            for fields in islice(lines, int(self._named), None):
                for place, name, whole in places:
                    if fields and not _is_value(fields[place], whole):
                        expected = "a whole number, as the lines above have" if whole else "a number"
                        raise EventsError(
                            f"{self.path}: line {lines.line_num}, column '{name}', is {fields[place][:40]!r}, expected "
                            f"{expected}. Correct it or drop the line, or name another column with --columns."
                        )


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

    def read(columns: Sequence[str], types: Mapping[str, pa.DataType] | None = None) -> Any:
        stream = pa.input_stream(str(path))  # decompresses what ends in .gz
        opened.callback(stream.close)
        lines = csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=names, skip_rows=int(named))
        values = csv.ConvertOptions(include_columns=columns, column_types=types)
        return csv.open_csv(stream, lines, csv.ParseOptions(delimiter=separator), values)

    rows = sum(map(len, read(names[:1], {names[0]: pa.binary()})))
    if not rows:
        raise EventsError(f"{path}: has no rows, expected events. Check how the file was written.")
    dtypes = dtypes_of(read(names).schema)
    numeric = [name for name in names if NUMBER.fullmatch(dtypes[name])]
    return CsvFrame(path, None, rows, dtypes, Window(lambda _: (read(numeric), 0)), separator, named)


def _first_line(path: Path) -> str:
    with pa.input_stream(str(path)) as stream:
        line: bytes = stream.read(1 << 20).partition(b"\n")[0]
    return line.decode("utf-8-sig").strip()


def _is_number(text: str) -> bool:
    return (
        re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf(inity)?)", text, re.IGNORECASE) is not None
    )


def _is_value(text: str, whole: bool) -> bool:
    """Tell whether a field is a number, or is missing; `whole` asks for an integer."""
    number = text.strip()
    return text in _MISSING or (number.lstrip("+-").isdecimal() if whole else _is_number(number))


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

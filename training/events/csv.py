"""CSV files, compressed if the name ends in .gz."""

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

_BLOCK_BYTES = 16 << 20  # size of a parsed block; types are inferred from the first block
_SEPARATORS = (",", ";", "\t", " ")
_MISSING = frozenset(csv.ConvertOptions().null_values)


@dataclass(frozen=True)
class CsvFrame(ArrowFrame):
    """An open CSV file, parsed sequentially from the first row."""

    _window: Window
    _separator: str
    _named: bool  # whether the first line has the names

    def require(self, columns: Sequence[str]) -> None:
        """Raise EventsError when one of `columns` is missing or not numeric, naming the line of the first bad value."""
        self._require_numbers([name for name in columns if self.dtypes.get(name) == "string"])
        super().require(columns)

    def _table(self, columns: Sequence[str], start: int, stop: int) -> pa.Table:  # noqa: ARG002  lines have all columns
        try:
            return self._window.rows(start, stop)
        except pa.ArrowInvalid:  # a word after a block of numbers, or a fraction after a block of integers
            self._require_numbers([name for name, dtype in self.dtypes.items() if dtype in ("int64", "float64")])
            raise

    def _require_numbers(self, columns: Sequence[str]) -> None:
        """Raise EventsError for the first value that is not a number, or in an integer column not an integer."""
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
    """Open a CSV file with one event a line. The first line has the column names unless it has only numbers.

    Values are separated by commas, semicolons, tabs or spaces. The file is read once to count the rows, and again for
    each pass over them. Raises EventsError if the file is not CSV or has no rows, or if a key is given.
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
        stream = pa.input_stream(str(path))  # decompresses .gz files
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
    """Return whether a field is a number (an integer if `whole`) or missing."""
    number = text.strip()
    return text in _MISSING or (number.lstrip("+-").isdecimal() if whole else _is_number(number))


def write_csv(out: Path, chunks: Iterator[Mapping[str, Any]], attributes: Mapping[str, str]) -> None:  # noqa: ARG001
    """Write a header and at least one chunk of columns, each (n,). CSV cannot store the attributes."""
    first = pa.table(next(chunks))
    with ExitStack() as opened:
        stream: Any = opened.enter_context(opened.enter_context(atomic_write(out)).open("r+b"))
        if out.suffix.lower() == ".gz":
            stream = opened.enter_context(pa.CompressedOutputStream(stream, "gzip"))
        writer = opened.enter_context(csv.CSVWriter(stream, first.schema))
        for table in chain([first], map(pa.table, chunks)):
            writer.write_table(table)

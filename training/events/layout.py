"""Where a file has its events: which table, which columns, which labels."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.errors import EventsError

COLUMNS = "columns"  # table of a TOML file


@dataclass(frozen=True)
class Layout:
    """The table and the columns that events are read from; by default the only table, and columns of their names."""

    key: str | None = None
    label: str | None = None  # column of the labels
    columns: Mapping[str, str] = field(default_factory=dict)  # feature, or `label` -> column or formula


DEFAULT_LAYOUT = Layout()


def read_columns(path: Path) -> dict[str, str]:
    """Return the columns or formulas by feature in the table [columns] of a TOML file. Raises EventsError."""
    columns = read_table(path, COLUMNS)
    if wrong := next((name for name, value in columns.items() if not isinstance(value, str | int)), None):
        raise EventsError(f"{path}: {wrong} is {columns[wrong]!r}, expected the name of a column or a formula")
    return {name: str(value) for name, value in columns.items()}


def read_table(path: Path, table: str) -> dict[str, Any]:
    """Return one table of a TOML file. Raises EventsError when there is none."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise EventsError(f"{path}: cannot be read as TOML: {reason}. Correct it.") from error
    values = found.get(table)
    if not isinstance(values, dict) or not values:
        raise EventsError(f"{path}: has no table [{table}], expected one with a line for each feature. Add it.")
    return values

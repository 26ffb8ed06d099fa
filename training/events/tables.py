"""Tables of TOML files."""

import tomllib
from pathlib import Path
from typing import Any

from training.errors import EventsError


def read_table(path: Path, table: str) -> dict[str, Any]:
    """Return a table of a TOML file. Raises EventsError when the file cannot be read or has no such table."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise EventsError(f"{path}: cannot be read as TOML: {reason}. Correct it.") from error
    values = found.get(table)
    if not isinstance(values, dict) or not values:
        raise EventsError(f"{path}: has no table [{table}], expected one with a line for each feature. Add it.")
    return values

"""The layout of an events file: tables, features, columns, labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.errors import EventsError
from training.events.features import DIJET, FeatureSet
from training.events.tables import read_table

COLUMNS = "columns"  # table of a TOML file


@dataclass(frozen=True)
class Layout:
    """The features and their columns; by default those of two jets, in the only table, in columns of the same names."""

    keys: tuple[str, ...] = ()  # tables to read in turn, each KEY or KEY=LABEL; if empty, the only table
    label: str | None = None  # label column
    columns: Mapping[str, str] = field(default_factory=dict)  # feature or `label` -> column or formula
    features: FeatureSet = DIJET  # features to read

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Layout":
        """Return the layout from its `asdict`, which may come from JSON."""
        names, units = stored["features"]["names"], stored["features"]["units"]
        return cls(**{**stored, "keys": tuple(stored["keys"]), "features": FeatureSet(tuple(names), tuple(units))})


DEFAULT_LAYOUT = Layout()


def read_columns(path: Path) -> dict[str, str]:
    """Return the column or formula of each feature in the table [columns] of a TOML file. Raises EventsError."""
    columns = read_table(path, COLUMNS)
    if wrong := next((name for name, value in columns.items() if not isinstance(value, str | int)), None):
        raise EventsError(f"{path}: {wrong} is {columns[wrong]!r}, expected the name of a column or a formula")
    return {name: str(value) for name, value in columns.items()}

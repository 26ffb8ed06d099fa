"""What is read of a file of events, and where it is: table, features, columns, labels."""

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
    """The features and where they are; by default those of two jets, in the only table, in columns of their names."""

    keys: tuple[str, ...] = ()  # tables that are read in turn, each KEY or KEY=LABEL; the only one without any
    label: str | None = None  # column of the labels
    columns: Mapping[str, str] = field(default_factory=dict)  # feature, or `label` -> column or formula
    features: FeatureSet = DIJET  # what is read

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Layout":
        """Return the layout of which this is `asdict`, perhaps from JSON."""
        names, units = stored["features"]["names"], stored["features"]["units"]
        return cls(**{**stored, "keys": tuple(stored["keys"]), "features": FeatureSet(tuple(names), tuple(units))})


DEFAULT_LAYOUT = Layout()


def read_columns(path: Path) -> dict[str, str]:
    """Return the columns or formulas by feature in the table [columns] of a TOML file. Raises EventsError."""
    columns = read_table(path, COLUMNS)
    if wrong := next((name for name, value in columns.items() if not isinstance(value, str | int)), None):
        raise EventsError(f"{path}: {wrong} is {columns[wrong]!r}, expected the name of a column or a formula")
    return {name: str(value) for name, value in columns.items()}

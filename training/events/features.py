"""The features of events: names, in order, and units."""

from dataclasses import dataclass
from pathlib import Path

from training.errors import EventsError
from training.events.tables import read_table

# Jet 1 has the highest pT of the event, jet 2 the second highest.
FEATURE_NAMES: tuple[str, ...] = (
    *("pxj1", "pyj1", "pzj1", "mj1", "tau1j1", "tau2j1", "tau3j1"),
    *("pxj2", "pyj2", "pzj2", "mj2", "tau1j2", "tau2j2", "tau3j2"),
)
FEATURE_UNITS: tuple[str, ...] = ("GeV",) * len(FEATURE_NAMES)  # also the taus: N-subjettiness is not normalised here

FEATURES = "features"  # table of a TOML file
MAX_CHARACTERS = 100  # of a name or a unit in an artefact
TAKEN = ("label", "anomaly_score", "accepted", "model")  # names of other columns in a file


@dataclass(frozen=True)
class FeatureSet:
    """The input features of a detector."""

    names: tuple[str, ...]
    units: tuple[str, ...]

    @property
    def of_jets(self) -> bool:
        """Whether these are the 14 features of two jets in GeV, whose meaning the code knows."""
        return (self.names, self.units) == (FEATURE_NAMES, FEATURE_UNITS)


DIJET = FeatureSet(FEATURE_NAMES, FEATURE_UNITS)
"""The features of the LHC Olympics, which are the default."""


def read_features(path: Path) -> FeatureSet:
    """Return the features and units in the table [features] of a TOML file, in its order.

    Raises EventsError when the file or the table is invalid.
    """
    found = read_table(path, FEATURES)
    for name, unit in found.items():
        if not isinstance(unit, str):
            raise EventsError(f"{path}: the unit of {name} is {unit!r}, expected a text, empty where it has none")
        if name in TAKEN:
            raise EventsError(f"{path}: {name} cannot be a feature: files have a column of that name beside them")
        if not name or any(len(text) > MAX_CHARACTERS or not text.isprintable() for text in (name, unit)):
            expected = f"at most {MAX_CHARACTERS} printable characters each"
            raise EventsError(f"{path}: the feature {name!r} has the unit {unit!r}, expected {expected}")
    return FeatureSet(tuple(found), tuple(found.values()))

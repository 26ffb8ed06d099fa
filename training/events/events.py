"""LHC events: their features, their labels, and the files they live in.

Does not know how a file is laid out (see `training.events.hdf5`), nor what is anomalous.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from training.errors import EventsError
from training.events.hdf5 import Frame, open_frame
from training.events.hdf5_writer import write_frame

# Jet 1 has the highest pT of the event, jet 2 the second highest.
FEATURE_NAMES: tuple[str, ...] = (
    *("pxj1", "pyj1", "pzj1", "mj1", "tau1j1", "tau2j1", "tau3j1"),
    *("pxj2", "pyj2", "pzj2", "mj2", "tau1j2", "tau2j2", "tau3j2"),
)
FEATURE_UNITS: tuple[str, ...] = ("GeV",) * len(FEATURE_NAMES)  # taus too: N-subjettiness is not normalised here

LABEL = "label"  # never a feature: it is the answer
BACKGROUND = 0
SIGNAL = 1

_ROWS_PER_CHUNK = 65536


@dataclass(frozen=True, eq=False)
class Events:
    """Events in memory: features in the order of FEATURE_NAMES, in GeV, and labels where they are known.

    Features are float32, as the model takes them, although files hold float64: half the memory, and a rounding of less
    than one part in ten million. Only `stream_events` can be asked for what the file holds.
    """

    features: NDArray[Any]  # (n, 14) float32
    labels: NDArray[np.int8] | None = None  # (n,), each BACKGROUND or SIGNAL

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.integer]) -> "Events":
        """Return the events at `rows`: a slice, a mask (n,) or indices (k,)."""
        return Events(self.features[rows], None if self.labels is None else self.labels[rows])

    @property
    def background(self) -> "Events":
        """The events with label BACKGROUND, or all when there are no labels."""
        return self if self.labels is None else self[self.labels == BACKGROUND]

    @property
    def signal(self) -> "Events":
        """The events with label SIGNAL: none when there are no labels."""
        return self[:0] if self.labels is None else self[self.labels == SIGNAL]


def read_events(path: str | Path, key: str | None = None) -> Events:
    """Read all events of a DataFrame in HDF5, whatever its pandas layout, order of columns and further columns.

    Labels are read where there is a column `label`. Raises EventsError when the file cannot be read (see `open_frame`),
    lacks a feature, or holds a feature that is not finite in float32 or a label other than 0 and 1.
    """
    with open_frame(path, key) as frame:
        return _read(frame, 0, frame.rows, np.float32)


def read_background(path: str | Path, key: str | None = None) -> NDArray[np.float32]:
    """Return the features of the background events of a file, (n, 14): labels select, and go no further.

    Raises EventsError as `read_events` does, and when there is no background.
    """
    features: NDArray[np.float32] = read_events(path, key).background.features
    if not len(features):
        raise EventsError(f"{path} holds no background event (label 0), expected some. Give a file that does.")
    return features


def digest(features: NDArray[np.float32]) -> str:
    """Return the SHA-256 of features (n, 14) in hexadecimal: the identity of a sample, whatever file it came from."""
    return hashlib.sha256(np.ascontiguousarray(features, dtype="<f4").tobytes()).hexdigest()


def require_features(model: str, names: Sequence[str]) -> None:
    """Raise EventsError when a model takes other features, or in another order, than an events file has."""
    if tuple(names) != FEATURE_NAMES:
        raise EventsError(
            f"{model} takes the features {', '.join(names)}, and an events file has {', '.join(FEATURE_NAMES)}: use a "
            "model that was trained on them"
        )


def count_events(path: str | Path, key: str | None = None) -> int:
    """Return how many events a file has. Raises EventsError when it cannot be read (see `open_frame`)."""
    with open_frame(path, key) as frame:
        return frame.rows


def stream_events(
    path: str | Path, key: str | None = None, rows: int = _ROWS_PER_CHUNK, dtype: DTypeLike | None = np.float32
) -> Iterator[Events]:
    """Yield the events of a file in order, at most `rows` at a time, for files that need not fit in memory.

    Features come in a floating `dtype`; None keeps the file's own. Raises EventsError as `read_events` does, on
    reaching the offending row.
    """
    with open_frame(path, key) as frame:
        for start in range(0, frame.rows, rows):
            yield _read(frame, start, min(start + rows, frame.rows), dtype)


def write_events(path: str | Path, events: Events) -> None:
    """Write events as pandas.read_hdf opens them: float32 features and, where known, int64 labels as published.

    The file appears whole or not at all. Raises EventsError when there are no events, OSError when writing fails.
    """
    write_frame(path, (_columns(events[i : i + _ROWS_PER_CHUNK]) for i in range(0, len(events), _ROWS_PER_CHUNK)))


def _columns(events: Events) -> dict[str, NDArray[np.float32 | np.int64]]:
    columns = dict(zip(FEATURE_NAMES, events.features.T, strict=True))
    return columns if events.labels is None else {**columns, LABEL: events.labels.astype(np.int64)}


def _read(frame: Frame, start: int, stop: int, dtype: DTypeLike | None) -> Events:
    if "0" in frame.columns:
        raise EventsError(
            f"{frame.path}: the {len(frame.columns)} columns of '{frame.key}' are numbered, expected the names "
            f"{', '.join(FEATURE_NAMES)}. If they are particles (pT, eta, phi in turn), make jets and features of them "
            "first; else write the file again with names."
        )
    features = frame.read(FEATURE_NAMES, start, stop, dtype or _own_dtype(frame))
    with np.errstate(over="ignore"):
        beyond = ~np.isfinite(features.astype(np.float32, copy=False))
    _refuse(frame, FEATURE_NAMES, start, beyond, "expected a number that is finite in float32")
    if LABEL not in frame.columns:
        return Events(features)
    labels = frame.read([LABEL], start, stop)
    _refuse(frame, [LABEL], start, (labels != BACKGROUND) & (labels != SIGNAL), "expected 0 (background) or 1 (signal)")
    return Events(features, labels[:, 0].astype(np.int8))


def _own_dtype(frame: Frame) -> np.dtype[Any]:
    """Return the narrowest floating dtype that holds every feature of the file exactly, float32 or wider."""
    return np.result_type(np.float32, *(frame.dtypes[name] for name in FEATURE_NAMES if name in frame.dtypes))


def _refuse(frame: Frame, columns: Sequence[str], start: int, wrong: NDArray[np.bool_], expected: str) -> None:
    """Raise EventsError for the first entry marked in `wrong`, (n, len(columns)), the first row being `start`."""
    if not wrong.any():
        return
    place, column = divmod(int(np.argmax(wrong)), len(columns))
    row, name = start + place, columns[column]
    value = frame.read([name], row, row + 1)[0, 0]  # as the file has it, before float32
    raise EventsError(
        f"{frame.path}: row {row} of '{frame.key}', column '{name}', is {value:g}, {expected}; in rows {start} to "
        f"{start + len(wrong) - 1} there are {np.count_nonzero(wrong)} such values. Correct or drop those rows."
    )

"""LHC events: their features and labels, in memory and in files."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from training.errors import EventsError
from training.events.columns import mapped
from training.events.features import FEATURE_NAMES as FEATURE_NAMES
from training.events.features import FEATURE_UNITS as FEATURE_UNITS
from training.events.features import FeatureSet
from training.events.frame import Frame, listed
from training.events.hdf5_writer import write_frame
from training.events.joined import joined
from training.events.labels import BACKGROUND as BACKGROUND
from training.events.labels import EXPECTED_LABEL, invalid_labels, likely_label, read_labels
from training.events.labels import LABEL as LABEL
from training.events.labels import SIGNAL as SIGNAL
from training.events.layout import DEFAULT_LAYOUT, Layout
from training.events.readers import open_frame

ROWS_PER_CHUNK = 65536

_log = logging.getLogger(__name__)  # warnings go to standard error unless the calling program configures logging


@dataclass(frozen=True, eq=False)
class Events:
    """Events in memory: features in the order of their names, and labels if they are known.

    Features are float32, the input type of the model, although files hold float64: half the memory, and a rounding
    error below one part in ten million. `EventsFile.read_features` returns the file's values.
    """

    features: NDArray[Any]  # (n, features) float32
    labels: NDArray[np.int8] | None = None  # (n,), each BACKGROUND or SIGNAL

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice | NDArray[np.bool_] | NDArray[np.integer]) -> "Events":
        """Return the events at `rows`: a slice, a mask (n,) or indices (k,)."""
        return Events(self.features[rows], None if self.labels is None else self.labels[rows])

    @property
    def background(self) -> "Events":
        """The events with label BACKGROUND, or all events if there are no labels."""
        return self if self.labels is None else self[self.labels == BACKGROUND]

    @property
    def signal(self) -> "Events":
        """The events with label SIGNAL, or none if there are no labels."""
        return self[:0] if self.labels is None else self[self.labels == SIGNAL]


@dataclass(frozen=True)
class EventsFile:
    """An open events file, read by ranges of rows; it need not fit in memory."""

    frame: Frame
    features: FeatureSet
    label: str | None  # column of the labels
    labels: NDArray[np.int8] | None  # (n,), unchanged from a separate file

    def __len__(self) -> int:
        return self.frame.rows

    @property
    def has_labels(self) -> bool:
        """Whether the labels are known."""
        return self.label is not None or self.labels is not None

    def read(self, start: int = 0, stop: int | None = None) -> Events:
        """Return the events in the rows start to stop. Every label above 0 becomes SIGNAL.

        Raises EventsError as `read_features` and `read_labels` do.
        """
        features, labels = self.read_features(start, stop, np.float32), self.read_labels(start, stop)
        return Events(features, None if labels is None else np.minimum(labels, SIGNAL))

    def read_features(self, start: int = 0, stop: int | None = None, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Return the features in the rows start to stop in a floating `dtype`, by default that of the file.

        Wider types are read as float64. Raises EventsError, naming the row, for a feature that is not finite in
        float32.
        """
        start, stop, _ = slice(start, stop).indices(len(self))
        names = self.features.names
        features = self.frame.read(names, start, stop, dtype or _own_dtype(self.frame, names))
        with np.errstate(over="ignore"):
            beyond = ~np.isfinite(features.astype(np.float32, copy=False))
        _refuse(self.frame, names, start, beyond, "expected a number that is finite in float32")
        return features

    def read_labels(self, start: int = 0, stop: int | None = None) -> NDArray[np.int8] | None:
        """Return the unchanged labels in the rows start to stop, or None if the file has no labels.

        Raises EventsError, naming the row, for an invalid label.
        """
        if self.labels is not None or self.label is None:
            return None if self.labels is None else self.labels[start:stop]
        labels = self.frame.read([self.label], start, stop)
        _refuse(self.frame, [self.label], start, invalid_labels(labels), EXPECTED_LABEL)
        return labels[:, 0].astype(np.int8)


@contextmanager
def open_events(
    path: str | Path, layout: Layout = DEFAULT_LAYOUT, labels: str | Path | None = None
) -> Iterator[EventsFile]:
    """Open an events file of any format; columns may be in any order, and others are ignored.

    Labels are in the column `layout.label`, by default 'label' if the file has it, or in the text file `labels`, one a
    line (see `read_labels`). Raises EventsError when a file cannot be read, when it lacks a feature or a column that
    the layout names, and when the layout names an unknown feature. See also `open_frame` and `mapped`.
    """
    names = layout.features.names
    if unknown := [name for name in layout.columns if name not in (*names, LABEL)]:
        raise EventsError(f"--columns names {listed(unknown)}, expected features, {', '.join(names)}, or '{LABEL}'")
    with ExitStack() as opened:
        frame = joined([opened.enter_context(_open_table(path, key, layout)) for key in layout.keys or (None,)])
        if "0" in frame.columns and not layout.columns:
            raise EventsError(
                f"{frame.path}: the {len(frame.columns)} columns of {frame.place} are numbered, expected the names "
                f"{', '.join(names)}. If they are particles (pT, eta, phi in turn), make jets and features of "
                "them first, with `features`; else say with --columns which is which, such as "
                f"{names[0]}=0."
            )
        column = LABEL if layout.label is None and labels is None and LABEL in frame.columns else layout.label
        frame.require([*names, *([] if column is None else [column])])
        for name in frame.columns:
            if "weight" in name.casefold():
                _log.warning("%s: column '%s' is not used: every event counts once", frame.path, name)
        yield EventsFile(frame, layout.features, column, None if labels is None else read_labels(labels, frame.rows))


@contextmanager
def _open_table(path: str | Path, key: str | None, layout: Layout) -> Iterator[Frame]:
    """Open the table of a key KEY or KEY=LABEL, which sets the label of all its events."""
    name, says_label, label = (key or "").partition("=")
    if says_label and not label.isdecimal():
        raise EventsError(f"--key is {key}: the label is {label!r}, {EXPECTED_LABEL}")
    columns = {**layout.columns, LABEL: f"+{label}"} if says_label else layout.columns
    with open_frame(path, name or None) as frame:
        yield mapped(frame, columns)


def read_events(path: str | Path, layout: Layout = DEFAULT_LAYOUT, labels: str | Path | None = None) -> Events:
    """Read all events of a file, and log a warning if it has no labels.

    Raises EventsError as `open_events` and `EventsFile.read` do, and when the events do not fit in memory.
    """
    with open_events(path, layout, labels) as file:
        events = file.read()
        if events.labels is None:
            likely = likely_label(file.frame.columns)
            hint = f"; is it '{likely}'? Then name it with --label" if likely else ""
            _log.warning(
                "%s: %s events, no column '%s': all taken as background%s", path, f"{len(events):,}", LABEL, hint
            )
        return events


def read_background(
    path: str | Path, layout: Layout = DEFAULT_LAYOUT, labels: str | Path | None = None
) -> NDArray[np.float32]:
    """Return the features of the background events of a file, (n, features). Labels are used only to select them.

    Raises EventsError as `read_events` does, and when the file has no background.
    """
    return background_features(read_events(path, layout, labels), path)


def background_features(events: Events, path: str | Path) -> NDArray[np.float32]:
    """Return the features of the background in `events`. Raises EventsError, naming `path`, if there is none."""
    features: NDArray[np.float32] = events.background.features
    if not len(features):
        raise EventsError(f"{path} holds no background event (label 0), expected some. Give a file that does.")
    return features


def digest(features: NDArray[np.float32]) -> str:
    """Return the SHA-256 of features in hexadecimal, which identifies a sample independently of its file."""
    return hashlib.sha256(np.ascontiguousarray(features, dtype="<f4").tobytes()).hexdigest()


def write_events(path: str | Path, events: Events) -> None:
    """Write events of two jets for pandas.read_hdf: float32 features and, if known, int64 labels, as published.

    The write is atomic. Raises EventsError when there are no events, OSError when writing fails.
    """
    write_frame(path, (_columns(events[i : i + ROWS_PER_CHUNK]) for i in range(0, len(events), ROWS_PER_CHUNK)))


def _columns(events: Events) -> dict[str, NDArray[np.float32 | np.int64]]:
    columns = dict(zip(FEATURE_NAMES, events.features.T, strict=True))
    return columns if events.labels is None else {**columns, LABEL: events.labels.astype(np.int64)}


def _own_dtype(frame: Frame, names: Sequence[str]) -> np.dtype[Any]:
    """Return float32 if it represents the named columns exactly, else float64."""
    exact = np.result_type(np.float32, *map(frame.dtype, names))
    return np.dtype(np.float32 if exact == np.float32 else np.float64)


def _refuse(frame: Frame, columns: Sequence[str], start: int, wrong: NDArray[np.bool_], expected: str) -> None:
    """Raise EventsError for the first entry marked in `wrong` (n, len(columns)), whose first row is row `start`."""
    if not wrong.any():
        return
    place, column = divmod(int(np.argmax(wrong)), len(columns))
    row, name = start + place, columns[column]
    value = frame.read([name], row, row + 1)[0, 0]  # the file's value, before rounding to float32
    raise EventsError(
        f"{frame.path}: row {row} of {frame.place}, column '{name}', is {value:g}, {expected}; in rows {start} to "
        f"{start + len(wrong) - 1} there are {np.count_nonzero(wrong)} such values. Correct or drop those rows."
    )

"""Features of a particle-level file: objects -> jets -> features, on all cores."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import EventsError
from training.events.frame import Frame
from training.events.labels import EXPECTED_LABEL, invalid_labels
from training.events.readers import open_frame
from training.files import require_output, sha256_of
from training.jobs.engines.engine import Engine
from training.jobs.parts import assemble
from training.simulation.jets import Objects, jet_features

SLICE_EVENTS = 2000  # 34 MB of the published file

# Larger values indicate columns in another order, or units other than GeV.
MAX_PT_GEV = 1e6
MAX_ABS_ETA = 20.0


@dataclass(frozen=True)
class Slice:
    """Consecutive events of a particle-level file."""

    path: Path
    key: str | None
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Name of its part file."""
        return f"events-{self.start:09d}-{self.stop:09d}.npy"

    @property
    def place(self) -> str:
        """The name of the table in messages."""
        return "the table" if self.key is None else f"'{self.key}'"

    @property
    def events(self) -> int:
        """Number of events."""
        return self.stop - self.start

    def make(self) -> Iterator[NDArray[np.float32]]:
        """Read the slice and yield its features in GeV: (events, 14), or (events, 15) with the label last."""
        with open_frame(self.path, self.key) as frame:
            rows = frame.read(frame.columns, self.start, self.stop)
        objects = rows[:, : len(rows[0]) // 3 * 3].reshape(len(rows), -1, 3)  # (events, objects, (pT, eta, phi))
        _check_objects(self, objects)
        present = objects[..., 0] > 0
        pt, eta, phi = objects[present].T
        features = jet_features(Objects(present.sum(axis=1), pt, eta, phi))
        label = rows[:, objects.shape[1] * 3 :]  # (events, 0 or 1)
        _check_label(self, frame.columns[-1], label)
        yield np.hstack([features, label]).astype(np.float32)


def make_features(raw: Path, out: Path, key: str | None, engine: Engine) -> None:
    """Write the features of every event of a particle-level file, in its order, with labels if it has them.

    The layout is the published one: pT, eta, phi of each massless object, zero-padded, then optionally a label.
    Raises EventsError when the file cannot be read or is in another layout.
    """
    require_output(out, raw)
    with open_frame(raw, key) as frame:
        _check_layout(frame)
        starts = range(0, frame.rows, SLICE_EVENTS)
        slices = [Slice(raw.absolute(), frame.key, start, min(start + SLICE_EVENTS, frame.rows)) for start in starts]
    manifest = {"raw_sha256": sha256_of(raw), "key": frame.key, "slice_events": SLICE_EVENTS}
    assemble(out, slices, manifest, engine)


def _check_layout(frame: Frame) -> None:
    objects = len(frame.columns) // 3
    numbered = tuple(str(number) for number in range(3 * objects))
    if not objects or frame.columns[: 3 * objects] != numbered or len(frame.columns) > 3 * objects + 1:
        raise EventsError(
            f"{frame.path}: {frame.place} has {len(frame.columns)} columns, {frame.columns[0]!r} to "
            f"{frame.columns[-1]!r}, expected numbered ones: pT, eta, phi for each object and at most one label after "
            "them. If it holds features already, use it as it is."
        )


def _check_objects(part: Slice, objects: NDArray[np.float64]) -> None:
    """Raise EventsError for a slice with unphysical objects (events, objects, 3)."""
    pt, eta = objects[..., 0], objects[..., 1]
    possible = (pt >= 0) & (pt <= MAX_PT_GEV) & (np.abs(eta) <= MAX_ABS_ETA) & np.isfinite(objects).all(axis=-1)
    if not possible.all():
        event, number = np.argwhere(~possible)[0]
        raise EventsError(
            f"{part.path}: row {part.start + event} of {part.place}, object {number}, has pT, eta, phi = "
            f"{objects[event, number].tolist()}, expected finite numbers, 0 <= pT <= {MAX_PT_GEV:g} GeV and |eta| <= "
            f"{MAX_ABS_ETA:g}. Correct or drop the row."
        )


def _check_label(part: Slice, column: str, label: NDArray[np.float64]) -> None:
    """Raise EventsError for a slice with invalid labels (events, 0 or 1), which would be truncated to integers."""
    wrong = invalid_labels(label)
    if wrong.any():
        event, _ = np.argwhere(wrong)[0]
        raise EventsError(
            f"{part.path}: row {part.start + event} of {part.place}, column '{column}', is {label[event, 0]:g}, "
            f"{EXPECTED_LABEL}. Correct or drop the row."
        )

"""Long work in parts, each computed once and kept in a file, so that it survives an interruption.

A part is a pure function of its own fields: the same parts give the same result, whatever the engine, the number of
processes and the interruptions. To repeat a call is to resume it.
"""

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from training.errors import PartsError
from training.events.events import FEATURE_NAMES, LABEL
from training.events.hdf5_writer import write_frame
from training.files import require_output
from training.jobs.engines.engine import Engine
from training.jobs.engines.local import require_main_guard
from training.jobs.manifest import claimed
from training.jobs.part_files import read_part, write_part
from training.jobs.pool import compute
from training.progress import Progress


class Part(Protocol):
    """An array that takes long to compute, such as consecutive rows of an events file; picklable and small."""

    @property
    def name(self) -> str:
        """Name of its file, unique among the parts of the same work."""

    @property
    def events(self) -> int:
        """Number of rows."""

    def make(self) -> NDArray[np.float32]:
        """Return its rows: for an events file (events, 14) features, or (events, 15) with the label last."""


def assemble(out: Path, parts: Sequence[Part], manifest: Mapping[str, Any], engine: Engine) -> None:
    """Make the missing parts in OUT.h5.parts/, as `make_parts` does, then write the events file and remove them."""
    require_output(out)
    require_main_guard()
    folder = out.with_name(out.name + ".parts")
    with claimed(folder, manifest):
        _make_missing(folder, parts, engine)
        write_frame(out, (_columns(read_part(folder / part.name, part.events)) for part in parts))
        for path in folder.glob("*.npy"):  # before the manifest, without which they could be of any work
            path.unlink()
        shutil.rmtree(folder)


def make_parts(
    folder: Path, parts: Sequence[Part], manifest: Mapping[str, Any], engine: Engine, unit: str | None = None
) -> None:
    """Make the parts that are missing in a folder; a progress bar counts their events, or the parts by that unit.

    `manifest` tells the parts of one work from those of another. Raises PartsError when the folder holds parts with
    another manifest or a process is killed, PoolError when no worker can start or too many are lost, and OSError when
    another call uses the folder. An interruption loses the parts under way at most.
    """
    require_main_guard()
    with claimed(folder, manifest):
        _make_missing(folder, parts, engine, unit)


def _make_missing(folder: Path, parts: Sequence[Part], engine: Engine, unit: str | None = None) -> None:
    missing = [part for part in parts if not (folder / part.name).exists()]
    total, left = (sum(part.events if unit is None else 1 for part in some) for some in (parts, missing))
    with Progress(total=total, initial=total - left, unit=f" {unit or 'events'}", smoothing=0.05) as progress:
        try:
            with engine.start() as workers:
                for events in compute(partial(_make_file, folder.absolute()), missing, workers):
                    progress.update(events if unit is None else 1)
        except BrokenProcessPool as error:
            raise PartsError(
                f"{folder}: a process was killed while it made a part, perhaps because memory ran out; the finished "
                "parts are kept. Repeat the same command to go on, with fewer --processes if it happens again."
            ) from error


def _make_file(folder: Path, part: Part) -> int:
    path = folder / part.name
    if not path.exists():  # a cluster runs a task again whose result was lost with its worker
        write_part(path, part.make())
    return part.events


def _columns(rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    columns: dict[str, NDArray[np.float32] | NDArray[np.int64]] = dict(zip(FEATURE_NAMES, rows.T, strict=False))
    return columns if rows.shape[1] == len(FEATURE_NAMES) else {**columns, LABEL: rows[:, -1].astype(np.int64)}

"""Long work in parts, each computed once and stored in a file, so that it can be resumed after an interruption.

A part is a pure function of its own fields: the result depends only on the parts, not on the engine, the number of
processes or interruptions. Repeating a call resumes it.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
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

COUNTS = "counts"
"""The folder with the number of rows of each unfinished part, used only to show progress."""


class Part(Protocol):
    """The description of an array that takes long to compute, such as rows of an events file; picklable and small."""

    @property
    def name(self) -> str:
        """Name of its file, unique among the parts of the same work."""

    @property
    def events(self) -> int:
        """Number of rows."""

    def make(self) -> Iterable[NDArray[np.float32]]:
        """Yield rows as they are computed: for an events file (n, 14) features, or (n, 15) with the label last."""


def assemble(out: Path, parts: Sequence[Part], manifest: Mapping[str, Any], engine: Engine) -> None:
    """Compute the missing parts in OUT.h5.parts/ with `make_parts`, write the events file, and remove the parts."""
    require_output(out)
    require_main_guard()
    folder = out.with_name(out.name + ".parts")
    with claimed(folder, manifest):
        _make_missing(folder, parts, engine)
        write_frame(out, (_columns(read_part(folder / part.name, part.events)) for part in parts))
        for path in folder.glob("*.npy"):  # before the manifest, without which parts cannot be identified
            path.unlink()
        shutil.rmtree(folder)


def make_parts(
    folder: Path, parts: Sequence[Part], manifest: Mapping[str, Any], engine: Engine, unit: str | None = None
) -> None:
    """Compute the missing parts in a folder. The progress bar counts events or, if `unit` is given, parts.

    Events are counted as soon as they are computed. `manifest` identifies the work. Raises PartsError when the folder
    holds parts with another manifest or a process is killed, PoolError when no worker can start or too many are lost,
    and OSError when another call uses the folder. An interruption loses at most the unfinished parts.
    """
    require_main_guard()
    with claimed(folder, manifest):
        _make_missing(folder, parts, engine, unit)


def _make_missing(folder: Path, parts: Sequence[Part], engine: Engine, unit: str | None = None) -> None:
    missing = [part for part in parts if not (folder / part.name).exists()]
    total, left = (sum(part.events if unit is None else 1 for part in some) for some in (parts, missing))
    finished = total - left
    counts = folder / COUNTS
    shutil.rmtree(counts, ignore_errors=True)  # left by a killed call
    counts.mkdir()
    with Progress(total=total, initial=finished, unit=f" {unit or 'events'}", smoothing=0.05) as progress:

        def show(under_way: int) -> None:
            progress.update(max(0, min(finished + under_way, total) - progress.n))

        meanwhile = None if unit else lambda: show(_under_way(counts))
        try:
            with engine.start() as workers:
                for events in compute(partial(_make_file, folder.absolute()), missing, workers, meanwhile):
                    finished += events if unit is None else 1
                    show(0)
        except BrokenProcessPool as error:
            raise PartsError(
                f"{folder}: a process was killed while it made a part, perhaps because memory ran out; the finished "
                "parts are kept. Repeat the same command to continue, with fewer --processes if it happens again."
            ) from error
        finally:
            shutil.rmtree(counts, ignore_errors=True)


def _make_file(folder: Path, part: Part) -> int:
    path, count = folder / part.name, folder / COUNTS / part.name
    if not path.exists():  # a cluster repeats a task whose result was lost with its worker
        made: list[NDArray[np.float32]] = []
        for rows in part.make():
            made.append(rows)
            with suppress(OSError):  # must not fail the part
                count.write_text(str(sum(map(len, made))))
        write_part(path, np.concatenate(made))
    with suppress(OSError):
        count.unlink()
    return part.events


def _under_way(counts: Path) -> int:
    """Return the number of rows of the unfinished parts."""
    found = 0
    with suppress(OSError):  # must not fail the work
        for path in counts.iterdir():
            with suppress(FileNotFoundError):  # the part has just been finished
                found += int(path.read_text() or 0)
    return found


def _columns(rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    columns: dict[str, NDArray[np.float32] | NDArray[np.int64]] = dict(zip(FEATURE_NAMES, rows.T, strict=False))
    return columns if rows.shape[1] == len(FEATURE_NAMES) else {**columns, LABEL: rows[:, -1].astype(np.int64)}

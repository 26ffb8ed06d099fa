"""Events files made part by part on several processes, so that long work survives an interruption; knows no physics.

Finished parts wait beside the file, in OUT.h5.parts/, until all are there. A part is a pure function of its own fields:
the same parts give the same file, whatever the number of processes and the interruptions.
"""

import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.errors import PartsError
from training.events import FEATURE_NAMES, LABEL
from training.files import atomic_write
from training.hdf5_writer import write_frame


class Part(Protocol):
    """A run of consecutive rows of the file; it travels to another process, so it must be picklable and small."""

    @property
    def name(self) -> str:
        """Name of its file, which no other part of the same file has."""

    @property
    def events(self) -> int:
        """How many rows it has."""

    def make(self) -> NDArray[np.float32]:
        """Return its rows: (events, 14) features, or (events, 15) with the label last."""


def assemble(out: Path, parts: Sequence[Part], stamp: dict[str, Any], processes: int) -> None:
    """Make the parts that are not there yet, then write the file whole and remove them.

    `stamp` tells one file's parts from another's: PartsError when the folder holds parts made under another stamp.
    An interruption loses the parts under way at most, and the same call goes on from the others.
    """
    folder = out.with_name(out.name + ".parts")
    _claim(folder, stamp)
    missing = [part for part in parts if not (folder / part.name).exists()]
    total, left = sum(part.events for part in parts), sum(part.events for part in missing)
    with tqdm(total=total, initial=total - left, unit=" events", smoothing=0.05) as progress:
        for events in _make_all(missing, folder, processes):
            progress.update(events)
    write_frame(out, (_columns(np.load(folder / part.name)) for part in parts))
    shutil.rmtree(folder)


def _make_all(missing: Sequence[Part], folder: Path, processes: int) -> Iterator[int]:
    """Make parts on several processes and yield the number of events of each when its file is complete."""
    # Spawned, not forked: a child must not inherit the state of Pythia, fastjet or a progress bar's thread.
    with ProcessPoolExecutor(processes, get_context("spawn"), _leave_interrupts_to_parent) as pool:
        futures = [pool.submit(_make_file, part, folder) for part in missing]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            # Parts under way finish and are kept; no new one starts.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _make_file(part: Part, folder: Path) -> int:
    rows = part.make()
    with atomic_write(folder / part.name) as path, path.open("wb") as file:
        np.save(file, rows)
    return part.events


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _claim(folder: Path, stamp: dict[str, Any]) -> None:
    """Make the folder for the parts and stamp it, or check the stamp that it bears."""
    stamp = json.loads(json.dumps(stamp))  # as it will be read back: tuples become lists
    path = folder / "stamp.json"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(stamp, indent=2) + "\n")
        return
    found = json.loads(path.read_text())
    for name, expected in stamp.items():
        if found.get(name) != expected:
            raise PartsError(
                f"{folder} holds parts of another file: its {name} is {found.get(name)}, expected {expected}. "
                "Repeat the command that began it, or remove the folder to start anew."
            )


def _columns(rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    columns: dict[str, NDArray[np.float32] | NDArray[np.int64]] = dict(zip(FEATURE_NAMES, rows.T, strict=False))
    return columns if rows.shape[1] == len(FEATURE_NAMES) else {**columns, LABEL: rows[:, -1].astype(np.int64)}

"""Events files made part by part on several processes, so that long work survives an interruption; knows no physics.

Finished parts wait beside the file, in OUT.h5.parts/, until all are there. A part is a pure function of its own fields:
the same parts give the same file, whatever the number of processes and the interruptions.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice, takewhile
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.errors import PartsError
from training.events import FEATURE_NAMES, LABEL
from training.files import atomic_write, require_output
from training.hdf5_writer import write_frame

QUOTED_CHARACTERS = 100  # of a value in an error


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
    """Make the parts that are not there yet, as `make_parts` does, then write the file whole and remove them."""
    require_output(out)
    folder = out.with_name(out.name + ".parts")
    make_parts(folder, parts, stamp, processes)
    write_frame(out, (_columns(np.load(folder / part.name)) for part in parts))
    for path in folder.glob("*.npy"):  # before the stamp: parts without one could be taken for another file's
        path.unlink()
    shutil.rmtree(folder)


def make_parts(
    folder: Path, parts: Sequence[Part], stamp: dict[str, Any], processes: int, unit: str | None = None
) -> None:
    """Make the parts that are not in the folder yet, under a bar that counts their events, or them by that unit.

    `stamp` tells one folder's parts from another's: PartsError when it holds parts made under another stamp, or when a
    process is killed. An interruption loses the parts under way at most, and the same call goes on from the others.
    """
    _claim(folder, stamp)
    missing = [part for part in parts if not (folder / part.name).exists()]
    total, left = (sum(part.events if unit is None else 1 for part in some) for some in (parts, missing))
    with tqdm(total=total, initial=total - left, unit=f" {unit or 'events'}", smoothing=0.05) as progress:
        try:
            for events in _make_all(missing, folder, processes):
                progress.update(events if unit is None else 1)
        except BrokenProcessPool as error:
            raise PartsError(
                f"{folder}: a process was killed while it made a part, perhaps because memory ran out; the finished "
                "parts are kept. Repeat the same command to go on, with fewer --processes if it happens again."
            ) from error


def _make_all(missing: Sequence[Part], folder: Path, processes: int) -> Iterator[int]:
    """Make parts on several processes and yield the number of events of each when its file is complete."""
    # Spawned, not forked: a child must not inherit the state of Pythia, fastjet or a progress bar's thread.
    with ProcessPoolExecutor(processes, get_context("spawn"), _follow_parent) as pool:
        waiting = iter(missing)
        # As many as there are processes, and not all at once: what was handed over cannot be taken back.
        working = {pool.submit(_make_file, part, folder) for part in islice(waiting, processes)}
        try:
            while working:
                done, working = wait(working, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                working |= {pool.submit(_make_file, part, folder) for part in islice(waiting, len(done))}
        except KeyboardInterrupt:
            tqdm.write("finishing the parts under way; interrupt again to drop them", file=sys.stderr)
            raise


def _make_file(part: Part, folder: Path) -> int:
    rows = part.make()
    with atomic_write(folder / part.name) as path, path.open("wb") as file:
        np.save(file, rows)
    return part.events


def _follow_parent() -> None:
    """Leave interrupts to the parent process, and end when it ends: an executor's processes would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _claim(folder: Path, stamp: dict[str, Any]) -> None:
    """Make the folder for the parts and stamp it, or check the stamp that it bears."""
    stamp = json.loads(json.dumps(stamp))  # as it will be read back: tuples become lists
    path = folder / "stamp.json"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        if any(folder.glob("*.npy")):
            raise PartsError(f"{folder} holds parts without a stamp: nobody can tell of which file. Remove the folder.")
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(stamp, indent=2) + "\n")
        return
    found = json.loads(path.read_text())
    for name, expected in stamp.items():
        if found.get(name) != expected:
            is_now, should_be = _quoted(str(found.get(name)), str(expected))
            raise PartsError(
                f"{folder} holds parts of another file: its {name} is {is_now}, expected {should_be}. "
                "Repeat the command that began it, or remove the folder to start anew."
            )


def _quoted(found: str, expected: str) -> list[str]:
    """Shorten each long value to what surrounds the first difference: a cocktail's physics has 150 kB."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(found, expected, strict=False)))
    start = max(0, same - QUOTED_CHARACTERS // 2)
    return [value if len(value) <= QUOTED_CHARACTERS else _excerpt(value, start) for value in (found, expected)]


def _excerpt(value: str, start: int) -> str:
    stop = start + QUOTED_CHARACTERS
    return ("..." if start else "") + value[start:stop] + ("..." if stop < len(value) else "")


def _columns(rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    columns: dict[str, NDArray[np.float32] | NDArray[np.int64]] = dict(zip(FEATURE_NAMES, rows.T, strict=False))
    return columns if rows.shape[1] == len(FEATURE_NAMES) else {**columns, LABEL: rows[:, -1].astype(np.int64)}

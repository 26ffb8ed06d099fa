"""Events files made part by part on several processes, so that long work survives an interruption; knows no physics.

Finished parts wait beside the file, in OUT.h5.parts/, until all are there. A part is a pure function of its own fields:
the same parts give the same file, whatever the number of processes and the interruptions.
"""

import ctypes
import json
import os
import shutil
import signal
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from io import BytesIO
from itertools import islice, takewhile
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.errors import PartsError
from training.events.events import FEATURE_NAMES, LABEL
from training.events.hdf5_writer import write_frame
from training.files import atomic_write, exclusive, require_output
from training.interrupts import STOPPING, raise_if_stopped

QUOTED_CHARACTERS = 100  # of a value in an error
PR_SET_PDEATHSIG = 1  # linux/prctl.h


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
    with _claimed(folder, stamp):
        _make_missing(folder, parts, processes)
        write_frame(out, (_columns(read_part(folder / part.name, part.events)) for part in parts))
        for path in folder.glob("*.npy"):  # before the stamp: parts without one could be taken for another file's
            path.unlink()
        shutil.rmtree(folder)


def make_parts(
    folder: Path, parts: Sequence[Part], stamp: dict[str, Any], processes: int, unit: str | None = None
) -> None:
    """Make the parts that are not in the folder yet, under a bar that counts their events, or them by that unit.

    `stamp` tells one folder's parts from another's: PartsError when it holds parts made under another stamp, or when a
    process is killed; OSError when another call is at work in it. An interruption loses the parts under way at most,
    and the same call goes on from the others.
    """
    with _claimed(folder, stamp):
        _make_missing(folder, parts, processes, unit)


def _make_missing(folder: Path, parts: Sequence[Part], processes: int, unit: str | None = None) -> None:
    missing = [part for part in parts if not (folder / part.name).exists()]
    total, left = (sum(part.events if unit is None else 1 for part in some) for some in (parts, missing))
    with tqdm(total=total, initial=total - left, unit=f" {unit or 'events'}", smoothing=0.05) as progress:
        try:
            with closing(_make_all(missing, folder, processes)) as made:
                for events in made:
                    progress.update(events if unit is None else 1)
        except BrokenProcessPool as error:
            raise PartsError(
                f"{folder}: a process was killed while it made a part, perhaps because memory ran out; the finished "
                "parts are kept. Repeat the same command to go on, with fewer --processes if it happens again."
            ) from error


def _make_all(missing: Sequence[Part], folder: Path, processes: int) -> Generator[int, None, None]:
    """Make parts on several processes and yield the number of events of each when its file is complete."""
    # Spawned, not forked: a child must not inherit the state of Pythia, fastjet or a progress bar's thread.
    with ProcessPoolExecutor(processes, get_context("spawn"), _follow_parent) as pool:
        waiting = iter(missing)
        working: set[Future[int]] = set()
        try:
            # As many as there are processes, and not all at once: what was handed over cannot be taken back.
            _hand_over(pool, islice(waiting, processes), folder, working)
            while working:
                done, working = wait(working, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                raise_if_stopped()
                _hand_over(pool, islice(waiting, len(done)), folder, working)
        except (KeyboardInterrupt, GeneratorExit):
            _finish(working)
            raise


def _finish(working: set[Future[int]]) -> None:
    """Wait for the parts under way; interrupted, end the processes that make them, for which the pool would wait."""
    try:
        tqdm.write("finishing the parts under way; interrupt again to drop them", file=sys.stderr)
        wait(working)
    except KeyboardInterrupt:
        for process in active_children():
            process.kill()
        raise


def _hand_over(pool: ProcessPoolExecutor, parts: Iterable[Part], folder: Path, working: set[Future[int]]) -> None:
    """Add parts to those under way in a pool that leaves signals to this process, from its first instruction on.

    A signal waits until all is noted: a process that it missed, or a part, would be waited for.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # which the processes that this starts inherit
    try:
        working.update([pool.submit(_make_file, part, folder) for part in parts])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _make_file(part: Part, folder: Path) -> int:
    whole = BytesIO()  # in memory first: of a full disk numpy does not say that it is full
    np.save(whole, part.make())
    with atomic_write(folder / part.name) as path:
        path.write_bytes(whole.getbuffer())
    return part.events


def _follow_parent() -> None:
    """Have the system kill this process when its parent ends, before it can write among what another one begins."""
    parent = parent_process()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # by which the pool ends the others when one is killed
    if parent is None or os.getppid() != parent.pid:  # it ended before
        os._exit(1)


def read_part(path: Path, events: int) -> NDArray[np.float32]:
    """Return what a finished part holds, (events, ...). Raises PartsError when it is damaged."""
    try:
        rows: NDArray[np.float32] = np.load(path)
    except (ValueError, EOFError) as error:
        raise PartsError(f"{path} is damaged: {error}. Remove it and repeat the command.") from error
    if len(rows) != events:
        raise PartsError(f"{path} has {len(rows)} rows, expected {events}. Remove it and repeat the command.")
    return rows


@contextmanager
def _claimed(folder: Path, stamp: dict[str, Any]) -> Iterator[None]:
    """Keep the folder for the parts to this process, with the stamp on it; it is made if it is not there."""
    with exclusive(folder):
        for path in folder.glob(".*"):  # begun by a process that was killed
            path.unlink()
        _stamp(folder, json.loads(json.dumps(stamp)))  # as it will be read back: tuples become lists
        yield


def _stamp(folder: Path, stamp: dict[str, Any]) -> None:
    """Stamp a folder that holds no parts yet, or check the stamp that it bears."""
    path = folder / "stamp.json"
    if not any(folder.glob("*.npy")):
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(stamp, indent=2) + "\n")
        return
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise PartsError(
            f"{folder} holds parts without a stamp: nobody can tell of which file. Remove the folder."
        ) from None
    except ValueError as error:
        raise PartsError(f"{path} is damaged: {error}. Remove the folder to start anew.") from error
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

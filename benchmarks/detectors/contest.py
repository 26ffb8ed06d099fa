"""What detectors are compared on, and their scores as parts that survive an interruption; knows no detector."""

import hashlib
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from training.errors import EventsError
from training.events.events import read_background, read_events
from training.files import sha256_of
from training.jobs.parts import make_parts

LEAST_EVENTS = 10  # of either class in a sample: each half that the supervised ceiling learns needs some


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows of a sample among all events that are scored, by class."""

    name: str
    background: NDArray[np.int64]
    signal: NDArray[np.int64]
    alone: bool  # signal alone, judged against the background of the first sample


@dataclass(frozen=True, eq=False)
class Contest:
    """What detectors learn from and are scored on, each (n, 14) features in GeV."""

    background: NDArray[np.float32]
    exposure: NDArray[np.float32] | None  # simulated signals, for detectors that are exposed to some
    scored: NDArray[np.float32]
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Files:
    """Where a contest is read from."""

    background: Path
    exposure: Path | None
    samples: tuple[Path, ...]

    def sha256(self) -> dict[str, Any]:
        """Return the digest of each file, by the part that it plays, and samples by name."""
        return {
            "training background": sha256_of(self.background),
            "exposure": None if self.exposure is None else sha256_of(self.exposure),
            "samples": {path.stem: sha256_of(path) for path in self.samples},
        }


class Contestant(Protocol):
    """A detector with all its settings; it travels to another process, and its repr tells it from others."""

    @property
    def title(self) -> str:
        """Name for people, not necessarily its own alone."""

    @property
    def code(self) -> tuple[Any, ...]:
        """The modules or classes that make its scores."""

    def score(self, contest: Contest, seed: int) -> NDArray[Any]:
        """Learn, and return the scores of `contest.scored` (n, 14): (n,), higher is more anomalous."""


@dataclass(frozen=True)
class Scores:
    """The scores of a contestant with one seed: a part, as `training.jobs.parts` makes them."""

    name: str  # of its file
    events: int
    files: Files
    contestant: Contestant
    seed: int

    def make(self) -> NDArray[np.float32]:
        """Learn and score: (events,)."""
        torch.set_num_threads(1)  # the other cores have parts of their own
        with threadpool_limits(1):
            return self.contestant.score(_read_once(self.files), self.seed).astype(np.float32)


def scores(contestant: Contestant, seed: int, contest: Contest, files: Files) -> Scores:
    """Return the part that a contestant makes with a seed.

    Other settings or other code make another name, so that old scores are never taken for new ones.
    """
    made_by = repr((contestant, seed)) + "".join(map(inspect.getsource, contestant.code))
    readable = re.sub("[^a-z0-9]+", "-", contestant.title.lower())
    name = f"{readable}-{seed}-{hashlib.sha256(made_by.encode()).hexdigest()[:12]}.npy"
    return Scores(name, len(contest.scored), files, contestant, seed)


def read(files: Files) -> Contest:
    """Return the contest that the files hold.

    Raises EventsError when one cannot be read, a sample has too little of a class, or holds what detectors learn from.
    """
    background = read_background(files.background)
    exposure = None if files.exposure is None else read_events(files.exposure).signal.features
    if exposure is not None and not len(exposure):
        raise EventsError(f"{files.exposure} holds no signal (label 1), expected signals to learn; see `simulate`")
    learned = {event.tobytes() for part in (background, exposure) if part is not None for event in part}
    samples: list[Sample] = []
    scored: list[NDArray[np.float32]] = []
    for path in files.samples:
        events = read_events(path)
        if events.labels is None:
            raise EventsError(f"{path} has no column 'label', expected 0 for background and 1 for signal: add it")
        shared = sum(event.tobytes() in learned for event in events.features)
        if shared:
            raise EventsError(f"{path} has {shared} events that detectors learn from, expected none: give another file")
        start = sum(map(len, scored))
        ordinary, signal = (start + np.flatnonzero(events.labels == label) for label in (0, 1))
        alone = len(samples) > 0 and len(ordinary) == 0
        if alone:
            ordinary = samples[0].background
        for kind, rows in (("background (label 0)", ordinary), ("signal (label 1)", signal)):
            if len(rows) < LEAST_EVENTS:
                raise EventsError(f"{path} has {len(rows)} {kind} events, expected at least {LEAST_EVENTS}: add some")
        samples.append(Sample(path.stem, ordinary, signal, alone))
        scored.append(events.features)
    return Contest(background, exposure, np.concatenate(scored), tuple(samples))


_read_once = cache(read)  # one process makes many parts of the same contest


def versions() -> dict[str, str]:
    """Return the version of each library whose detectors or arithmetic take part."""
    return {package: version(package) for package in ("numpy", "pyod", "scikit-learn", "torch")}


def make(parts: Sequence[Scores], files: Files, folder: Path, processes: int) -> None:
    """Make the parts that are not in the folder yet.

    Raises PartsError when it holds parts of other files or library versions, or when a process is killed.
    """
    make_parts(folder, parts, {"sha256": files.sha256(), "versions": versions()}, processes, unit="detectors")

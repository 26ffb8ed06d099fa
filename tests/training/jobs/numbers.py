"""Parts of made-up events that log each time they are made, and may fail the first time.

python -m tests.training.jobs.numbers FOLDER    assembles FOLDER/events.h5; its third part never ends the first time
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.__main__ import RESUMABLE, Command, run
from training.commands.arguments import add_engine_options, engine_of
from training.errors import EventsError
from training.events.events import FEATURE_NAMES, read_events
from training.jobs.parts import COUNTS, assemble

MANIFEST = {"seed": 1, "settings": ("a", "b"), "versions": {"numpy": "2"}}
TOO_LONG_S = 600.0
SEEN_S = 60.0


@dataclass(frozen=True)
class Numbers:
    """Rows that depend on the index alone."""

    folder: Path
    index: int
    failure: str = ""
    labelled: bool = True

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"numbers-{self.index}.npy"

    @property
    def events(self) -> int:
        """Number of rows, another one for each part."""
        return 3 + self.index

    def rows(self) -> NDArray[np.float32]:
        """Return the rows: (events, 15), or (events, 14) without labels."""
        rows = np.random.default_rng(self.index).normal(0, 500, (self.events, 15)).astype(np.float32)
        rows[:, -1] = self.index % 2
        return rows if self.labelled else rows[:, :-1]

    def make(self) -> Iterator[NDArray[np.float32]]:
        """Log that it is made, yield a row, fail if this is the first time, and yield the others."""
        with self._log.open("a") as log:
            log.write(f"{os.getpid()}\n")
        yield self.rows()[:1]
        if self.failure == "always kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.times_made == 1:
            match self.failure:
                case "error":
                    raise EventsError(f"part {self.index} is damaged")
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "endless":
                    time.sleep(TOO_LONG_S)
                case "no count":
                    count = self.folder / "events.h5.parts" / COUNTS / self.name
                    count.unlink()
                    count.mkdir()
                case "until seen":
                    deadline = time.monotonic() + SEEN_S
                    while not (self.folder / "seen").exists() and time.monotonic() < deadline:
                        time.sleep(0.02)
        yield self.rows()[1:]

    @property
    def times_made(self) -> int:
        """Number of times that it was begun."""
        return len(self.made_by)

    @property
    def made_by(self) -> list[int]:
        """The process that made it, each time."""
        return [int(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.log"


def numbers(folder: Path, count: int = 5, failing: Collection[int] = (), failure: str = "") -> list[Numbers]:
    """Return parts, some of which fail the first time."""
    parts = [Numbers(folder, index) for index in range(count)]
    return [replace(part, failure=failure) if part.index in failing else part for part in parts]


def assert_assembled(out: Path, parts: Sequence[Numbers]) -> None:
    """Require the file to hold the rows of all parts in their order, and the folder of parts to be gone."""
    events = read_events(out)
    rows = np.concatenate([part.rows() for part in parts])
    np.testing.assert_array_equal(events.features, rows[:, : len(FEATURE_NAMES)])
    if events.labels is None:
        assert not parts[0].labelled
    else:
        np.testing.assert_array_equal(events.labels, rows[:, -1])
    assert not out.with_name(out.name + ".parts").exists()


def main(argv: Sequence[str] | None = None, program: str = "numbers") -> int:
    """Assemble an events file by an engine."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--failing", type=int, nargs="*", default=[2])
    parser.add_argument("--failure", default="endless")
    add_engine_options(parser)
    args = parser.parse_args(argv)
    parts = numbers(args.folder, args.count, args.failing, args.failure)
    assemble(args.folder / "events.h5", parts, MANIFEST, engine_of(args))
    return 0


if __name__ == "__main__":
    sys.exit(run("tests.training.jobs.numbers", Command("", "train", RESUMABLE), sys.argv[1:], "numbers"))

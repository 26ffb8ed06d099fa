"""Parts of made-up events that log each time they are made, and may fail the first time.

python -m tests.training.jobs.numbers FOLDER    assembles FOLDER/events.h5; its third part never ends the first time
"""

import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import EventsError, Terminated
from training.interrupts import stoppable
from training.jobs.engines.local import Local
from training.jobs.parts import assemble

MANIFEST = {"seed": 1, "settings": ("a", "b"), "versions": {"numpy": "2"}}
TOO_LONG_S = 600.0


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

    def make(self) -> NDArray[np.float32]:
        """Log that it is made, fail if this is the first time, and return the rows."""
        with self._log.open("a") as log:
            log.write("made\n")
        if self.times_made == 1:
            match self.failure:
                case "error":
                    raise EventsError(f"part {self.index} is damaged")
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "endless":
                    time.sleep(TOO_LONG_S)
        return self.rows()

    @property
    def times_made(self) -> int:
        """Number of times that it was begun."""
        return self._log.read_text().count("\n") if self._log.exists() else 0

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.log"


def numbers(folder: Path, count: int = 5, failing: int | None = None, failure: str = "") -> list[Numbers]:
    """Return parts, one of which fails the first time."""
    parts = [Numbers(folder, index) for index in range(count)]
    return [replace(part, failure=failure) if part.index == failing else part for part in parts]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    try:
        with stoppable():
            assemble(target / "events.h5", numbers(target, failing=2, failure="endless"), MANIFEST, Local(1))
    except (KeyboardInterrupt, Terminated) as stopped:
        sys.exit(f"{type(stopped).__name__}")

"""Scoring of events by running services, in parts that are stored in files and can be resumed."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from service.client import Client, ClientError, ModelError, Result
from training.errors import PartsError
from training.jobs.manifest import claimed
from training.jobs.part_files import read_part, write_part

PART_EVENTS = 131_072


@dataclass(frozen=True)
class Scored:
    """The scores of all events by one model, in parts in a folder."""

    model: str
    working_point: tuple[str, float] | None  # name and threshold
    folder: Path
    events: int

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the scores of the events start to stop, (stop - start,). Raises PartsError for a damaged part."""
        parts = range(start // PART_EVENTS, -(-stop // PART_EVENTS))
        scores = np.concatenate([read_part(self.path(part), len(self.rows(part))) for part in parts])
        first = parts.start * PART_EVENTS
        return scores[start - first : stop - first]

    def path(self, part: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"part-{part:06}.npy"

    def rows(self, part: int) -> range:
        """Return the rows of a part."""
        return range(part * PART_EVENTS, min((part + 1) * PART_EVENTS, self.events))


@contextmanager
def scored_remotely(
    client: Client,
    read: Callable[[int, int], NDArray[Any]],
    events: int,
    manifest: Mapping[str, Any],
    working_point: str | None,
    folder: Path,
) -> Iterator[Scored]:
    """Score `events` events, which `read(start, stop)` returns, with the services, and yield the scores.

    `manifest` identifies the events. Parts in the folder from an earlier call are not scored again; the folder is
    removed at the end of the context, unless an error occurs. Raises PartsError when the folder holds parts of other
    events or of another model, when the services replace their model during the call, and when they do not score.
    """

    def score(rows: range, model: str | None) -> Result:
        try:
            return client.score(read(rows.start, rows.stop), working_point=working_point, model=model)
        except ModelError as error:
            raise PartsError(f"{error}. {folder} has scores of {model}: remove it to start anew.") from error
        except ClientError as error:
            counted = f"events[0] is row {rows.start}: " if rows.start else ""
            raise PartsError(f"{counted}{error}") from error

    first = score(range(1), None)
    point = first.working_point
    scored = Scored(first.model, None if point is None else (point.name, point.threshold), folder, events)
    described = {**manifest, "events": events, "model": scored.model, "working_point": scored.working_point}
    with claimed(folder, described):
        parts = range(-(-events // PART_EVENTS))
        missing = [part for part in parts if not scored.path(part).exists()]
        with click.progressbar(length=events, label="scoring", file=sys.stderr) as progress:
            progress.update(events - sum(len(scored.rows(part)) for part in missing))
            for part in missing:
                rows = scored.rows(part)
                write_part(scored.path(part), score(rows, scored.model).scores)
                progress.update(len(rows))
        yield scored
        for path in folder.glob("*.npy"):  # before the manifest, without which parts cannot be identified
            path.unlink()
        shutil.rmtree(folder)

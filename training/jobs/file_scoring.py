"""Scoring of one of many events files: a pure function of the file and the options, on any process.

A file of at most `rows_per_part` events is scored and written by one process. The parts of a longer file are scored by
any processes and stored in files; one process then writes the output. An output is written before its sidecar, and is
finished only when it has a sidecar, so a kill at any moment loses only the current work.
"""

import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.model.artefact import ArtefactError
from service.model.scorer import Scorer
from training.errors import EventsError, PartsError, TrainingError, explained
from training.evaluation.model import open_scorer, threshold
from training.evaluation.scoring import write_scored
from training.events.events import ROWS_PER_CHUNK, EventsFile, open_events
from training.events.layout import DEFAULT_LAYOUT, Layout
from training.events.writers import writer_of
from training.files import NO_SPACE, atomic_write
from training.jobs.part_files import read_part, write_part
from training.jobs.sidecars import Failure, Origin, Sidecar, failure_of, read_record, sidecar_of

ROWS_PER_PART = 32 * ROWS_PER_CHUNK  # a few seconds of work
PARTS = "_parts"  # readers of a folder of Parquet files skip names that begin with _
RETRY_S = 0.5


@dataclass(frozen=True)
class Work:
    """The task for each file: output folder, format, model and options."""

    folder: Path
    ending: str  # suffix of the outputs, such as .parquet
    model: Path
    model_sha256: str
    layout: Layout = DEFAULT_LAYOUT
    working_point: str | None = None
    model_column: bool = False
    base: Path = Path()  # base of relative paths, because a process may have another working directory
    rows_per_part: int = ROWS_PER_PART  # a multiple of ROWS_PER_CHUNK

    def output(self, file: Path) -> Path:
        """Return the path of a file's output."""
        return self.folder / f"{file.stem}{self.ending}"

    def origin(self, file: Path) -> Origin:
        """Return the origin of a file's output, which is all it depends on. Raises EventsError without the file."""
        try:
            found = (self.base / file).stat()
        except FileNotFoundError:
            raise EventsError(f"{self.base / file}: there is no such file. Check the path.") from None
        layout = self.layout
        options = (list(layout.keys), layout.label, dict(layout.columns), self.working_point, self.model_column)
        return Origin(found.st_size, found.st_mtime_ns, self.model_sha256, *options)

    def finished(self, file: Path, origin: Origin) -> Sidecar | None:
        """Return the sidecar of a file if its output exists, has this origin and is intact; None otherwise."""
        output = self.output(file)
        found = read_record(sidecar_of(output), Sidecar)
        return found if found is not None and found.origin == origin and found.is_intact(output) else None

    def parts(self, file: Path) -> Path:
        """Return the folder of the parts of a long file, of any origin."""
        return self.folder / PARTS / file.stem

    def part(self, file: Path, origin: Origin, index: int) -> Path:
        """Return the file for the scores of one part; its name depends on the origin."""
        scores_of = (origin.input_bytes, origin.input_modified_ns, self.model_sha256, self.layout, self.rows_per_part)
        identity = hashlib.sha256(msgspec.json.encode(scores_of)).hexdigest()[:16]
        return self.parts(file) / identity / f"part-{index:06}.npy"


@dataclass(frozen=True)
class Outcome:
    """The outcome for one file: scored now or before, to be scored in parts first, or failed."""

    file: Path
    rows: int = 0
    is_new: bool = False
    parts: int = 0
    failure: str | None = None
    warnings: tuple[str, ...] = ()


def score_file(work: Work, file: Path, whole: bool = False) -> Outcome:
    """Score a file, unless it is finished, or is longer than one part and `whole` is false.

    Existing scores of parts are used. While another process writes the same output, this one waits. Raises only errors
    that would affect all other files too: OSError for a full disk, PartsError or ArtefactError for the model.
    """
    path, output = work.base / file, work.output(file)
    try:
        while True:
            origin = work.origin(file)
            if (found := work.finished(file, origin)) is not None:
                outcome = Outcome(file, found.rows)
                break
            with suppress(BlockingIOError):
                outcome = _score(work, file, origin, whole)
                break
            time.sleep(RETRY_S)
    except Exception as error:  # an error of any kind in one file must not stop the others
        failure = _reason(error).removeprefix(f"{path}: ")
        with suppress(BlockingIOError), atomic_write(failure_of(output)) as record:
            record.write_bytes(msgspec.json.encode(Failure(str(file), failure)) + b"\n")
        return Outcome(file, failure=failure)
    failure_of(output).unlink(missing_ok=True)
    return outcome


def score_part(work: Work, part: tuple[Path, int]) -> int:
    """Score a part (file, index) of a long file into its own file, unless it exists; return the number of events.

    On a failure return 0: `score_file` reads the same rows and reports the error. Raises as `score_file` does.
    """
    file, index = part
    try:
        path = work.part(file, work.origin(file), index)
        scorer = _scorer(work.model, work.model_sha256)
        with _collected_warnings(), open_events(work.base / file, work.layout) as events:
            start = index * work.rows_per_part
            stop = min(start + work.rows_per_part, len(events))
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                chunks = range(start, stop, ROWS_PER_CHUNK)
                chunks_features = (events.read_features(row, min(row + ROWS_PER_CHUNK, stop)) for row in chunks)
                write_part(path, np.concatenate([scorer.score(one.astype(np.float32)) for one in chunks_features]))
        return stop - start
    except Exception as error:
        _reason(error)
        return 0


def _score(work: Work, file: Path, origin: Origin, whole: bool) -> Outcome:
    """Write the output of a file and its sidecar, which is locked during the write."""
    started, output = time.perf_counter(), work.output(file)
    with _collected_warnings() as warnings, open_events(work.base / file, work.layout) as events:
        rows = len(events)
        if rows > work.rows_per_part and not whole:
            return Outcome(file, rows, parts=-(-rows // work.rows_per_part))
        with atomic_write(sidecar_of(output)) as sidecar:
            _write(work, file, origin, events)
            if work.origin(file) != origin:
                raise EventsError(f"{work.base / file}: was changed while it was read. Repeat the command.")
            said = [warning.removeprefix(f"{work.base / file}: ") for warning in warnings]
            record = Sidecar.of(output, file, origin, rows, time.perf_counter() - started, said)
            sidecar.write_bytes(msgspec.json.encode(record) + b"\n")
    if whole:
        shutil.rmtree(work.parts(file), ignore_errors=True)
    return Outcome(file, rows, is_new=True, warnings=tuple(said))


def _write(work: Work, file: Path, origin: Origin, events: EventsFile) -> None:
    scorer, write = _scorer(work.model, work.model_sha256), writer_of(Path(work.ending))
    assert write is not None

    @lru_cache(maxsize=1)
    def scores_of(part: int) -> NDArray[np.float32] | None:
        start = part * work.rows_per_part
        try:
            return read_part(work.part(file, origin, part), min(work.rows_per_part, len(events) - start))
        except (FileNotFoundError, PartsError):  # missing, or damaged
            return None

    def score(start: int, features: NDArray[Any]) -> NDArray[np.float32]:
        part, first = divmod(start, work.rows_per_part)
        scores = scores_of(part)
        if scores is None:
            return scorer.score(features.astype(np.float32))
        return scores[first : first + len(features)]

    point = None if work.working_point is None else threshold(scorer.artefact, work.working_point)
    identity, reference = scorer.artefact.identity, scorer.artefact.metadata.reference
    output = work.output(file)
    write_scored(score, identity, events, output, write, work.model_column, point, reference, progress=False)


@lru_cache(maxsize=1)
def _scorer(model: Path, sha256: str) -> Scorer:
    """Return the scorer of this process. Raises PartsError when the model file has been replaced."""
    scorer = open_scorer(model)
    if scorer.artefact.sha256 != sha256:
        raise PartsError(
            f"{model} was replaced while it was in use, by {scorer.artefact.identity}: repeat the command to score all "
            "files with that"
        )
    return scorer


def _reason(error: Exception) -> str:
    """Return the reason why a file fails; re-raise errors that would affect other files as well."""
    if isinstance(error, PartsError | ArtefactError) or (isinstance(error, OSError) and error.errno in NO_SPACE):
        raise error
    if isinstance(error, OSError):
        return explained(error)
    return str(error) if isinstance(error, TrainingError) else f"{type(error).__name__}: {error}"


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """Collect the log messages of this thread for the sidecar, because thousands of files may log the same message.

    A process without another log handler does not print them.
    """
    collected: list[str] = []
    logger, handler, thread = logging.getLogger("training"), logging.Handler(), threading.get_ident()
    handler.addFilter(lambda record: record.thread == thread)
    handler.emit = lambda record: collected.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield collected
    finally:
        logger.removeHandler(handler)

"""Scoring of many events files into a folder, on any engine, and the manifest of the folder."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from training.errors import EventsError, PartsError, explained
from training.files import atomic_write
from training.jobs.engines.engine import Engine, Workers
from training.jobs.engines.local import require_main_guard
from training.jobs.file_scoring import PARTS, RETRY_S, Outcome, Work, score_file, score_part
from training.jobs.pool import compute
from training.jobs.sidecars import FOLDER, Failure, Sidecar, failure_of, read_record, sidecar_of
from training.progress import Progress

MANIFEST = "_manifest.json"
SCORED, FAILED = "scored", "failed"  # outcomes

_log = logging.getLogger(__name__)


def score_files(work: Work, files: Sequence[Path], engine: Engine) -> dict[Path, str]:
    """Score each unfinished file, with a progress bar in events; return the failed files and the reasons.

    The files must have different stems. Finished files are always kept. Raises PartsError when a process is killed or
    the model is replaced, PoolError as the engine does, OSError when the disk is full.
    """
    require_main_guard()
    (work.folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with _progress(work, len(files)) as progress, _started(engine) as workers:
        for outcome in compute(partial(score_file, work), files, workers):
            progress.add(outcome)
        parts = ((outcome.file, index) for outcome in progress.long for index in range(outcome.parts))
        for rows in compute(partial(score_part, work), parts, workers):
            progress.bar.update(rows)
        for outcome in compute(partial(score_file, work, whole=True), [one.file for one in progress.long], workers):
            progress.end(outcome)
    with suppress(OSError):  # the folder is missing, or has parts of a failed file
        (work.folder / PARTS).rmdir()
    return progress.failures


class _Progress:
    """A progress bar of events; their total number is estimated from the files read so far."""

    def __init__(self, work: Work, files: int, bar: Any) -> None:
        self._work, self._files, self.bar = work, files, bar
        self._warnings: set[str] = set()
        self.long: list[Outcome] = []
        self.failures: dict[Path, str] = {}
        self._seen = self._rows = self._ended = 0

    def add(self, outcome: Outcome) -> None:
        """Count a file with its events, or as a file with parts to score first."""
        self._seen, self._rows = self._seen + 1, self._rows + outcome.rows
        self.bar.total = round(self._rows / self._seen * self._files)
        if outcome.parts:
            self.long.append(outcome)
            return
        if outcome.is_new:
            self.bar.update(outcome.rows)
        else:  # does not count for the rate
            for count in ("initial", "n", "last_print_n"):
                setattr(self.bar, count, getattr(self.bar, count) + outcome.rows)
        self.end(outcome)

    def end(self, outcome: Outcome) -> None:
        """Count a file as done or failed, and log each warning the first time it occurs."""
        self._ended += 1
        for warning in outcome.warnings:
            said = warning.replace(str(self._work.output(outcome.file)), "")
            if said not in self._warnings:
                self._warnings.add(said)
                _log.warning("%s: %s (the first such file)", outcome.file, warning)
        if outcome.failure is not None:
            self.failures[outcome.file] = outcome.failure
        failed = f", {len(self.failures)} failed" if self.failures else ""
        self.bar.set_postfix_str(f"{self._ended}/{self._files} files{failed}", refresh=False)


@contextmanager
def _progress(work: Work, files: int) -> Iterator[_Progress]:
    with Progress(unit=" events", unit_scale=True, smoothing=0.05) as bar:
        yield _Progress(work, files, bar)


@contextmanager
def _started(engine: Engine) -> Iterator[Workers]:
    try:
        with engine.start() as workers:
            yield workers
    except BrokenProcessPool as error:
        raise PartsError(
            "A process was killed while it scored a file, perhaps because memory ran out; what is finished is kept. "
            "Repeat the same command to continue, with fewer --processes if it happens again."
        ) from error


def write_manifest(work: Work, files: Sequence[Path], facts: Mapping[str, Any]) -> dict[Path, str]:
    """Check the output of each file, write the folder's manifest, and return the files not scored and the reasons.

    The manifest is JSON with `facts` and one line for each file, in the given order. While another process writes it,
    this one waits.
    """
    work.folder.mkdir(parents=True, exist_ok=True)
    _warn_of_other_outputs(work, files)
    while True:
        with suppress(BlockingIOError):
            return _write_manifest(work, files, facts)
        time.sleep(RETRY_S)


def _warn_of_other_outputs(work: Work, files: Sequence[Path]) -> None:
    """Warn of other outputs in the folder, such as that of a renamed file, whose events would be counted twice."""
    outputs = {work.output(file).name for file in files}
    if others := sorted(path for path in work.folder.glob("[!._]*") if path.name not in outputs):
        which = f"{others[0]} is" if len(others) == 1 else f"{others[0]} and {len(others) - 1:,} more are"
        _log.warning("%s of none of these files, and readers of the folder read that too: remove it", which)


def _write_manifest(work: Work, files: Sequence[Path], facts: Mapping[str, Any]) -> dict[Path, str]:
    failures: dict[Path, str] = {}
    with atomic_write(work.folder / MANIFEST) as path, path.open("w", encoding="utf-8") as manifest:
        manifest.write("{\n" + "".join(f'  "{name}": {json.dumps(value)},\n' for name, value in facts.items()))
        manifest.write('  "files": [\n')
        rows, separator = 0, ""
        for file in files:
            found = _checked(work, file)
            if isinstance(found, str):
                failures[file] = found
                entry = {"input": str(file), "outcome": FAILED, "reason": found}
            else:
                rows += found.rows
                entry = _entry(file, found)
            manifest.write(f"{separator}    {json.dumps(entry)}")
            separator = ",\n"
        counts = {SCORED: len(files) - len(failures), FAILED: len(failures), "events": rows}
        manifest.write("\n  ]" + "".join(f',\n  "{name}": {count}' for name, count in counts.items()) + "\n}\n")
    return failures


def _checked(work: Work, file: Path) -> Sidecar | str:
    """Return the sidecar of a finished file, or the reason why the file is not finished."""
    output = work.output(file)
    try:
        origin = work.origin(file)
    except (EventsError, OSError) as error:
        reason = explained(error) if isinstance(error, OSError) else str(error)
        return reason.removeprefix(f"{work.base / file}: ")
    if (finished := work.finished(file, origin)) is not None:
        return finished
    if (failure := read_record(failure_of(output), Failure)) is not None:
        return failure.reason
    if (sidecar := read_record(sidecar_of(output), Sidecar)) is None:
        return "not scored yet"
    if sidecar.origin != origin:
        return origin.difference(sidecar.origin)
    return f"its output {output.name} is missing, or not as it was written"


def _entry(file: Path, sidecar: Sidecar) -> dict[str, Any]:
    """Return the manifest entry of a file."""
    entry = {
        "input": str(file),
        "outcome": SCORED,
        "rows": sidecar.rows,
        "output": sidecar.output,
        "sha256": sidecar.output_sha256,
        "input_bytes": sidecar.origin.input_bytes,
        "input_modified_ns": sidecar.origin.input_modified_ns,
        "seconds": sidecar.seconds,
    }
    return {**entry, "warnings": sidecar.warnings} if sidecar.warnings else entry

"""Many files scored into a folder by one process, by all cores and by engines, with outputs of the same bytes."""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from benchmarks.report import machine
from benchmarks.report.markdown import number, table
from benchmarks.targets.processes import family, peak_mb
from training.events.events import Events, read_events, write_events
from training.files import sha256_of

SAMPLE = Path("exported/sample.h5")
WAYS = {"one process": ["--processes", "1"], "processes on all cores": []}
"""Options of `score` by what the table calls them; the first is what the others are compared with."""
INTERVAL_S = 0.1


class Run(NamedTuple):
    """What it took to score some files, and the digests of the outputs."""

    seconds: float
    driver_mb: float  # the process that was started
    all_mb: float  # and all that it started
    digests: list[str]


def run(model: str, files: int, events: int) -> str:
    """Score so many files of so many events each way, and give a table; raises RuntimeError where outputs differ."""
    facts = machine.provenance()
    with TemporaryDirectory(prefix="scale-") as temporary:
        folder = Path(temporary)
        _make(folder / "one-event-a-core", os.cpu_count() or 1, 1)
        _make(folder / "events", files, events)
        started = {name: _score(folder / "one-event-a-core", model, options) for name, options in WAYS.items()}
        runs = {name: _score(folder / "events", model, options) for name, options in WAYS.items()}
    reference, *others = runs.values()
    if any(one.digests != reference.digests for one in others):
        raise RuntimeError(f"the outputs of {', '.join(WAYS)} differ, expected the same bytes")
    rates = {name: files * events / (runs[name].seconds - started[name].seconds) for name in WAYS}
    first = next(iter(rates.values()))
    cells = [
        (started[name].seconds, runs[name].seconds, rates[name], rates[name] / first, *runs[name][1:3]) for name in WAYS
    ]
    head = ["way", "start-up s", "all s", "events/s after start-up", "over one process", "driver MB", "all MB"]
    rows = [[name, *map(number, row)] for name, row in zip(WAYS, cells, strict=True)]
    return (
        f"{files:,} files of {events:,} events on {facts['machine'].cores} cores, commit {facts['commit'][:10]}; "
        f"start-up is a run over one event for each core.\n\n{table(head, rows, 'lrrrrrr')}"
    )


def _make(folder: Path, files: int, events: int) -> None:
    """Write a file of the sample's events, repeated with other numbers each time, and give it so many names."""
    folder.mkdir()
    sample = read_events(SAMPLE)
    turn, row = np.divmod(np.arange(events), len(sample))
    repeated = sample[row]
    scaled = repeated.features * (1 + 1e-6 * turn.astype(np.float32))[:, None]  # equal numbers would be compressed
    first = folder / "events-0.h5"
    write_events(first, Events(scaled, repeated.labels))
    for index in range(1, files):
        (folder / f"events-{index}.h5").hardlink_to(first)


def _score(events: Path, model: str, options: list[str]) -> Run:
    """Score a folder of files in a process of its own; raises RuntimeError when that fails."""
    command = [sys.executable, "-m", "training", "score", f"{events}/*.h5", "--model", model, *options]
    with TemporaryDirectory(prefix="scored-", dir=events.parent) as out, Path(out, "log").open("w+") as log:
        begun = time.perf_counter()
        driver_mb = all_mb = 0.0
        with subprocess.Popen([*command, "--out", f"{out}/"], stdout=log, stderr=log) as started:
            while started.poll() is None:
                driver_mb, all_mb = max(driver_mb, peak_mb([started.pid])), max(all_mb, peak_mb(family(started.pid)))
                time.sleep(INTERVAL_S)
        seconds = time.perf_counter() - begun
        if started.returncode:
            log.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with status {started.returncode}: {log.read()[-1000:]}")
        return Run(seconds, driver_mb, all_mb, [sha256_of(output) for output in sorted(Path(out).glob("*.parquet"))])

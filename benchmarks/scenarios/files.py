"""Scoring of many files into a folder by one process, all cores and engines, with identical outputs."""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from benchmarks.peers.environment import installed_versions
from benchmarks.report import machine
from benchmarks.report.measurements import FilesRun
from benchmarks.report.results import ALL_CORES, DASK, ONE_PROCESS, RAY, Files
from benchmarks.scenarios.cases import each_round
from benchmarks.targets.processes import family, peak_mb
from training.evaluation.model import open_scorer
from training.events.events import Events, read_events, write_events
from training.files import sha256_of

SAMPLE = Path("exported/sample.h5")
ENGINES = Path("build/engines/bin/python").absolute()
WAYS = {
    ONE_PROCESS: (Path(sys.executable), ["--processes", "1"]),
    ALL_CORES: (Path(sys.executable), []),
    DASK: (ENGINES, ["--engine", "dask"]),
    RAY: (ENGINES, ["--engine", "ray"]),
}
"""An interpreter and options of `score` for each way."""
INTERVAL_S = 0.1


class Run(NamedTuple):
    """The resources used to score some files, and the digests of the outputs."""

    seconds: float
    driver_mb: float  # the process that was started
    all_mb: float  # and all that it started
    digests: list[str]


def run(model: str, files: int, events: int, rounds: int) -> Files:
    """Score so many files of so many events in each way, in alternation; raises RuntimeError where outputs differ."""
    provenance = machine.provenance()
    if not ENGINES.exists():
        raise RuntimeError(f"{ENGINES} is missing; install Dask and Ray first: make build/engines/ready")
    provenance["versions"] |= installed_versions(ENGINES, ["distributed", "ray"])
    found: dict[str, list[FilesRun]] = {way: [] for way in WAYS}
    digests = set()
    with TemporaryDirectory(prefix="files-") as temporary:
        folder = Path(temporary)
        _make(folder / "one-event-a-core", os.cpu_count() or 1, 1)
        _make(folder / "events", files, events)
        for _ in each_round(rounds):
            for way, (python, options) in WAYS.items():
                started = _score(python, folder / "one-event-a-core", model, options)
                one = _score(python, folder / "events", model, options)
                found[way].append(FilesRun(started.seconds, one.seconds, one.driver_mb, one.all_mb))
                digests.add(tuple(one.digests))
    if len(digests) > 1:
        raise RuntimeError(f"the outputs of {', '.join(WAYS)} differ, expected the same bytes")
    identity = open_scorer(model).artefact.identity
    return Files(**provenance, model=identity, files=files, events=events, ways=found)


def _make(folder: Path, files: int, events: int) -> None:
    """Write a file of the sample's events, repeated with other numbers each time, and give it so many names."""
    folder.mkdir()
    sample = read_events(SAMPLE)
    turn, row = np.divmod(np.arange(events), len(sample))
    repeated = sample[row]
    # Equal numbers would be compressed too well.
    scaled = repeated.features * (1 + 1e-6 * turn.astype(np.float32))[:, None]
    first = folder / "events-0.h5"
    write_events(first, Events(scaled, repeated.labels))
    for index in range(1, files):
        (folder / f"events-{index}.h5").hardlink_to(first)


def _score(python: Path, events: Path, model: str, options: list[str]) -> Run:
    """Score a folder of files in a process of its own; raises RuntimeError when that fails."""
    command = [str(python), "-m", "training", "score", f"{events}/*.h5", "--model", model, *options]
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
